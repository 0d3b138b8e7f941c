# Everything a person needs, each target setting up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# CUDA=0 leaves out NVIDIA's libraries, for those who put a CPU build of torch into .venv first (see README).
CUDA ?= 1
# Folders of recordings that make bench measures on, and its other arguments.
CORPUS ?= data/demo
ARGS ?= --profile --sounds
RESOLVE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help setup repro test check lint bench starts ui lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv and install the pinned, hashed lock

$(STAMP): requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "$(PYTHON): expected Python 3.11 or newer, found %d.%d; run make PYTHON=python3.12 or similar" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) (about 2 minutes and 5 GB the first time)"
	@awk -v cuda=$(CUDA) '/^[a-z0-9]/ { keep = cuda != "0" || $$0 !~ /^(nvidia-|cuda-|triton)/ } keep' requirements/lock.txt > $(VENV)/lock.txt
	@$(PIP) install --require-hashes -r $(VENV)/lock.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

repro: $(STAMP) ## run the pipeline on corpus.path and say what came out
	@$(BIN)/python -m stages.repro

test: $(STAMP) ## run the tests
	@$(BIN)/python -m pytest

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: lint test ## lint, format check, types and tests

bench: $(BENCH_STAMP) ## measure the codec beside its peers: CORPUS="folder..." ARGS="--full --memory ..."
	@$(BIN)/python -m benchmarks $(CORPUS) $(ARGS)

# ViSQOL's dependency libsvm-official has no wheel for Linux: a C++ compiler builds it.
$(BENCH_STAMP): $(STAMP) requirements/bench.txt
	@$(PIP) install --no-build-isolation --require-hashes -r requirements/bench.txt
	@touch $(BENCH_STAMP)

starts: $(STAMP) ## let the decoder's start practise on (an hour); SEED=n for other sounds
	@$(BIN)/python -m distill.pretraining.codec 24000 80 $${SEED:-2}
	@$(BIN)/python -m distill.pretraining.codec 48000 20 $${SEED:-2}

ui: $(STAMP) ## open the MLflow UI on the runs at http://127.0.0.1:5000
	@$(BIN)/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --default-artifact-root mlruns --host 127.0.0.1 --port $${PORT:-5000}

lock: $(STAMP) ## resolve requirements/*.in again (needs uv)
	@$(RESOLVE) requirements/lock.in -o requirements/lock.txt
	@$(RESOLVE) requirements/bench.in --constraints requirements/lock.txt -o requirements/bench.txt

clean: ## remove what the pipeline made, keep the environment
	@rm -rf artifacts models .distill
