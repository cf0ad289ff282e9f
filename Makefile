# Every recipe that people and CI run; `make help` lists them.

.PHONY: help build demo test test-full check bench-burst bench-cache bench-externals bench-webhook cluster cluster-down coverage images dist docs fuzz
.DEFAULT_GOAL := help

# One set of features for all, so that nothing is built twice.
CARGO := cargo
WORKSPACE := --workspace --locked

help: ## List the targets
	@grep -E '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.* ## /\1|/' | awk -F'|' '{ printf "  %-15s %s\n", $$1, $$2 }'

build: ## Build all programs into target/debug
	$(CARGO) build $(WORKSPACE) --bins

demo: build ## Show the main job on this machine: no cluster, no root, no network
	./target/debug/headstart demo --log warn $(DEMO_FLAGS)

test: build ## Run all tests in the depth that CI affords
	./target/debug/bed programs
	PROPTEST_CASES=2000 $(CARGO) test $(WORKSPACE)

test-full: build ## Run all tests in full depth, before a piece of work is called done
	./target/debug/bed programs
	HEADSTART_FULL=1 PROPTEST_CASES=100000 $(CARGO) test $(WORKSPACE)
	HEADSTART_FULL=1 HEADSTART_ARC_MODEL=master $(CARGO) test $(WORKSPACE) --test creation
	HEADSTART_SCHEDULES=100000 $(CARGO) test $(WORKSPACE) --profile bed --test simulation no_schedule -- --nocapture
	./scripts/fuzz

check: ## Format, lints, documentation: everything that needs no run
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(WORKSPACE) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(WORKSPACE) --no-deps --document-private-items
	cd tests/bed/slowfs && go vet ./... && go test ./...
	cd tests/bed/powercut && go vet ./... && go test ./...

fuzz: ## Fuzz the webhook's input and the configuration's patterns, FUZZ_SECONDS (60) each; needs a C++ compiler
	./scripts/fuzz

coverage: ## Line coverage of controller/, programs that tests start and kill included; fails if it is short
	./scripts/coverage

docs: ## Write the pages of docs/ that follow from the code
	HEADSTART_BLESS=1 $(CARGO) test $(WORKSPACE) --test reasons --test faults

cluster: build ## Start a real one-node Kubernetes with Headstart on this machine (root), and say how to reach it
	./target/debug/bed up

cluster-down: build ## Take it down; fails if anything of it is left
	./target/debug/bed down

bench-externals: build ## Compare the legacy copy with and without Headstart, on a real node with slow storage (root)
	HEADSTART_REQUIRE_NODE=1 HEADSTART_ROUNDS=3 $(CARGO) test --locked --package headstart-tests --test end_to_end a_legacy_runner -- --nocapture

# As the shipped image has it; `make dist` installs what that needs.
MUSL := $(shell uname -m)-unknown-linux-musl
STATIC := CC_$(subst -,_,$(MUSL))=musl-gcc $(CARGO) build $(WORKSPACE) --target $(MUSL)

bench-webhook: ## Measure admissions per second, beside the cheapest answer of the same server
	$(STATIC) --profile dist --bin headstart-webhook
	$(STATIC) --release --bin bench-webhook
	./target/$(MUSL)/release/bench-webhook ./target/$(MUSL)/dist/headstart-webhook

bench-cache: ## Measure installs beside cp and tar of the same files, the scrub, and the agent at rest
	$(STATIC) --profile dist --bin headstart-cachesync
	$(CARGO) build $(WORKSPACE) --bin bench-cache
	./target/debug/bench-cache ./target/$(MUSL)/dist/headstart-cachesync

bench-burst: build ## Measure bursts of runners beside stock ARC: the real one where HEADSTART_ARC_* name it; HEADSTART_BURSTS=quick
	$(STATIC) --profile dist --bin headstart-controller --bin headstart-webhook
	./target/debug/bench-burst ./target/$(MUSL)/dist/headstart-controller ./target/$(MUSL)/dist/headstart-webhook

dist: ## Build the static programs and the CA bundle into dist/, for the Dockerfile
	./scripts/dist

images: build ## Build the shipped image into target/images/headstart.tar, without a daemon
	./target/debug/bed images shipped
