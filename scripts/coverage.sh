#!/usr/bin/env bash
# How much of the rooms where data could be lost the simulator runs through: lines, room by room, as
# compiled without tests, by ISOTHERM_COVERAGE_SEEDS (60) seeds. Ends badly below 85 %. Ends with 77
# where the tools are missing.
set -uo pipefail
cd "$(dirname "$0")/.."

least=85
target=${CARGO_TARGET_DIR:-target}/coverage
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
if [ ! -x "$tools/llvm-cov" ] && ! rustup component add llvm-tools >/dev/null 2>&1; then
    echo 'NOT COVERED: llvm-cov is missing, get it with: rustup component add llvm-tools'
    exit 77
fi

# With a target named, what runs while it builds is not instrumented.
RUSTFLAGS=-Cinstrument-coverage cargo build --release --package isotherm-sim --bin isotherm-sim \
    --target "$host" --target-dir "$target" || exit 1
simulator=$target/$host/release/isotherm-sim
rm -f "$target"/*.profraw
LLVM_PROFILE_FILE=$target/%m.profraw "$simulator" \
    --seeds "0..${ISOTHERM_COVERAGE_SEEDS:-60}" || exit 1
"$tools/llvm-profdata" merge -sparse "$target"/*.profraw -o "$target/sim.profdata" || exit 1
"$tools/llvm-cov" export --summary-only --format=lcov "$simulator" \
    --instr-profile "$target/sim.profdata" >"$target/sim.lcov" || exit 1

# Of each file: its name (SF), lines hit (LH), lines (LF). A room is a directory, or a file of that name.
awk -F: -v least=$least '
    $1 == "SF" {
        room = ""
        if (match($2, /engine\/src\/[a-z_]+/)) room = substr($2, RSTART + 11, RLENGTH - 11)
    }
    $1 == "LH" { hit[room] += $2 }
    $1 == "LF" { lines[room] += $2 }
    END {
        count = split("log shard organizer tier recover paging index", rooms, " ")
        for (at = 1; at <= count; at++) {
            room = rooms[at]
            part = 100 * hit[room] / lines[room]
            printf "test result: %-10s %5d of %5d lines, %.1f %%\n", room, hit[room], lines[room], part
            if (part < least) low = low " " room
        }
        if (low) { print "below " least " %:" low; exit 1 }
    }' "$target/sim.lcov"
