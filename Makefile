# One command for each thing a person does here. `make help` lists them; all can be repeated at no cost.
.DEFAULT_GOAL := help
.PHONY: help setup toolchain data build test chaos simulate lint demo bench-train bench-dp bench-sched gpu-bundle study study-data clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: ## install what is missing: compiler, libtorch (530 MB to download), lint tools
	@scripts/setup.sh

# What a build needs, and no more: nobody has to install lint tools to run the demo.
toolchain:
	@scripts/setup.sh build

data: toolchain ## fetch the example backbone and data sets into .data/ (40 MB)
	@scripts/backbone.sh
	@python3 examples/fetch_data.py

build: toolchain ## release binaries in target/release/
	cargo build --release --locked --bins

# The scenario tests start the real binaries. Built together with the tests, they share every dependency.
test: toolchain data ## every test, scenarios over real processes included
	@scripts/setup.sh test
	cargo build --workspace --bins --tests --locked
	cargo test --workspace --locked
	python3 -m unittest --quiet examples.study.test_report

MINUTES = 5
SEED = 4

chaos: toolchain ## kill coordinator and workers under load, and lose nothing: make chaos MINUTES=5
	cargo build --workspace --bins --tests --locked
	NETTAILOR_CHAOS_MINUTES=$(MINUTES) NETTAILOR_CHAOS_SEED=$(SEED) \
		cargo test --workspace --locked --test chaos -- --ignored --nocapture

# `cargo deny check advisories` is not here: it needs the advisory database from the internet. Run it before a release.
lint: setup ## formatting, clippy, licences and sources of dependencies, layers
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	.tools/bin/cargo-deny --log-level error check bans licenses sources
	scripts/check_layers.sh

SECONDS = 60
FROM = 1

# In the profile of the tests: a seed that breaks something here breaks it there.
simulate: toolchain ## histories in virtual time until a promise breaks: SECONDS=60 (0: for ever) FROM=1
	cargo build --workspace --bin simulate --locked
	target/debug/simulate --seconds $(SECONDS) --from $(FROM)

demo: data build ## train two tasks on this machine, from nothing to a published model
	scripts/demo.sh

STUDY = .nettailor/study
STUDY_PYTHON = .tools/study-python/bin/python

study-data: data ## make the study's images (200 MB to download, Debian packages)
	@scripts/study_python.sh
	@$(STUDY_PYTHON) -m examples.study.make_data

# A run like any other: after an interruption the same command goes on. A run that diverges is a result, too: the report
# names it (status 1 says that some job failed).
study: study-data build ## writes docs/results/method.md: some hours on two cores
	python3 -m examples.study.make_tasks
	target/release/nettailor-cli run examples/study/tasks.yaml --workers 2 --state $(STUDY) || [ $$? = 1 ]
	target/release/nettailor-cli registry report --local=$(STUDY) --output json >$(STUDY)/report.json
	$(STUDY_PYTHON) -m examples.study.report <$(STUDY)/report.json

# The same libtorch as ours, with Python around it: what the training step is compared with.
.bench/torch-2.11.0: | toolchain
	python3 -m venv --without-pip --clear .bench/venv
	python3 -m pip --python .bench/venv/bin/python install --quiet --no-cache-dir torch==2.11.0
	touch $@

bench-train: toolchain .bench/torch-2.11.0 ## speed of training and of tailored networks (downloads 3 GB once)
	cargo build --release --locked --example bench_train
	scripts/bench/train.py

bench-dp: toolchain ## what two ranks cost beside one process with two threads
	cargo build --release --locked --example bench_train
	scripts/bench/data_parallel.py

bench-sched: toolchain ## the coordinator under load: stages, submissions, listings, deaths (most of an hour)
	cargo build --release --locked --bin nettailor-coordinator --bin nettailor-worker --bin nettailor-load
	scripts/bench/sched.py

gpu-bundle: data build ## a folder to take to a machine with a GPU: binaries, check.sh, small data
	cargo build --release --locked --example bench_train
	scripts/gpu_bundle.sh

clean: ## remove what was built and run; downloads (.libtorch .data .tools .bench) stay
	cargo clean
	rm -rf .nettailor
