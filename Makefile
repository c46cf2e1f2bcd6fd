# `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/virtual-kubelet
CARGO ?= cargo
REAL := tests/real

.DEFAULT_GOAL := help
.PHONY: help build demo test test-contract test-integration tools test-real bench fuzz fmt lint image clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# PROFILE=dev builds quicker; BIN is where the binaries go. Static, for an image that has
# nothing else: glibc since 2.34 asks DNS without files of its own.
PROFILE ?= release
BIN ?= bin
build: ## Static binaries in bin/
	$(CARGO) rustc --profile $(PROFILE) --locked -p vk-flightctl --bin vk-flightctl-provider -- -C target-feature=+crt-static
	mkdir -p $(BIN)
	cp "$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$(PROFILE:dev=debug)/vk-flightctl-provider" $(BIN)/

demo: ## The whole journey in one process: no cluster, no device; KEEP=1 stays for kubectl
	$(CARGO) run --quiet --locked -p vk-flightctl --example demo -- $(if $(KEEP),--keep)

test: ## Unit, property and sandbox tests; needs nothing but cargo
	$(CARGO) test --locked --workspace

test-contract: ## Part of test: backends against the contract, provider and sandbox against recorded answers
	$(CARGO) test --locked -p vk-provider
	$(CARGO) test --locked -p vk-flightctl --test conformance
	$(CARGO) test --locked -p vk-flightctl --test traces
	$(CARGO) test --locked -p vk-sandbox --test flightctl_recorded

test-integration: ## Part of test: lifecycle and journey in the sandbox
	$(CARGO) test --locked -p virtual-kubelet --test lifecycle
	$(CARGO) test --locked -p vk-flightctl --test journey

tools: ## Build etcd, the control plane and kubectl, once; prints their folder
	@tests/tools/build.sh

test-real: ## Tests on real parts; FLIGHTCTL_BIN=folder adds the real Flight Control, service and device
	@$(REAL)/run.sh

bench: ## Numbers on a real API server, beside a ceiling, kwok and CRI streaming; SIZE=500 is quick
	@tests/bench/run.sh

SECONDS ?= 60
fuzz: ## libFuzzer over the codecs of the streams, SECONDS=60 for each target
	@crates/streams/fuzz/run.sh $(SECONDS)

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## rustfmt, clippy, rustdoc, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p kubelet-streams --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@$(REAL)/../lint/deny.sh

image: build ## Container image vk-flightctl-provider:latest, from bin/
	docker build -t vk-flightctl-provider:latest .

clean: ## Remove what was built here
	$(CARGO) clean
	rm -rf bin
