#!/usr/bin/env bash
# Every 'Done when' of the issues at full size, or one part of it. Figures go to the file named; a line that fails makes the
# whole fail.
#
#   scripts/test-full.sh [FILE] [suite|live|library|deaths|benches|fuzz|power|errors]
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."
out=${1:-target/full.txt}
part=${2:-all}
case $part in
all | suite | live | library | deaths | benches | fuzz | power | errors) ;;
*) echo "test-full: there is no part $part: suite, live, library, deaths, benches, fuzz, power, errors" >&2; exit 2 ;;
esac
mkdir -p "$(dirname "$out")"
: >"$out"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
failed=0
twin=${CARGO_TARGET_DIR:-target}/release/twin
export TWIN_YES=1

line() { # PART WHAT COMMAND...
    local of=$1 what=$2 from=$SECONDS result=ok
    shift 2
    if [ "$part" != all ] && [ "$part" != "$of" ]; then return; fi
    printf '\n== %s\n' "$what"
    if ! "$@" 2>&1 | tee "$said"; then result=FAILED; failed=1; fi
    printf '%-7s %5d s  %s\n' "$result" $((SECONDS - from)) "$what" >>"$out"
    grep -E '^(test result|median of|topology:|scenario:|verdict|all running|all answering|twin snapshot|consistency|restores:|deaths:|kills:|power:|errors:|fuzz:|[0-9]+x[0-9]+M)' "$said" | sed 's/^/               /' >>"$out" || true
}

# shellcheck disable=SC2317 # called by name
help_time() {
    local from to
    from=$(date +%s%N)
    for _ in 1 2 3 4 5 6 7 8 9 10; do "$twin" --help >/dev/null; done
    to=$(date +%s%N)
    local each=$(((to - from) / 10000000))
    echo "twin --help: $each ms"
    [ "$each" -le 20 ]
}

# shellcheck disable=SC2317 # called by name
live() { env TWIN_LIVE=full cargo test --locked --test live -- --nocapture --test-threads="${threads:-1}" "$@"; }

line suite "the suite and the shape" cargo test --locked --lib --test tidy --test suite
line suite "every scenario killed at every write, simulated" env TWIN_LIVE=full cargo test --locked --test suite library
line suite "twin --help in 20 ms" help_time
threads=2 line live "live, at full size" live --skip deaths:: --skip crashes:: --skip kills:: --skip power:: --skip reboot:: --skip errors::
line deaths "twin killed everywhere" live deaths:: crashes:: kills::
line power "the power goes" live power:: reboot::
threads=4 line errors "system calls that fail" live errors::
line library "the incident library, three times" scripts/library.sh 3
line suite "the parsers of people's files, 10 minutes each" env FUZZ_SECONDS=600 cargo test --locked --release --test fuzz -- --nocapture
line fuzz "the readers of what others wrote, 10 minutes each" scripts/fuzz.sh 600
line benches "twin up beside plain QEMU" cargo bench --locked --bench up
line benches "snapshots beside virsh" cargo bench --locked --bench snapshot
line benches "restores beside virsh" cargo bench --locked --bench restore
line benches "the price of memory in a file" cargo bench --locked --bench ram
printf '\n'
cat "$out"
exit "$failed"
