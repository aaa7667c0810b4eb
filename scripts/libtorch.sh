#!/usr/bin/env bash
# Makes .libtorch/: the C++ half of PyTorch, as tch expects to find it, taken from the published wheels.
#
#   scripts/libtorch.sh          the CPU libraries (about 530 MB downloaded, 450 MB kept)
#
# Nothing of Python is kept and nothing downloaded is run. If LIBTORCH is set, that installation is used as it is
# and only its version is checked. The folder appears by one rename, so it is either complete or absent.
set -euo pipefail

readonly TORCH=2.11.0
# Each entry is one wheel; libtorch_cpu.so links the two nvidia libraries even where there is no GPU.
readonly WHEELS=("torch==$TORCH" "nvidia-cuda-runtime==13.0.96" "nvidia-cuda-cupti==13.0.85")
# The wheels' platform tags, spelled out so that the local Python and C library do not matter.
readonly PLATFORMS=(--platform=manylinux_2_28_x86_64 --platform=manylinux_2_25_x86_64 --platform=manylinux2014_x86_64)
# Raise the last number when what is unpacked changes: an older .libtorch/ is then made anew.
readonly RECIPE="torch $TORCH cpu 1"

say() { printf 'libtorch: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

root=$(cd "$(dirname "$0")/.." && pwd)
dest=$root/.libtorch

# Set but empty counts as set: the build would take it as it is.
if [[ -n ${LIBTORCH+set} && ! $LIBTORCH -ef $dest ]]; then
    reject() { die "LIBTORCH='$LIBTORCH' $1; give the absolute path of an unpacked libtorch $TORCH, or unset it to let this script make .libtorch/"; }
    [[ $LIBTORCH == /* ]] || reject "is not an absolute path"
    for part in build-version include/torch lib/libtorch_cpu.so; do
        [[ -e $LIBTORCH/$part ]] || reject "has no $part"
    done
    found=$(cat "$LIBTORCH/build-version")
    [[ ${found%%+*} == "$TORCH" ]] || reject "is version $found"
    exit 0
fi
[[ $(cat "$dest/recipe" 2>/dev/null) != "$RECIPE" ]] || exit 0

[[ $(uname -sm) == "Linux x86_64" ]] || die "only Linux x86_64 wheels are known here; set LIBTORCH to a libtorch $TORCH of your own"
for tool in python3 cc; do
    command -v "$tool" >/dev/null || die "$tool is missing; install it and run this again"
done

# Beside the destination: same file system, so the final rename is atomic and /tmp need not hold a gigabyte.
tmp=$(mktemp -d "$root/.libtorch.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/wheels" "$tmp/out/lib"

for wheel in "${WHEELS[@]}"; do
    say "downloading $wheel"
    python3 -m pip download "$wheel" --quiet --no-deps --no-cache-dir --dest "$tmp/wheels" --only-binary=:all: \
        --implementation cp --python-version 3.12 --abi cp312 --abi none \
        "${PLATFORMS[@]}" >&2 ||
        die "could not download $wheel (Linux x86_64 wheel). Check that 'python3 -m pip download $wheel --no-deps' can" \
            "reach a package index and that $root has 2 GB free, then run this again; or set LIBTORCH to a libtorch $TORCH"
done

say "unpacking"
python3 - "$tmp/wheels" "$tmp/out" <<'PY'
import pathlib, shutil, sys, zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
missing = set(LIBRARIES)
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = pathlib.PurePosixPath(info.filename)
            if info.is_dir() or ".." in path.parts:
                continue
            if path.name in missing:
                target = out / "lib" / path.name
                missing.discard(path.name)
            elif path.parts[:2] == ("torch", "include"):
                target = out.joinpath(*path.parts[1:])
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
if missing:
    sys.exit(f"libtorch: the wheels do not hold {', '.join(sorted(missing))}; the pinned versions no longer fit together")
PY

# torch-sys links -ltorch, which in a wheel is an empty library depending on the others. This one is the CPU's.
echo | cc -shared -x c - -o "$tmp/out/lib/libtorch.so" -Wl,-soname,libtorch.so -Wl,--no-as-needed \
    -L"$tmp/out/lib" -ltorch_cpu -lc10 -Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined

echo "$TORCH" >"$tmp/out/build-version"
echo "$RECIPE" >"$tmp/out/recipe"
rm -rf "$dest"
mv -T "$tmp/out" "$dest"
say "ready: $dest ($(du -sh "$dest" | cut -f1))"
