#!/usr/bin/env bash
# Every check that a change must pass. Prints each stage's closing lines and its seconds; a failed
# stage prints all it said. `--full` runs the behaviour tests once more, in release, and what takes
# long: ISOTHERM_FUZZ_SECONDS (600) are for each of the fuzzer's targets.
set -uo pipefail
cd "$(dirname "$0")/.."

full=false
[ "${1:-}" = --full ] && full=true

logs=${CARGO_TARGET_DIR:-target}/test-logs
mkdir -p "$logs"
failed=()
not_run=()
summary=()

# stage NAME COMMAND...: runs it, notes the time, goes on after a failure. A command that ends with 77
# lacks a tool, and has said which.
stage() {
    local name=$1 log="$logs/$1.log" start=$SECONDS state=ok
    shift
    echo "== $name: $*"
    "$@" >"$log" 2>&1
    case $? in
        0) ;;
        77)
            state='NOT RUN'
            not_run+=("$name")
            ;;
        *)
            state=FAILED
            failed+=("$name")
            cat "$log"
            ;;
    esac
    closing_lines "$log"
    summary+=("$(printf '%-20s %5d s  %s' "$name" $((SECONDS - start)) "$state")")
}

# The runners' own totals; where a stage has none, its last line.
closing_lines() {
    grep -E '^(test result:|Ran [0-9]+ tests? in |OK$|OK \(|FAILED \()' "$1" || tail -n 1 "$1"
}

stage format cargo fmt --all --check
stage build cargo build --workspace --all-targets
stage clippy cargo clippy --workspace --all-targets -- -D warnings
stage clippy-no-glommio cargo clippy --workspace --all-targets --no-default-features -- -D warnings
stage unit cargo test --workspace --no-fail-fast --lib --bins
stage documentation cargo test --workspace --doc
# Cargo takes it for an error when there is none.
if compgen -G '*/tests/*.rs' >/dev/null || compgen -G '*/*/tests/*.rs' >/dev/null; then
    stage behaviour cargo test --workspace --no-fail-fast --test '*'
    # The same tests where io_uring is forbidden; the long ones in short. The simulator never uses it, and
    # what attacks file systems is busy with those.
    stage without-uring env ISOTHERM_MODEL_OPS=60000 ISOTHERM_KILLS=10 ISOTHERM_C_KILLS=20 \
        scripts/without-uring.sh cargo test --workspace --exclude isotherm-sim \
        --exclude isotherm-faults --no-fail-fast --lib --test '*'
    $full && stage release cargo test --release --workspace --no-fail-fast --test '*'
fi
$full && stage leaks env ISOTHERM_LEAK_OPENS=100000 ISOTHERM_LEAK_OPERATIONS=1000000 \
    cargo test --release --package isotherm --test leaks -- --nocapture
$full && stage c-kills env ISOTHERM_C_KILLS=1000 \
    cargo test --release --package isotherm-ffi --test kill -- --nocapture
$full && stage simulator cargo run --release --package isotherm-sim -- --seeds 0..5000
# Each says for itself where it cannot run.
$full && stage full-file-systems cargo test --release --package isotherm --test small_file_systems \
    -- --ignored --nocapture
$full && stage crash-images scripts/crash-images.sh
$full && stage coverage scripts/coverage.sh
# Bugs planted on purpose: the simulator must find each within a minute.
$full && stage clippy-plants cargo clippy --package isotherm-sim --features plant --all-targets -- -D warnings
$full && stage plants cargo run --release --package isotherm-sim --features plant \
    --bin isotherm-plants -- --seconds 60
$full && stage damage env ISOTHERM_DAMAGE_STRIDE=211 \
    cargo test --release --package isotherm-sim --test damage -- --nocapture
# Needs RocksDB: the workspace of the comparison with other engines.
compare=(--manifest-path benches/compare/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}")
$full && stage compare-format cargo fmt --manifest-path benches/compare/Cargo.toml --check
$full && stage compare-clippy cargo clippy --release "${compare[@]}" --all-targets -- -D warnings
$full && stage compare cargo test --release "${compare[@]}"
$full && stage loom env RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=3 \
    cargo test --release --target-dir "${CARGO_TARGET_DIR:-target}/loom" \
    --package isotherm --no-default-features --lib loom_
# These two need a nightly toolchain.
$full && stage miri scripts/miri.sh
$full && stage fuzz scripts/fuzz.sh
# The Python package against the library of the debug build.
stage library env CARGO_PROFILE=dev scripts/library.sh build
stage python env ISOTHERM_LIBRARY="${CARGO_TARGET_DIR:-target}/debug/libisotherm.so" \
    PYTHONPATH=bindings/python python3 -W error -m unittest discover -s bindings/python/tests
$full && stage python-blobs env ISOTHERM_LIBRARY="${CARGO_TARGET_DIR:-target}/debug/libisotherm.so" \
    PYTHONPATH=bindings/python ISOTHERM_PYTHON_BLOBS=10000 \
    python3 -W error -m unittest discover -s bindings/python/tests -k BlobsTest

echo
echo "== Seconds per stage"
printf '%s\n' "${summary[@]}"
printf '%-20s %5d s\n' total "$SECONDS"
if [ ${#not_run[@]} -gt 0 ]; then
    echo "NOT RUN, for lack of a tool: ${not_run[*]}"
fi
if [ ${#failed[@]} -gt 0 ]; then
    echo "FAILED: ${failed[*]}"
    exit 1
fi
echo "all stages passed"
