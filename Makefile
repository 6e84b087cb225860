# What one does here. "make" alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-details needs sbom deny fuzz deb rpm static package-test docs coverage same-bytes picture
# For what is given away alone: whatever is built with it is built anew without it.
deb package-test static rpm sbom same-bytes: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2> /dev/null || stat -c %Y CHANGELOG.md)
version := $(shell sed -n '/^version = /{s/^version = "\(.*\)"/\1/p;q}' Cargo.toml)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a real nginx runs out of client ports, and the three plugins catch it (a minute, after the build)
	@scripts/needs --install demo
	scripts/release
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

docs: ## writes into the pages what --help says and what the commands that they show print now (needs root)
	@scripts/needs --install test
	cargo build --locked --bins
	PROXY_CHECKS_WRITE_DOCS=1 scripts/test --test it -- docs:: timeline::page::

bench: ## every claim of the README about speed in one table, beside its yardstick; fails where one no longer holds
	@benches/claims.sh

bench-details: ## how fast in all cases, beside what one would use instead (some minutes)
	@for script in benches/{http,nginx_log,ports}.sh; do "$$script" || exit; done

needs: ## what is missing on this machine for the above, and how to get it
	@scripts/needs test

deny: ## licences, bans and sources of the crates that are built in
	cargo deny --all-features check --hide-inclusion-graph --allow duplicate licenses bans sources

fuzz: ## each target for a minute; scripts/fuzz says more
	@scripts/fuzz 60

deb: ## a package for Debian and Ubuntu in target/debian (MAINTAINER='Name <address>' names who gives it away)
	@scripts/needs --install deb
	scripts/release
	scripts/stage
	cargo deb --no-build --no-strip --quiet $(if $(MAINTAINER),--maintainer '$(MAINTAINER)')
	@ls target/debian/*_$(version)-1_*.deb

package-test: deb ## ... and installed, used and purged on a clean Debian (needs root)
	@scripts/needs --install package
	@scripts/as-root scripts/package-test target/debian/*_$(version)-1_*.deb

static: ## the binaries without any library, with manual pages and all, checksums and SBOM, in target/dist
	@scripts/needs build
	scripts/dist

rpm: static ## the same as .rpm for any distribution, in target/generate-rpm
	@scripts/needs --install rpm
	cargo generate-rpm --source-date $(SOURCE_DATE_EPOCH)

sbom: ## the bill of materials, CycloneDX, in target/sbom.cdx.json
	@mkdir -p target && scripts/sbom target/sbom.cdx.json && echo target/sbom.cdx.json

same-bytes: ## builds the last commit twice, in different folders, and compares the bytes (long; scripts/same-bytes --quick)
	scripts/same-bytes

coverage: ## how much of the library the tests beside the code and those of the binaries run through, in target/coverage
	scripts/coverage
