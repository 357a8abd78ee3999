#!/usr/bin/env bash
# From a fresh machine to a verdict: sets the machine up, builds, brings the testcloud up, replays D-040.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."
started=$SECONDS
phases=()

# Programs are for all users of this machine.
# shellcheck disable=SC2317 # called by name
build() { (umask 022 && make build); }

phase() { # NAME COMMAND...: its exit code is the command's
    local name=$1 from=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    "$@" || status=$?
    phases+=("$(printf '%-34s %4d s' "$name" $((SECONDS - from)))")
    return "$status"
}

phase "set the machine up" scripts/host-setup.sh --build
phase "build twin and twin-guest" build
twin=${CARGO_TARGET_DIR:-target}/release/twin
verdict=0
phase "doctor" "$twin" doctor
phase "bring the testcloud up" "$twin" --lab testcloud up testcloud --wait services
phase "status" "$twin" --lab testcloud status
for variant in bug fix control; do
    phase "oom-openstack1, $variant" "$twin" --lab testcloud scenario oom-openstack1 --variant "$variant" || verdict=$?
done
printf '\n== the phases\n'
printf '%s\n' "${phases[@]}" "$(printf '%-34s %4d s' total $((SECONDS - started)))"
if [ "$verdict" = 0 ]; then echo "verdict: pass"; else echo "verdict: not pass (exit $verdict)"; fi
echo "the lab is left up: $twin status; $twin destroy removes it"
exit "$verdict"
