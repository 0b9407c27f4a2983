# hone: two commands. `make run` sets everything up and serves; `make test` sets everything up and checks.
# Each step says what it does, and does nothing when its result is already there.
# The engine (mistralrs, about 36 CPU-minutes cold) is built once: `run` and `test` use the same profile and features.

BASE      ?= smollm2-135m-instruct
DATA      ?= hone-data
LISTEN    ?= 127.0.0.1:8080
# Where cargo builds; CI points it outside of the clone so that it stays warm.
TARGET    := $(or $(CARGO_TARGET_DIR),target)
HONE      := $(TARGET)/release/hone
ENGINE    := --release -p hone --features mistral
say        = @printf '\033[1m==> %s\033[0m\n'

# The peers of the benchmarks: an interpreter with benches/training/requirements*.txt installed.
BENCH_PYTHON ?= python3
BENCH     := python3 benches/training/run.py --python $(BENCH_PYTHON)
BENCHES   := bench-check bench-sft bench-reward bench-rollout bench-ppo bench-curves bench-scaling bench-peak bench-serving bench-swap bench-idle bench-overhead

.DEFAULT_GOAL := help
.PHONY: $(BENCHES) help run setup web build binary test test-quick fmt clippy rust cuda engine openai-client contract test-peft web-test e2e deny openapi clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: build  ## set everything up (base model, web, release build) and serve
	$(say) "Base model $(BASE) (downloaded once, into $(DATA)/models)"
	$(HONE) --data $(DATA) model pull $(BASE)
	$(say) "Serving; Ctrl-C stops"
	$(HONE) --data $(DATA) serve --base $(BASE) --listen $(LISTEN)

setup:  ## check the tools a build needs, and say how to get a missing one
	@scripts/check-tools

web: web/dist/index.html  ## build the web UI into web/dist

web/node_modules/.package-lock.json: web/package.json web/package-lock.json | setup
	$(say) "Web dependencies (npm, into web/node_modules)"
	cd web && npm ci --no-audit --no-fund
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(shell find web/src web/public web/index.html web/vite.config.ts web/openapi.json 2>/dev/null)
	$(say) "Web build"
	cd web && npm run build

build: setup web  ## the release binary with the mistralrs engine
	$(say) "Release build with mistralrs (the first one takes about 20 minutes on two cores, later ones seconds)"
	@$(MAKE) --no-print-directory binary

binary:
	cargo build $(ENGINE)

test: fmt clippy rust cuda web-test engine openai-client contract e2e  ## set up and run every check
	$(say) "All checks passed"

test-quick: fmt clippy rust web-test  ## every check that needs neither mistralrs nor a browser

fmt:
	$(say) "Format"
	cargo fmt --all --check

clippy: setup web
	$(say) "Lints, warnings denied"
	cargo clippy --all-targets -- -D warnings

rust: setup web
	$(say) "Rust tests (without mistralrs)"
	cargo test

cuda:  ## the GPU's kernels, op by op against the CPU's: on a GPU where there is one, and on an emulator
	$(say) "Feature cuda: lints, kernels against the CPU"
	cargo clippy -p hone-learn --features cuda --all-targets -- -D warnings
	cargo test -p hone-learn --features cuda --lib backend

web-test: web
	$(say) "Web: types, unit tests, size of the first load"
	cd web && npm run check && npm test && npm run size

# The adapter is linted by clippy's driver as the compiler of our crates in an ordinary build: `cargo clippy` would check
# mistralrs's 636 packages once more from scratch.
engine: build
	$(say) "Engine: lints and tests of mistralrs behind the Engine trait, on the build that make run uses"
	RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__ cargo build $(ENGINE) --target-dir $(TARGET)
	cargo test $(ENGINE) -p hone-engine-mistral --lib --test engine_mistral

openai-client: build  ## the official OpenAI clients against a running hone, with the echo, the native and the remote engine
	$(say) "OpenAI's clients for Python and JavaScript, unmodified (pip and npm, into $(TARGET)/openai-client)"
	@$(TARGET)/openai-client/bin/python -c 'import openai' 2>/dev/null || (python3 -m venv $(TARGET)/openai-client && $(TARGET)/openai-client/bin/pip install --quiet openai==3.54.0)
	@test -d $(TARGET)/openai-client/node_modules/openai || npm install --silent --no-save --prefix $(TARGET)/openai-client openai@7.57.0
	cargo build $(ENGINE) --example tiny_base
	@rm -rf $(TARGET)/tiny-base && $(dir $(HONE))examples/tiny_base $(TARGET)/tiny-base 1024
	OPENAI_JS=$(TARGET)/openai-client $(TARGET)/openai-client/bin/python tests/openai_client.py $(HONE)
	OPENAI_JS=$(TARGET)/openai-client $(TARGET)/openai-client/bin/python tests/openai_client.py $(HONE) --engine native --base $(TARGET)/tiny-base

contract: build  ## a running hone against its own OpenAPI document
	$(say) "API against its OpenAPI document (schemathesis by pip, into $(TARGET)/contract)"
	@$(TARGET)/contract/bin/python -c 'import schemathesis' 2>/dev/null || (python3 -m venv $(TARGET)/contract && $(TARGET)/contract/bin/pip install --quiet schemathesis==4.32.5)
	$(TARGET)/contract/bin/python tests/contract.py $(HONE)

# Several GB of PyTorch, so it is no part of `make test`, where the Rust test golden_peft holds hone against numbers that PEFT made.
test-peft: build  ## exported policies against the real transformers and peft (pip installs several GB)
	$(say) "PEFT and transformers (pip, into $(TARGET)/peft)"
	@$(TARGET)/peft/bin/python -c 'import peft, transformers' 2>/dev/null || (python3 -m venv $(TARGET)/peft && $(TARGET)/peft/bin/pip install --quiet -r crates/learn/tests/golden_peft/requirements.txt)
	$(TARGET)/peft/bin/python tests/peft_client.py $(HONE)

e2e: build
	$(say) "Browser tests (Debian's Chromium)"
	@scripts/ensure-chromium
	cargo build $(ENGINE) --example tiny_base
	cd web && HONE_BIN=$(abspath $(HONE)) npm run e2e

openapi: web/node_modules/.package-lock.json  ## write the API snapshot again, and the web's types from it
	UPDATE_OPENAPI=1 cargo test --test integration openapi
	cd web && npm run types

deny:  ## licences, duplicates and sources of dependencies (needs cargo-deny)
	cargo deny check bans licenses sources

bench-check:  ## checks of what the benchmarks conclude from their figures
	python3 benches/training/check.py
bench-sft:  ## SFT steps against torch, as JSON (these: benches/training/README.md)
	@$(BENCH) sft $(ARGS)
bench-reward:  ## reward-model steps against torch
	@$(BENCH) reward $(ARGS)
bench-rollout:  ## sampling against transformers
	@$(BENCH) rollout $(ARGS)
bench-ppo:  ## PPO iterations against TRL
	@$(BENCH) ppo $(ARGS)
bench-curves:  ## reward over time against TRL, three seeds (hours)
	@$(BENCH) curves $(ARGS)
bench-scaling:  ## time and memory at 1, 2, 4 times batch, length, rank
	@$(BENCH) scaling $(ARGS)
bench-peak:  ## each phase's share of the machine's matmul peak
	@$(BENCH) peak $(ARGS)
bench-serving:  ## tokens/s and time to the first token: ARGS="--model DIR --engines native,mistral" (benches/serving/README.md)
	python3 benches/serving/run.py --hone $(HONE) $(ARGS)
bench-swap:  ## a thousand swaps under load: ARGS="--data DIR --base NAME"
	python3 benches/serving/swap.py --hone $(HONE) $(ARGS)
bench-idle:  ## clients beside 1,000 streams that nobody reads: ARGS="--model DIR"
	python3 benches/serving/idle.py --hone $(HONE) $(ARGS)

bench-overhead:  ## requests/s and what hone adds to the engine; ARGS="--model DIR" for a real one
	cargo bench -q --bench overhead -- $(ARGS)

clean:  ## remove what was built; keeps your data folder
	cargo clean
	rm -rf web/node_modules web/dist
