#!/usr/bin/env bash
# Has systemd check the units that `make install` installs, with a twin in the place where they look for it.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
install -D -m 755 /bin/true "$stage/bin/twin"
for unit in systemd/*.service.in; do
    sed "s|@bindir@|$stage/bin|" "$unit" >"$stage/$(basename "$unit" .in)"
done
# Units that they are ordered against need not be there; whatever else it says is a mistake.
said=$(SYSTEMD_UNIT_PATH="$stage:" systemd-analyze verify --man=no "$stage"/*.service 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
if [ -n "$said" ]; then printf '%s\n' "$said" >&2; exit 1; fi
