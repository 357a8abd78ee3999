#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, two at a time, and tells the edges that each knew at its start and at its end.
#
#   scripts/fuzz.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?SECONDS for each target}
shift
toolchain=${FUZZ_TOOLCHAIN:-nightly}
if ! command -v cargo-fuzz >/dev/null; then cargo install --locked cargo-fuzz; fi
if [ $# = 0 ]; then mapfile -t targets < <(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml); else targets=("$@"); fi
cargo "+$toolchain" fuzz build
mkdir -p target/fuzz
failed=0

# one TARGET: runs it; its words go to a file.
one() {
    local target=$1
    mkdir -p "fuzz/corpus/$target"
    cargo "+$toolchain" fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        "-max_total_time=$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 >"target/fuzz/$target.log" 2>&1
}

# tell TARGET: what came of it.
tell() {
    local log=target/fuzz/$1.log first last inputs
    first=$(sed -n 's/.*INITED cov: \([0-9]*\) .*/\1/p' "$log" | head -n 1)
    last=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    inputs=$(sed -n 's/stat::number_of_executed_units: *//p' "$log")
    printf 'fuzz: %-12s %9s inputs, edges %s at the start and %s at the end\n' "$1" "${inputs:-0}" "${first:-?}" "${last:-?}"
}

for ((index = 0; index < ${#targets[@]}; index += 2)); do
    pair=("${targets[@]:index:2}")
    processes=()
    for target in "${pair[@]}"; do
        one "$target" &
        processes+=($!)
    done
    for place in "${!pair[@]}"; do
        if ! wait "${processes[$place]}"; then
            failed=1
            echo "fuzz: ${pair[$place]} FAILED" >&2
            tail -n 40 "target/fuzz/${pair[$place]}.log" >&2
        fi
        tell "${pair[$place]}"
    done
done
exit "$failed"
