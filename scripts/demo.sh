#!/usr/bin/env bash
# Tailors the two example tasks on this machine, from an empty state, and leaves one picture per task.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly STATE=.nettailor/demo
rm -rf "$STATE"
# Two trainers with one thread each get more done on two cores than one with two.
target/release/nettailor-cli run examples/digits/tasks.yaml --workers 2 --state "$STATE" --svg-dir "$STATE/pictures"
echo "pictures of the tailored networks: $STATE/pictures/*.svg" >&2
