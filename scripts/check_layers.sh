#!/usr/bin/env bash
# Keeps the lines between crates that ARCHITECTURE.md draws, and files short enough to read in one go.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly MAX_LINES=500
failures=0
fail() { printf 'check_layers: %s\n' "$*" >&2; failures=$((failures + 1)); }

# Every package a crate is built from, one name a line (the crate itself first). Tests may use what they like.
tree() { cargo tree --locked --edges normal,build --prefix none --format '{p}' "$@" | cut -d' ' -f1 | sort -u; }

# The crates of this workspace that are built from DEPENDENCY must be among those named.
only() { # DEPENDENCY ALLOWED_CRATE...
    local dependency=$1 users crate
    shift
    users=$(tree --workspace --invert "$dependency") || fail "nothing is built from $dependency any more; correct this script"
    for crate in $users; do
        [[ $crate != nettailor-* || " $* " == *" $crate "* ]] || fail "$crate is built from $dependency; only $* may be"
    done
}

# CRATE must not be built from any of the packages named.
without() { # CRATE PACKAGE...
    local crate=$1 packages package
    shift
    packages=$(tree --package "$crate")
    for package; do
        ! grep -qx "$package" <<<"$packages" || fail "$crate is built from $package"
    done
}

# libtorch stays in the process that trains: a crash there costs one attempt, and everything else starts in milliseconds.
only torch-sys nettailor-trainer nettailor-collective
# The vocabulary and the state machine do no input or output, and know no clock and no chance.
without nettailor-domain tokio tonic prost object_store sled rand
without nettailor-scheduler tokio tonic prost object_store sled rand chrono
without nettailor-engine tokio tonic prost object_store sled rand chrono
# Simulated histories can be replayed: what runs in them is the same.
without nettailor-simulation tokio tonic sled
# Pictures in, pixels out.
without nettailor-images tokio object_store tar
# The load simulator speaks the protocol from outside: what it measures is in another process.
without nettailor-load nettailor-coordinator nettailor-worker sled object_store
# Only the coordinator opens the state directory.
only sled nettailor-coordinator nettailor-cli nettailor-tests

# A long file says in its first lines why it is not two.
while IFS= read -r file; do
    [[ -f $file ]] || continue
    lines=$(wc -l <"$file")
    if ((lines > MAX_LINES)) && ! head -n 5 "$file" | grep -q '^// Long because: '; then
        fail "$file has $lines lines; split it, or begin it with '// Long because: ...' (limit $MAX_LINES)"
    fi
done < <(git ls-files --cached --others --exclude-standard '*.rs')

((failures == 0))
