#!/usr/bin/env bash
# Installs what is missing, and nothing else: a second run takes well under a second.
#
#   scripts/setup.sh          everything
#   scripts/setup.sh build    only what `cargo build` needs: compiler, libtorch
#   scripts/setup.sh test     what tests need besides: `ip`, by which they cut networks
#   scripts/setup.sh lint     only what `make lint` needs: rustfmt, clippy, cargo-deny
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_DENY=0.20.2

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Debian packages, as root.
install() { # PACKAGE...
    command -v apt-get >/dev/null || die "please install what Debian calls: $*"
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "please install, as root: apt-get install $*"
        as_root=(sudo)
    fi
    say "installing $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$@" >/dev/null ||
        die "apt-get could not install: $*"
}

# Each with the thing that shows it is there (so other systems may bring it in their own way).
system_packages() {
    local missing=()
    command -v g++ >/dev/null || missing+=(g++)                              # torch-sys is C++
    # libtorch's own headers of gloo include gloo's.
    echo '#include <gloo/context.h>' | g++ -E -x c++ - >/dev/null 2>&1 || missing+=(libgloo-dev)
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3 python3-pip) # fetches the wheels; not used at run time
    ((${#missing[@]})) || return 0
    install "${missing[@]}"
}

rust_component() { # NAME SUBCOMMAND
    cargo "$2" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || die "cargo $2 is missing and there is no rustup; install the component $1"
    rustup component add "$1"
}

# Built without optimisation: under a minute on two cores, and it runs for a second or two.
cargo_deny() {
    [[ $(.tools/bin/cargo-deny --version 2>/dev/null) != "cargo-deny $CARGO_DENY" ]] || return 0
    say "building cargo-deny $CARGO_DENY into .tools/"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=.tools/target \
        cargo install cargo-deny --version "$CARGO_DENY" --locked --debug --force --quiet --root .tools
    rm -rf .tools/target
}

command -v cargo >/dev/null || die "cargo is missing; install Rust (see rust-version in Cargo.toml) and run this again"
(($#)) || set -- build test lint
for part in "$@"; do
    case $part in
    build)
        system_packages
        scripts/libtorch.sh
        ;;
    test)
        command -v ip >/dev/null || install iproute2
        ;;
    lint)
        rust_component rustfmt fmt
        rust_component clippy clippy
        cargo_deny
        ;;
    *) die "there is no part '$part'; the parts are: build, test, lint" ;;
    esac
done
