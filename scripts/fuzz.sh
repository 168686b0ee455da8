#!/usr/bin/env bash
# Runs each of the fuzzer's targets, or those that are named, for ISOTHERM_FUZZ_SECONDS (600) seconds
# from the committed inputs on. Prints executions and coverage of each; ends badly after a finding,
# whose input then lies in engine/fuzz/artifacts. What a run learns is kept below the target directory
# for the next one. Ends with 77 where the tools are missing.
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=${ISOTHERM_FUZZ_SECONDS:-600}
learnt=${CARGO_TARGET_DIR:-target}/fuzz-corpus

missing() {
    echo "NOT FUZZED: $1 is missing, get it with: $2"
    exit 77
}
cargo +nightly --version >/dev/null 2>&1 || missing 'a nightly toolchain' 'rustup toolchain install nightly'
cargo fuzz --version >/dev/null 2>&1 || missing cargo-fuzz 'cargo install cargo-fuzz --locked'

[ $# -gt 0 ] || set -- log_batch checkpoint superblock config open
state=0
for name in "$@"; do
    mkdir -p "$learnt/$name"
    log=$learnt/$name.log
    sanitizer=address
    options=()
    if [ "$name" = open ]; then
        # Ten times as many without; a few patches at a time.
        sanitizer=none
        options=(-max_len=96 -len_control=0)
    fi
    build=(--fuzz-dir engine/fuzz --sanitizer "$sanitizer" "$name")
    if ! cargo +nightly fuzz build "${build[@]}"; then
        state=1
        continue
    fi
    cargo +nightly fuzz run "${build[@]}" "$learnt/$name" "engine/fuzz/inputs/$name" -- \
        -max_total_time="$seconds" -timeout=20 -print_final_stats=1 -close_fd_mask=1 \
        "${options[@]}" >"$log" 2>&1 || { state=1; tail -n 60 "$log"; }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1)
    echo "test result: $name: $executions executions, $coverage"
done
exit $state
