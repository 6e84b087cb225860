# What one does here. "make" alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check bench needs sbom deny fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a real nginx runs out of client ports, and the three plugins catch it (a minute, after the build)
	@scripts/needs --install demo
	cargo build --release --locked --bins
	cargo build --locked --example demo
	@scripts/as-root target/debug/examples/demo target/release

test: ## everything, with a real nginx and a real Icinga 2 (needs root for network namespaces; asks sudo)
	@scripts/needs --install test
	@scripts/test

check: ## quick: format, clippy, the tests beside the code
	@scripts/needs build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --lib

bench: ## how fast, beside what one would use instead (some minutes)
	@for script in benches/*.sh; do "$$script" || exit; done

needs: ## what is missing on this machine for the above, and how to get it
	@scripts/needs test

deny: ## licences, bans and sources of the crates that are built in
	cargo deny --all-features check --hide-inclusion-graph --allow duplicate licenses bans sources

fuzz: ## each target for a minute; scripts/fuzz says more
	@scripts/fuzz 60

sbom: ## the bill of materials, CycloneDX, in target/sbom.cdx.json
	@mkdir -p target && scripts/sbom target/sbom.cdx.json && echo target/sbom.cdx.json
