#!/usr/bin/env bash
# Runs scenarios in a lab of its own and opens their HTML reports in headless Chromium: tests/report/check.mjs.
# REPORTS="NAME ..." runs some only. REPORT_LAB=NAME runs none: it takes the last run of each in that lab.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."
out=target/report
twin=${CARGO_TARGET_DIR:-target}/release/twin
lab=report-test
reports=${REPORTS:-cross-bridge-reject dual-homed-cilium host-power-loss oom-openstack1 rebuild shutoff-capi-mgmt}

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then apt-get -q update && apt-get -q -y install "${missing[@]}"; fi
mkdir -p "$out"
rm -f "$out"/*.html "$out"/*.xml "$out"/*.png
cp tests/report/package.json "$out/"
npm install --prefix "$out" --no-package-lock --no-fund --no-audit --loglevel=error

verdict=0
since=1970-01-01
if [ -z "${REPORT_LAB:-}" ]; then
    trap '"$twin" --lab "$lab" destroy --yes >/dev/null || true' EXIT
    since=$(date -u +%FT%TZ)
    "$twin" --lab "$lab" up testcloud --wait services
    for name in $reports; do "$twin" --lab "$lab" scenario "$name" || verdict=$?; done
else
    lab=$REPORT_LAB
fi
# The last run of a scenario since then that has come to its end; REPORT_LAB's may be older, and has to have passed.
# shellcheck disable=SC2016 # a program of JavaScript's
newest='const {runs} = JSON.parse(require("fs").readFileSync(0)); const [name, since] = process.argv.slice(1);
const run = runs.find((one) => one.scenario === name && one.ended_at && Date.parse(one.started_at) >= Date.parse(since));
if (!run) { console.error(`no run of ${name} is on record`); process.exit(1); }
console.error(`${name}: run ${run.run}, ${run.verdict}`); console.log(run.run, run.verdict);'
for name in $reports; do
    found=$("$twin" --lab "$lab" --json runs | node -e "$newest" "$name" "$since")
    run=${found% *}
    [ "${found#* }" = pass ] || verdict=1
    "$twin" report "$run" --html -o "$out/$name.html"
    "$twin" report "$run" --junit -o "$out/$name.xml"
    xmllint --noout --schema tests/report/junit.xsd "$out/$name.xml"
done
node tests/report/check.mjs "$out" "$(command -v chromium)"
exit "$verdict"
