# Everything a person needs, each target setting up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOL_TESTS := tests/unit/benchmarks tests/unit/pretraining
BENCH_STAMP := $(VENV)/.bench-installed
JUDGE_STAMP := $(VENV)/.judge-installed
PEERS_VENV := .venv-peers
PEERS_STAMP := $(PEERS_VENV)/.installed
PACKAGES := $(BIN)/python requirements/packages.py
# Not where the stamp says: commands in .venv begin with the path of their Python, and do not run, or run another one.
MOVED := $(shell [ ! -s $(STAMP) ] || [ "$$(cat $(STAMP))" = "$$(cd $(VENV) && pwd -P)" ] || echo yes)
# CUDA=0 leaves out NVIDIA's libraries, for those who put a CPU build of torch into .venv first (see docs/guide.md).
CUDA ?= 1
# Folders of recordings that make bench and make check-memory measure on, and their other arguments.
CORPUS ?=
ARGS ?=

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# The first import of a dependency compiles it. Where that were not kept, each process would compile PyTorch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro test check-tools lint reference docs check faults check-page check-wheel check-memory bench judge listen pretrain experiments mlflow ui page lock wheel release clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## create .venv and install the pinned, hashed lock; CUDA=0 without NVIDIA's libraries

# The stamp is written last: a set-up that was interrupted or failed runs again.
$(STAMP): requirements/lock.txt requirements/packages.py requirements/dvc.pth pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "$(PYTHON): expected Python 3.11 or newer, found %d.%d; run make PYTHON=python3.12 or similar" % v[:2])'
	@$(if $(MOVED),echo "this project was moved or copied: $(VENV) is set up again"; $(PYTHON) -m venv --clear $(VENV))
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) (a minute or less, 5 GB)"
	@$(PACKAGES) install $(if $(filter 0,$(CUDA)),--without-cuda) requirements/lock.txt
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import shutil, sysconfig; shutil.copy("requirements/dvc.pth", sysconfig.get_path("purelib"))'
	@(cd $(VENV) && pwd -P) > $(STAMP)

ifneq ($(MOVED),)
.PHONY: $(STAMP)
endif

repro: $(STAMP) ## run the pipeline on corpus.path and say what came out; PULL=0 takes nothing from DVC's remote
	@$(BIN)/python -m stages.repro $(if $(filter 0,$(PULL)),--no-pull)

test: $(STAMP) ## run the tests
	@$(BIN)/python -m pytest -n $(or $(JOBS),auto) --ignore=tests/ui $(TOOL_TESTS:%=--ignore=%)

check-tools: $(JUDGE_STAMP) ## run the tests of make bench, judge, check-memory and pretrain, which users need not run
	@$(BIN)/python -m pytest -n $(or $(JOBS),auto) $(TOOL_TESTS)

faults: $(STAMP) ## tests of all faults, and an hour of fuzzing for each format (many hours): ARGS="--minutes 5"
	@$(BIN)/python -m pytest -n $(or $(JOBS),auto) --exhaustive tests/faults tests/pipeline tests/unit/audio $(ARGS)

check-page: $(STAMP) ## drive the page in Chromium, where there is one (minutes)
	@$(BIN)/python -m pytest tests/ui

lint: $(STAMP) ## lint, format check, types and plain English
	@$(BIN)/python -m docs.prose
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy distill_command.py requirements/packages.py requirements/release.py tests/wheel/check.py examples/play.py examples/play_onnx.py

reference: $(STAMP) ## write the pages on commands, settings and Python again from the code
	@$(BIN)/python -m docs.reference

docs: $(STAMP) ## build the documentation into docs/_build/html; broken links fail
	@$(BIN)/python -m sphinx -n -W --keep-going -q -E -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

check: lint docs test check-tools ## lint, types, documentation and tests

wheel: $(STAMP) ## build wheel and sdist into dist, the same bytes of the same commit
	@rm -rf dist
	@$(BIN)/python -m hatchling build

release: $(STAMP) ## make a release as far as a registry: what it lacks, and the files, the same bytes twice
	@$(BIN)/python requirements/release.py

check-wheel: wheel ## install the wheel into a fresh environment and let it learn, generate and verify
	@$(BIN)/python tests/wheel/check.py dist/*.whl

check-memory: $(STAMP) ## seven points that a memory is accepted by: CORPUS=folder ARGS="--steps 2000 ..."
	@$(BIN)/python -m benchmarks.acceptance $(CORPUS) $(ARGS)

bench: $(BENCH_STAMP) $(if $(findstring --peers,$(ARGS)),$(JUDGE_STAMP) $(PEERS_STAMP)) ## measure codec, prior and speed beside others: CORPUS="folder..." ARGS="--full --prior ..."
	@$(BIN)/python -m benchmarks $(or $(CORPUS),$(if $(ARGS),,data/demo)) $(ARGS)

judge: $(JUDGE_STAMP) ## compare a model's sounds with held-out recordings by features of others: ARGS="FILE --count 64"
	@$(BIN)/python -m benchmarks.judge $(or $(ARGS),models/demo.distill)

# ViSQOL's dependency libsvm-official has no wheel for Linux: a C++ compiler builds it.
$(BENCH_STAMP) $(JUDGE_STAMP): $(VENV)/.%-installed: $(STAMP) requirements/%.txt
	@$(PACKAGES) install $(if $(filter 0,$(CUDA)),--without-cuda) requirements/$*.txt
	@touch $@

# An environment of its own: RAVE is pinned to an older PyTorch, NumPy and SciPy, and these to Python 3.11.
$(PEERS_STAMP): $(STAMP) requirements/peers.txt
	@$(BIN)/python -c 'import sys; v = sys.version_info; sys.exit(None if v[:2] == (3, 11) else "$(PEERS_VENV): expected Python 3.11, which RAVE needs, found %d.%d; run make PYTHON=python3.11 setup first" % v[:2])'
	@$(BIN)/python -m venv --clear $(PEERS_VENV)
	@echo "installing RAVE and a diffusion model into $(PEERS_VENV) (minutes, 5 GB)"
	@$(PEERS_VENV)/bin/python requirements/packages.py install requirements/peers.txt
	@touch $@

listen: $(STAMP) ## two pages to listen blind: original or decoded, recorded or made; ARGS="--model FILE --folder DIR"
	@$(BIN)/python -m benchmarks.listen $(ARGS)

pretrain: $(STAMP) ## make the shipped weights again, on synthetic sounds (hours); goes on where it was stopped: PART=decoder or prior, SEED=n
ifneq ($(PART),prior)
	@$(BIN)/python -m pretraining.codec 24000 56 $(or $(SEED),2)
	@$(BIN)/python -m pretraining.codec 44100 24 $(or $(SEED),2)
endif
ifneq ($(PART),decoder)
	@$(BIN)/python -m pretraining.prior $(or $(COLLECTIONS),800) $(or $(EPOCHS),64) $(or $(SEED),0)
endif

experiments: $(STAMP) ## compare DVC's experiments, the last commit and your last run: bits per second of held-out audio
	@$(BIN)/python -m stages.ops.comparison

mlflow: $(STAMP) ## serve MLflow's table and charts of all runs at http://127.0.0.1:5000; PORT=5001 takes another port
	@$(BIN)/python -m stages.mlflow_page

ui: $(STAMP) ## the same as make mlflow; the page to train, generate and compare in a browser is make page
	@echo "make ui is make mlflow, which shows runs; to train and generate in a browser: make page"
	@$(BIN)/python -m stages.mlflow_page

page: $(STAMP) ## open the page to train, generate and compare in a browser; ARGS="--port 7860 --folder DIR"
	@$(BIN)/distill ui --open $(ARGS)

lock: $(STAMP) ## resolve requirements/*.in again, keeping the versions that still fit
	@$(PACKAGES) resolve requirements/lock.in requirements/lock.txt
	@$(PACKAGES) resolve requirements/bench.in requirements/bench.txt --constraints requirements/lock.txt
	@$(PACKAGES) resolve requirements/judge.in requirements/judge.txt --constraints requirements/lock.txt
	@$(PACKAGES) resolve requirements/peers.in requirements/peers.txt

clean: $(STAMP) ## name and remove what the pipeline made and can make again; other models and the environment stay
	@rm -rf dist docs/_build
	@$(BIN)/python -m stages.ops.clean
