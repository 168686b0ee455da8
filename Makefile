# The front door. `make help` says what there is.

CARGO ?= cargo

.PHONY: all help demo test test-full bench bench-table bench-compare lint fmt clean install uninstall

all: packages-build
	$(CARGO) build --release --workspace

help:
	@echo 'make            build everything, release'
	@echo 'make demo       store, kill, reopen, verify and measure real data (DIR=... for your own)'
	@echo 'make test       every check that a change must pass, with seconds per stage'
	@echo 'make test-full  the same, and the long tests'
	@echo 'make bench      criterion benches'
	@echo 'make bench-table  the table of figures in the README, beside fio and DashMap (ARGS=--quick)'
	@echo 'make bench-compare  the same damage to isotherm and its peers (ARGS="--only lmdb --bits 100")'
	@echo 'make install    the C library, its header and isotherm.pc (PREFIX=/usr/local, DESTDIR=)'
	@echo 'make uninstall  removes what make install put there'
	@echo 'make lint       rustfmt and clippy, warnings denied'

demo: packages-demo
	@scripts/demo.sh

test: packages-test
	@scripts/test.sh

test-full: packages-test packages-compare
	@scripts/test.sh --full

bench: packages-demo
	$(CARGO) bench --workspace

bench-table: packages-demo
	@mkdir -p target
	$(CARGO) run --release --package isotherm-benches --bin isotherm-table -- --directory target $(ARGS)

# A workspace of its own, for its peers need more than the engine.
bench-compare: packages-compare
	@mkdir -p target
	$(CARGO) run --release --manifest-path benches/compare/Cargo.toml \
		--target-dir $(or $(CARGO_TARGET_DIR),target) -- bitflip --directory target $(ARGS)

export PREFIX DESTDIR LIBDIR INCLUDEDIR

install: packages-build
	@scripts/library.sh install

uninstall:
	@scripts/library.sh uninstall

lint: packages-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean

# glommio compiles a bundled C library, and its build calls git.
.PHONY: packages-build packages-demo packages-test packages-compare
packages-build:
	@scripts/system-packages.sh gcc libc6-dev make git

packages-demo:
	@scripts/system-packages.sh gcc libc6-dev make git fio

# The tests of the C library are C and C++ programs, those of the Python package need Python alone.
packages-test:
	@scripts/system-packages.sh gcc g++ libc6-dev make git pkg-config valgrind strace python3

# SQLite, LMDB and redb are compiled from their crates; RocksDB is the system's.
packages-compare:
	@scripts/system-packages.sh gcc libc6-dev make git librocksdb-dev
