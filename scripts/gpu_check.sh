#!/usr/bin/env bash
# Of the GPU bundle: checks on this machine that the student's step on the GPU is the CPU's, that NCCL conforms, how fast steps
# are beside a plain PyTorch program, and that the demo runs. Prints a report; the exit status says whether all of it passed.
#
#   ./check.sh [FOLDER]     FOLDER, ./out by default, is for what it unpacks and leaves
#   PYTHON=...              a Python with torch 2.11.0 (CUDA 13.0), python3 by default
#   CHECK_ON_CPU=1          goes on without a GPU: shows that the bundle itself is whole
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-out}
python=${PYTHON:-python3}

mkdir -p "$out"
out=$(cd "$out" && pwd)
tar -C "$out" -xzf "$here/payload.tar.gz"
cd "$out/payload"

# Folders of libraries: torch's own, then those of the nvidia packages beside it.
libraries=$("$python" - <<'PY'
import pathlib, torch

torch_lib = pathlib.Path(torch.__file__).parent / "lib"
nvidia = pathlib.Path(torch.__file__).parents[1] / "nvidia"
print(":".join(map(str, [torch_lib, *sorted({file.parent for file in nvidia.rglob("*.so*")})])))
PY
) || { echo "check: $python has no torch; set PYTHON" >&2; exit 2; }
# Programs ask for libnccl.so; the packages call it libnccl.so.2.
mkdir -p links
nccl=$(tr : '\n' <<<"$libraries" | while read -r folder; do ls "$folder"/libnccl.so.2 2>/dev/null || true; done | head -n 1)
[[ -z $nccl ]] || ln -sf "$nccl" links/libnccl.so
export LD_LIBRARY_PATH="$PWD/links:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export BENCH_TRAIN=$PWD/bin/bench_train

gpu=1
"$python" - <<'PY' || gpu=
import platform, sys, torch

found = torch.cuda.is_available()
gpu = torch.cuda.get_device_name(0) if found else "no GPU"
print(f"torch {torch.__version__}, {gpu}, {platform.platform()}")
sys.exit(not found)
PY
if [[ -z $gpu && -z ${CHECK_ON_CPU:-} ]]; then
    echo "check: torch sees no GPU here" >&2
    exit 2
fi

quick=() place=gpu
[[ -n $gpu ]] || { quick=(--quick); place=any; }
threads=$(nproc)
failed=()
part() { # NAME COMMAND...
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then echo "passed: $name"; else echo "FAILED: $name"; failed+=("$name"); fi
}

part "parity of the student's step, CPU and GPU, fp32" env NVIDIA_TF32_OVERRIDE=0 bin/bench_train parity "$place" 64 8 "$threads"
if [[ -n $gpu ]]; then
    part "conformance of NCCL, one rank" bin/bench_train nccl
fi
demo() {
    rm -rf state
    bin/nettailor-cli run tasks.yaml --workers 1 --state state || return
    # Trainers say what they compute on.
    [[ $place == any ]] || grep -rqa 'on Cuda(0)' state/logs || { echo "the trainers did not find the GPU"; return 1; }
}
part "the demo: one task tailored" demo
part "throughput of steps beside PyTorch eager" "$python" bench/gpu.py ${quick[@]+"${quick[@]}"}

printf '\n'
if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all parts passed"
