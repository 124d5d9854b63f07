# The commands of this repository. `make` alone lists them.
.DEFAULT_GOAL := help
ARGS ?=

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

.PHONY: fetch
fetch: # Downloads the crates from the registry
	cargo fetch --locked

.PHONY: fetch-controlplane
fetch-controlplane: # Downloads the sources of the tests' control plane, which is built with Go
	tests/controlplane/build fetch

.PHONY: build-controlplane
build-controlplane: fetch-controlplane # Takes about five minutes, once and after each change of tests/controlplane/go.mod
	tests/controlplane/build

.PHONY: fetch-installers
fetch-installers: # Downloads the sources of helm and kubectl, with which the tests render and install the manifests
	tests/chart/build fetch

.PHONY: build-installers
build-installers: fetch-installers # Takes about three minutes, once and after each change of tests/chart/go.mod
	tests/chart/build

.PHONY: fetch-moto
fetch-moto: # Installs moto, a double of AWS that is not ours, which runs with Python
	tests/moto/install

.PHONY: demo
demo: fetch ## Watch rolling updates lose requests, and stop losing them: no cluster, no AWS account
	cargo build --offline --locked --workspace --bins
	target/debug/targetgate-sandbox demo --targetgate target/debug/targetgate $(ARGS)

# Most tests wait for other processes, so that one test per core would leave the cores idle. Chosen.
RUST_TEST_THREADS ?= 4
.PHONY: test
test: export RUST_TEST_THREADS := $(RUST_TEST_THREADS)
test: fetch build-controlplane build-installers fetch-moto ## Run all tests, on a real API server too; after the downloads they use loopback only
	cargo test --offline --locked --workspace --doc
	cargo test --offline --locked --workspace --lib --tests

# One demo at a time: each measures what requests are lost, and two would compete for the CPU.
.PHONY: test-page
test-page: fetch ## Test the demo's page in a real Chromium, and take its pictures (needs Chromium)
	cargo build --offline --locked --workspace --bins
	cargo test --offline --locked --test page -- --ignored --test-threads 1

.PHONY: simulate
simulate: fetch ## Simulate the whole product for SEEDS=10000 seeds from FIRST_SEED=1 on
	SEEDS=$(or $(SEEDS),10000) FIRST_SEED=$(or $(FIRST_SEED),1) cargo test --offline --locked --profile simulation --test simulation no_seed

.PHONY: mutations
mutations: fetch ## Break the product on purpose, by each patch in tests/simulation/mutations, and check that the simulation fails
	tests/simulation/mutate

.PHONY: controlplane
controlplane: fetch build-controlplane ## Start a real API server to play with, until Ctrl-C
	cargo build --offline --locked --package targetgate-sandbox
	target/debug/targetgate-sandbox controlplane

.PHONY: lint
lint: fetch ## Check format, lints, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --offline --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --offline --locked --workspace --no-deps --document-private-items
	cargo deny --offline --locked check bans licenses sources

.PHONY: audit
audit: ## Check the dependencies for advisories, with the database of RustSec (needs cargo-deny, and the network)
	cargo deny --locked check advisories

.PHONY: bench
bench: fetch build-controlplane ## Measure the figures of docs/performance.md (minutes; needs cargo-auditable); ARGS='--idle 10m' for all of them
	deploy/static-binary target/image/targetgate
	cargo bench --offline --locked --bench cluster -- --program $(CURDIR)/target/image/targetgate $(ARGS)
	cargo bench --offline --locked --bench admission --bench flips --bench policy --bench registration --no-fail-fast

.PHONY: bench-flips
bench-flips: fetch build-controlplane ## Measure how long after ELB gates open, on a real API server (minutes; ARGS names rows)
	cargo bench --offline --locked --bench flips -- $(ARGS)

# Built like the tests: quickly, and with overflow checks. Our code does not need a memory sanitizer, because it forbids `unsafe`.
FUZZ = cargo +nightly fuzz run --dev --sanitizer none --features libfuzzer --target-dir target/fuzz
TIME ?= 300
.PHONY: fuzz
fuzz: fetch ## Search for bytes that break something, TIME=300 seconds for each target (needs cargo-fuzz, a nightly Rust and C++)
	for target in arn elb patch review selector; do \
	  mkdir -p target/fuzz/corpus/$$target && \
	  $(FUZZ) $$target $(CURDIR)/target/fuzz/corpus/$$target $(CURDIR)/fuzz/corpus/$$target -- \
	    -max_total_time=$(TIME) -timeout=10 -rss_limit_mb=1024 -max_len=4096 -dict=$(CURDIR)/fuzz/words.dict $(ARGS) || exit; \
	done

SOAK ?= 1h
.PHONY: soak
soak: fetch build-controlplane ## Run everything at once on a real control plane, with faults, for SOAK=1h
	SOAK=$(SOAK) cargo test --offline --locked --test soak -- --nocapture

.PHONY: crd
crd: fetch ## Generate the CRD of deploy/crd and the chart from the Rust type
	cargo run --offline --locked --quiet --bin targetgate -- crd > deploy/crd/targetgroupbindings.yaml
	cp deploy/crd/targetgroupbindings.yaml deploy/chart/crds/targetgroupbindings.yaml

.PHONY: docs
docs: fetch ## Generate the pages that come from the code, and the output that README.md shows
	UPDATE_DOCS=1 cargo test --offline --locked --test docs -- generated the_readme_shows

.PHONY: image-binary
image-binary: fetch ## Build the static program of the image, and run it in an empty root (minutes; needs cargo-auditable)
	deploy/static-binary target/image/targetgate
	tests/image target/image/targetgate

.PHONY: mutants
mutants: fetch ## Change the rules and the index on purpose, and check that a test fails (needs cargo-mutants)
	cargo mutants --package targetgate-core --cargo-arg=--lib $(ARGS)
