# The two commands of a newcomer are `make run` and `make test`.
CARGO ?= cargo
SHEAF := target/release/sheaf
DEMO ?=
BENCH ?=
FAULTS ?=
SHORT_KILLS := 15

.PHONY: run test lint gen bench faults

## Build, start on SQLite with the Calltouch-Mindbox example against a local receiver, show the first events routed.
run:
	$(CARGO) build --release --bin sheaf
	MINDBOX_SECRET_KEY=demo-key $(SHEAF) demo examples/calltouch-mindbox $(DEMO)

## Install what the tests need, then run everything, and a short campaign of kills.
test:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	$(CARGO) build --bins
	$(CARGO) nextest run --workspace
	target/debug/faults --sheaf target/debug/sheaf --kills $(SHORT_KILLS)

## Formatting, Clippy, purity of the pure crates.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

## Write the generated files: JSON Schemas for editors and the web form.
gen:
	$(CARGO) run --quiet --bin sheaf -- schema --write ui-schema

## Throughput, latency, memory, CPU and bytes written, beside two ceilings in the same run.
bench:
	$(CARGO) build --release --bins
	target/release/bench --sheaf $(SHEAF) $(BENCH)

## kill -9 at random moments under load, with ledgers outside the product.
faults:
	$(CARGO) build --release --bins
	target/release/faults --sheaf $(SHEAF) $(FAULTS)
