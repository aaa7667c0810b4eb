#!/usr/bin/env bash
# Makes .nettailor/gpu-bundle/: what shows on a machine with a GPU that all of this works there, and how fast. That machine
# needs a Python with torch 2.11.0 (CUDA 13.0) and nothing else: no Rust, no network. There: ./check.sh
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BUNDLE=.nettailor/gpu-bundle
readonly MOST_KB=60000

rm -rf "$BUNDLE" "$BUNDLE.tmp"
payload=$BUNDLE.tmp/payload
mkdir -p "$payload/"{bin,bench,data}

for program in nettailor-cli nettailor-trainer examples/bench_train; do
    strip -o "$payload/bin/${program##*/}" "target/release/$program"
done
cp scripts/bench/{programs,eager,gpu}.py "$payload/bench/"
cp .data/backbones/efficientnet_lite0.pth "$payload/data/"
cp -r .data/digits "$payload/data/"
# The demo's first task: the other one's images would not fit in.
python3 - "$payload/tasks.yaml" <<'PY'
import pathlib, sys

text = pathlib.Path("examples/digits/tasks.yaml").read_text()
text = text[: text.index("  - name: mnist5k")].replace("../../.data/backbones/", "data/").replace("../../.data/", "data/")
pathlib.Path(sys.argv[1]).write_text(text)
PY
tar -C "$BUNDLE.tmp" -czf "$BUNDLE.tmp/payload.tar.gz" payload
rm -rf "$payload"
cp scripts/gpu_check.sh "$BUNDLE.tmp/check.sh"
mv "$BUNDLE.tmp" "$BUNDLE"

kb=$(du -sk "$BUNDLE" | cut -f1)
((kb < MOST_KB)) || { echo "gpu-bundle: $kb kB are more than $MOST_KB" >&2; exit 1; }
echo "gpu-bundle: $BUNDLE, $kb kB; run its check.sh on a machine with a GPU" >&2
