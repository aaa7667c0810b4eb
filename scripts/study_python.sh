#!/usr/bin/env bash
# Leaves a Python with the packages of examples/study/requirements.txt at .tools/study-python/bin/python. Nothing of the
# machine's own Python changes. It is complete when it has a copy of the list, and is made anew when the list changes.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LIST=examples/study/requirements.txt DEST=.tools/study-python
cmp --silent "$LIST" "$DEST/requirements.txt" && exit 0

# Without pip in it, which Debian's Python could not give it; the machine's pip installs into it.
python3 -m venv --without-pip --clear "$DEST"
python3 -m pip --python "$DEST/bin/python" install --quiet --no-cache-dir --disable-pip-version-check \
    --only-binary=:all: --requirement "$LIST" >&2 || {
    echo "study: could not install $LIST. Check that 'python3 -m pip download pillow' can reach a package index" >&2
    exit 1
}
cp "$LIST" "$DEST/requirements.txt"
printf 'study: ready: %s\n' "$DEST" >&2
