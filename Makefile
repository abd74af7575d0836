# Few targets, each what it says. Tools that only checks and tests need go to target/tools; nothing else on the machine changes, except that
# `make setup` installs missing Debian packages when it runs as root.

TOOLS := $(CURDIR)/target/tools
export PATH := $(TOOLS)/bin:$(PATH)

# grpcurl: the newest version that the Go of Debian 12 builds.
GRPCURL_VERSION    := v1.9.1
BUF_VERSION        := 1.75.0
CARGO_DENY_VERSION := 0.20.2
SCHEMATHESIS_VERSION := 4.32.5

GRPCURL    := $(TOOLS)/.grpcurl-$(GRPCURL_VERSION)
BUF        := $(TOOLS)/.buf-$(BUF_VERSION)
CARGO_DENY := $(TOOLS)/.cargo-deny-$(CARGO_DENY_VERSION)
SCHEMATHESIS := $(TOOLS)/.schemathesis-$(SCHEMATHESIS_VERSION)

.PHONY: help setup test schemathesis fmt lint docs proto deny advisories quickstart bench ci

# Random requests for each operation of the REST API.
EXAMPLES ?= 50
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what the build and the tests need and is missing
	@.ci/need cc:gcc,libc6-dev curl:curl openssl:openssl 'postgres@/usr/lib/postgresql/*/bin:postgresql'
	@$(MAKE) --no-print-directory $(GRPCURL)

test: setup ## Run every test, after make setup
	cargo test --locked

schemathesis: $(SCHEMATHESIS) ## Try EXAMPLES random requests for each operation of the REST API
	tests/schemathesis.sh $(EXAMPLES) $(SEED)

fmt: ## Format the code
	cargo fmt

lint: ## Check format and lints, warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

docs: ## Build the API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

proto: $(BUF) ## Lint the API
	$(TOOLS)/buf/node_modules/.bin/buf lint
	$(TOOLS)/buf/node_modules/.bin/buf format --diff --exit-code

deny: $(CARGO_DENY) ## Check licences, duplicates and sources of all dependencies
	cargo deny --locked check licenses bans sources

advisories: $(CARGO_DENY) ## Check dependencies against RustSec (fetches its database from GitHub)
	cargo deny --locked check advisories

quickstart: ## Start a server and a worker, run a job, watch it
	cargo run --release --locked -- quickstart

bench: ## Measure throughput and latency against the limits of this machine
	cargo run --release --locked -- bench

ci: ## Run everything that a change must pass
	.ci/run

$(GRPCURL):
	@.ci/need go:golang-go,ca-certificates
	GOBIN=$(TOOLS)/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	@touch $@

$(BUF):
	@.ci/need npm:npm
	npm install --prefix $(TOOLS)/buf --no-save --no-audit --no-fund --ignore-scripts @bufbuild/buf@$(BUF_VERSION)
	@touch $@

$(SCHEMATHESIS):
	@python3 -c 'import ensurepip' 2>/dev/null || .ci/need python3-venv:python3,python3-venv
	python3 -m venv $(TOOLS)/schemathesis
	$(TOOLS)/schemathesis/bin/pip install --quiet schemathesis==$(SCHEMATHESIS_VERSION)
	@touch $@

# Without optimisation: it is built more often than it is run.
$(CARGO_DENY):
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --debug --root $(TOOLS)
	@touch $@
