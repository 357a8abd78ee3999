#!/usr/bin/env bash
# Every 'Done when' of the issues at full size. Figures go to the file named; a line that fails makes the whole fail.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/full.txt}
mkdir -p "$(dirname "$out")"
: >"$out"
failed=0
twin=target/release/twin

line() { # WHAT COMMAND...
    local what=$1 from=$SECONDS
    shift
    printf '\n== %s\n' "$what"
    if "$@" 2>&1 | tee target/line.txt; then result=ok; else result=FAILED; failed=1; fi
    printf '%-7s %5d s  %s\n' "$result" $((SECONDS - from)) "$what" >>"$out"
    grep -E '^(test result|median of|topology:|scenario:|verdict|all running|all answering|twin snapshot|consistency|restores:|deaths:|kills:|[0-9]+x[0-9]+M)' target/line.txt | sed 's/^/               /' >>"$out"
}

help_time() {
    local from to
    from=$(date +%s%N)
    for _ in 1 2 3 4 5 6 7 8 9 10; do "$twin" --help >/dev/null; done
    to=$(date +%s%N)
    local each=$(((to - from) / 10000000))
    echo "twin --help: $each ms"
    [ "$each" -le 20 ]
}

line "the suite and the shape" cargo test --locked --lib --test tidy --test suite
line "every scenario killed at every write, simulated" env TWIN_LIVE=full cargo test --locked --test suite library
line "live, at full size" env TWIN_LIVE=full cargo test --locked --test live -- --test-threads=1 --nocapture
line "the incident library, three times" scripts/library.sh 3
line "the parsers, 10 minutes each" env FUZZ_SECONDS=600 cargo test --locked --release --test fuzz -- --nocapture
line "twin up beside plain QEMU" cargo bench --locked --bench up
line "snapshots beside virsh" cargo bench --locked --bench snapshot
line "restores beside virsh" cargo bench --locked --bench restore
line "the price of memory in a file" cargo bench --locked --bench ram
line "twin --help in 20 ms" help_time
printf '\n'
cat "$out"
exit "$failed"
