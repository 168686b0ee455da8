#!/usr/bin/env bash
# Runs in Miri the unit tests of the rooms with unsafe code that it can run: the DRAM tier, buffers, what
# waits and counts beside them, and the handles of the C interface. Ends with 77 where Miri is missing.
set -uo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo 'NOT CHECKED BY MIRI: it is missing, get it with:' \
        'rustup toolchain install nightly --component miri,rust-src'
    exit 77
fi

# The clock and the seeds of hashes are the host's.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows ${MIRIFLAGS:-}"
engine=(tier::dram io::buffer io::wait gate::)
state=0
cargo +nightly miri test --package isotherm --no-default-features --lib -- "${engine[@]}" || state=1
cargo +nightly miri test --package isotherm-ffi --no-default-features --lib -- handle:: || state=1
exit $state
