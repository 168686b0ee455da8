#!/usr/bin/env bash
# Runs a command with io_uring denied by a seccomp filter, as many containers do:
#   scripts/without-uring.sh cargo test
set -euo pipefail
manifest=$(dirname "$0")/../Cargo.toml
exec cargo run --quiet --manifest-path "$manifest" --package isotherm --example without_uring -- "$@"
