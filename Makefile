# The commands of README.md. Each installs what it needs.
GUEST_TARGET := x86_64-unknown-linux-gnu
export TWIN_COMMIT := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)+$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.PHONY: setup build guest guest-dev demo test test-full bench lint fuzz
setup:
	scripts/host-setup.sh --build

# twin, and twin-guest beside it.
build: guest
	cargo build --release --locked
	install -m 755 target/guest/$(GUEST_TARGET)/guest/twin-guest target/release/twin-guest

guest:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile guest --bin twin-guest \
	  --no-default-features --features guest --target $(GUEST_TARGET) --target-dir target/guest

guest-dev: guest
	mkdir -p target/debug
	install -m 755 target/guest/$(GUEST_TARGET)/guest/twin-guest target/debug/twin-guest
