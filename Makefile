# The two commands of a newcomer are `make run` and `make test`.
CARGO ?= cargo
SHEAF := target/release/sheaf
# What the main load spends its time on, for release builds by the very compiler it was recorded with; others do without, and
# so does a folder with a space in its name, which the flags would be cut at.
HOST := $(shell rustc --print host-tuple)
PROFILE := runtime/profile/$(shell rustc --version | cut -d' ' -f2)-$(HOST).profdata
USABLE := $(if $(word 2,$(CURDIR)),,$(wildcard $(PROFILE)))
GUIDED := $(if $(USABLE),-Cprofile-use=$(CURDIR)/$(PROFILE) -Cllvm-args=-no-pgo-warn-mismatch)
RELEASE := RUSTFLAGS="$(RUSTFLAGS) $(GUIDED)" $(CARGO) build --release
RECORDING := $(CURDIR)/target/profiling
DEMO ?=
BENCH ?=
FAULTS ?=
ONLY ?=
SCALE ?=
QUEUE ?=

.PHONY: run test postgres lint deny gen bench bench-postgres bench-queue profile faults scale

## Build, start on SQLite with the Calltouch-Mindbox example against a local receiver, show the first events routed.
run:
	$(RELEASE) --bin sheaf
	MINDBOX_SECRET_KEY=demo-key $(SHEAF) demo examples/calltouch-mindbox $(DEMO)

## Install what the tests need, then run everything, and a short run of every fault.
test: postgres
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	$(CARGO) build --bins
	$(CARGO) nextest run --workspace
	$(MAKE) faults

## The programs of PostgreSQL, of which the tests start a server of their own, and curl. Without them their tests are skipped, in
## CI they fail.
postgres:
	@{ command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 && command -v curl >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -q && apt-get install -qy --no-install-recommends postgresql curl; \
		else echo "PostgreSQL or curl is not installed: their tests will be skipped"; fi

## Formatting, Clippy, purity of the pure crates; what we build on, where cargo-deny is installed.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --package sheaf-runtime --features faulty --bins -- -D warnings
	@! $(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) deny --locked check licenses bans sources

## What we build on: licences, banned and doubled crates, where they come from, and what is known against them, asked anew.
deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check licenses bans sources
	$(CARGO) deny --locked check advisories

## Write the generated files: JSON Schemas for editors and the web form.
gen:
	$(CARGO) run --quiet --bin sheaf -- schema --write ui-schema

## Throughput, latency, memory, CPU and bytes written, beside two ceilings in the same run.
bench:
	$(RELEASE) --bins
	target/release/bench --sheaf $(SHEAF) $(BENCH)

## The same on PostgreSQL with a million runs in it; the ceiling does nothing there but publish and settle in batches.
bench-postgres:
	$(RELEASE) --bins
	target/release/bench --sheaf $(SHEAF) --only sheaf --only durable --postgres --filled 1000000 $(BENCH)

## The queue on PostgreSQL alone, beside the same; QUEUE="--filled 1000000" with runs in it.
bench-queue:
	$(RELEASE) --package sheaf-tests --bin queue_bench
	target/release/queue_bench postgres $(QUEUE)

## Record anew what the main load spends its time on, on either database; after larger changes, or for another compiler.
profile: postgres
	rustup component add llvm-tools
	RUSTFLAGS="$(RUSTFLAGS) -Cprofile-generate=$(RECORDING)/counts" $(CARGO) build --release --bin sheaf --target-dir $(RECORDING)
	rm -rf $(RECORDING)/counts
	$(RELEASE) --bin bench
	target/release/bench --sheaf $(RECORDING)/release/sheaf --only sheaf --pairs 1 --seconds 10
	target/release/bench --sheaf $(RECORDING)/release/sheaf --only sheaf --pairs 1 --seconds 10 --postgres
	mkdir -p $(dir $(PROFILE))
	$$(rustc --print target-libdir)/../bin/llvm-profdata merge --sparse --output $(PROFILE) $(RECORDING)/counts

## Every fault the product promises to survive, judged by ledgers outside it; about 6 minutes, FAULTS=--long for hours.
faults:
	@test "$$(id -u)" != 0 || { command -v strace && command -v faketime && command -v python3 && command -v mkfs.ext4; } >/dev/null || \
		{ apt-get update -q && apt-get install -qy --no-install-recommends strace faketime python3-minimal e2fsprogs; } >/dev/null || true
	$(CARGO) build --bins
	$(CARGO) build --package sheaf-runtime --features faulty --bin sheaf-faulty
	target/debug/faults $(FAULTS)

## The promised sizes: a million deliveries, a million delayed, many bundles, dead vendors, nodes. ONLY=NAME for one of them, SCALE=--strict to fail for SLOW.
scale:
	$(RELEASE) --bins
	target/release/scale --sheaf $(SHEAF) $(ONLY) $(SCALE)
