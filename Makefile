# Every way to build, check and show adit. `make help` lists them.
#
# `make test` needs a Debian machine with a Rust toolchain, git, make and apt, and installs the rest by itself.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

TOOLS := $(CURDIR)/target/tools
FUZZ_SECONDS ?= 60
# Of the programs that `make demo` builds and shows; dev spares a second build where the tests were built.
PROFILE ?= release
FUZZ_TARGETS := $(basename $(notdir $(wildcard tests/fuzz/targets/*.rs)))
export PATH := $(TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## Show adit at work: a small cluster in network namespaces, joined
	tests/install-packages demo
	cargo build --profile $(PROFILE) --locked -p cli -p gateway
	target/$(PROFILE:dev=debug)/adit demo

.PHONY: test
test: packages lint deny ## Everything the continuous integration runs
	@# The suites run the two programs that this very build made, instead of building them with other features.
	ADIT_TESTS_PROGRAMS=$(CURDIR)/target/debug cargo test --workspace --locked --no-fail-fast

.PHONY: lint
lint: components ## Formatting, clippy and documentation, without a warning
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

.PHONY: deny
deny: $(TOOLS)/cargo-deny ## Licences, sources and banned crates
	cargo deny --all-features --locked check bans licenses sources

.PHONY: audit
audit: $(TOOLS)/cargo-deny ## Known vulnerabilities of the dependencies (fetches the advisory database)
	cargo deny --all-features --locked check advisories

.PHONY: bench
bench: packages $(TOOLS)/wireguard ## Figures as ratios against a baseline of the same run
	cargo build --release --locked -p cli -p gateway
	cargo run --release --locked -p bench

.PHONY: fuzz
fuzz: $(TOOLS)/cargo-fuzz ## Fuzz each target for FUZZ_SECONDS (60)
	@# The same versions as everywhere; only libFuzzer's own crates come on top.
	@cp Cargo.lock tests/fuzz/Cargo.lock
	@[ -n "$(FUZZ_TARGETS)" ] || { echo "no fuzz target in tests/fuzz/targets" >&2; exit 1; }
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p target/fuzz/corpus/$$target; \
		echo "+ fuzz $$target for $(FUZZ_SECONDS) s" >&2; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz $$target \
			$(CURDIR)/target/fuzz/corpus/$$target $(CURDIR)/tests/fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65600 -timeout=10 -print_final_stats=1; \
	done

.PHONY: packages
packages: ## Debian packages that the suites run against
	tests/install-packages

.PHONY: components
components:
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

# The peer that `make bench` measures against; without a Go toolchain its figures are left out.
$(TOOLS)/wireguard:
	@mkdir -p $(TOOLS)
	if command -v go >/dev/null; then GOBIN=$(TOOLS) go install golang.zx2c4.com/wireguard@latest; fi

# A tool counts as there when cargo finds it, wherever it was installed; the stamp only spares the question.
$(TOOLS)/cargo-deny:
	@mkdir -p $(TOOLS)
	cargo deny --version 2>/dev/null || cargo install --locked --debug --root $(TOOLS) cargo-deny
	@touch $@

$(TOOLS)/cargo-fuzz:
	@mkdir -p $(TOOLS)
	cargo fuzz --version 2>/dev/null || cargo install --locked --root $(TOOLS) cargo-fuzz
	@touch $@
