#!/usr/bin/env bash
# The whole incident library in the testcloud, ROUNDS times (1 when not given); one round may take at most 20 minutes.
set -uo pipefail
umask 077
cd "$(dirname "$0")/.." || exit 1
rounds=${1:-1}
twin=${CARGO_TARGET_DIR:-target}/release/twin
most=1200

"$twin" up testcloud --wait services || exit 1
failed=0
for round in $(seq "$rounds"); do
    from=$SECONDS
    for file in scenarios/*.yaml; do
        name=$(basename "$file" .yaml)
        begun=$SECONDS
        "$twin" --lab testcloud scenario "$name" >target/library.txt 2>target/library.err
        code=$?
        printf 'scenario: round %d %-20s exit %d, %d s, %s\n' "$round" "$name" "$code" $((SECONDS - begun)) \
            "$(grep '^verdict' target/library.txt)"
        if [ "$code" -ne 0 ]; then
            failed=1
            cat target/library.txt target/library.err
        fi
    done
    took=$((SECONDS - from))
    printf 'scenario: round %d of the library took %d s\n' "$round" "$took"
    [ "$took" -le "$most" ] || failed=1
done
exit "$failed"
