#!/usr/bin/env bash
# Stores a real tree and a checkpoint of several GiB in three tiers, kills the writer, reopens,
# verifies every byte by hash, and measures each tier beside fio. DIR=... stores another tree.
# DEMO_BUILD_FLAGS go to cargo build, such as --no-default-features.
set -euo pipefail
cd "$(dirname "$0")/.."

# Absolute, because the demo is started from here whatever DIR was relative to.
if [ -n "${DIR:-}" ]; then
    trees=(--tree "$(realpath -e "$DIR")")
else
    sysroot=$(rustc --print sysroot)
    trees=(--tree "$sysroot/lib")
    [ -d "$sysroot/share" ] && trees+=(--tree "$sysroot/share")
fi

echo "== Build (release)"
# shellcheck disable=SC2086 # several flags are several words
cargo build --release --package isotherm-cli ${DEMO_BUILD_FLAGS:-}
programs=${CARGO_TARGET_DIR:-target}/release

mkdir -p target
work=$(mktemp -d target/demo.XXXXXX)
trap 'rm -rf "$work"' EXIT
# Ctrl-C and kill end through the trap above; the demo's own child dies with its terminal.
trap 'exit 130' INT
trap 'exit 143' TERM

"$programs/isotherm-demo" --work "$PWD/$work" "${trees[@]}"
