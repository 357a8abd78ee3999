# The commands of README.md. Each installs what it needs.
GUEST_TARGET := x86_64-unknown-linux-gnu
# Where cargo puts what it builds.
OUT := $(or $(CARGO_TARGET_DIR),target)
export TWIN_COMMIT := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)+$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.PHONY: setup build guest guest-dev demo test test-full test-report bench lint fuzz
setup:
	scripts/host-setup.sh --build

# twin, and twin-guest beside it.
build: guest
	cargo build --release --locked
	install -m 755 $(OUT)/guest/$(GUEST_TARGET)/guest/twin-guest $(OUT)/release/twin-guest

guest:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile guest --bin twin-guest \
	  --no-default-features --features guest --target $(GUEST_TARGET) --target-dir $(OUT)/guest

guest-dev: guest
	mkdir -p $(OUT)/debug
	install -m 755 $(OUT)/guest/$(GUEST_TARGET)/guest/twin-guest $(OUT)/debug/twin-guest

# Builds, brings the testcloud up, replays D-040 in all its variants, and says how long each phase took.
demo:
	scripts/demo.sh

# Everything that CI runs but for the lints: under 25 minutes on two cores. What takes longer than that has room for is in
# `make test-full`: PART=deaths has crashes.rs, deaths.rs and kills.rs, PART=power has power.rs and reboot.rs, PART=errors has
# errors.rs, and PART=live has long.rs, states.rs, failures.rs and all of undo.rs. Two cores are busy with the guests of one
# live test: several at a time took longer.
test: setup guest-dev
	cargo test --locked --lib --test tidy --test suite --test fuzz
	cargo test --locked --test live -- --test-threads=1 --skip long:: --skip states:: --skip failures:: \
	  --skip crashes:: --skip deaths:: --skip kills:: --skip power:: --skip reboot:: --skip errors:: \
	  --skip undo::what_can_be_put_back

# Every 'Done when' of the issues at full size, or one part of it: suite, live, library, deaths, benches, fuzz, power,
# errors. Figures go to target/full-PART.txt, so that two parts can run at once.
test-full: setup build guest-dev
	scripts/test-full.sh target/full$(PART:%=-%).txt $(PART)

# The HTML reports of all scenarios in headless Chromium.
test-report: setup build
	scripts/test-report.sh

bench: setup build
	cargo bench --locked --bench up
	cargo bench --locked --bench snapshot
	cargo bench --locked --bench restore
	cargo bench --locked --bench ram

lint: cargo-deny
	shellcheck scripts/*.sh tests/live/*.sh .ci/run
	scripts/check-units.sh
	cargo fmt --check
	rustfmt --check --edition 2024 src/scenario/fault/*/*.rs src/scenario/probe/*.rs
	cargo clippy --locked --all-targets -- -D warnings
	RUSTFLAGS="-C target-feature=+crt-static" cargo clippy --locked --profile guest --bin twin-guest \
	  --no-default-features --features guest --target $(GUEST_TARGET) \
	  --target-dir $(OUT)/guest -- -D warnings

	cargo deny check bans licenses sources

.PHONY: cargo-deny
cargo-deny:
	command -v cargo-deny >/dev/null || cargo install --locked --debug --no-default-features cargo-deny

# The binaries, for all users of this machine, and the units that put back what is open when this machine boots: DESTDIR and
# prefix as usual. `systemctl enable twin-before-libvirt twin-after-boot` has them run.
prefix ?= /usr/local
units := twin-before-libvirt.service twin-after-boot.service
.PHONY: install
install:
	for unit in $(units); do \
	  install -d $(DESTDIR)$(prefix)/lib/systemd/system && \
	  sed 's|@bindir@|$(prefix)/bin|' systemd/$$unit.in >$(DESTDIR)$(prefix)/lib/systemd/system/$$unit && \
	  chmod 644 $(DESTDIR)$(prefix)/lib/systemd/system/$$unit || exit 1; \
	done
	install -D -m 755 $(OUT)/release/twin $(DESTDIR)$(prefix)/bin/twin
	# What earlier versions had beside it.
	rm -f $(DESTDIR)$(prefix)/lib/twin/twin-host
	install -D -m 755 $(OUT)/release/twin-guest $(DESTDIR)$(prefix)/lib/twin/twin-guest

# The parsers and readers on hostile input, FUZZ_SECONDS each: of people's files by mutation, of what others wrote (guests, libvirt,
# nft, the journal) guided by coverage.
FUZZ_SECONDS ?= 60
fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --locked --release --test fuzz -- --nocapture
	scripts/fuzz.sh $(FUZZ_SECONDS)
