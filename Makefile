# `make demo` and `make test` work in a fresh clone: they make .venv when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo

export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test quality style bench smoke docs clean

help:  ## Show this list.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "retino needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV) (once; about two minutes, 6 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@# On all cores, where pip would take one. Some files of torch are for other versions of Python, and fail.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

demo: $(STAMP)  ## Draw photographs, train twice, evaluate, compare, and say where to look.
	@$(BIN)/python -m retino_cli.cli.demo $(DEMO)

test: $(STAMP)  ## Run all tests; those on real data where RETINO_REAL_DATA names its folder.
	@$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile

quality: $(STAMP)  ## Check style, types and the generated documentation.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python docs/make_cli.py --check

style: $(STAMP)  ## Repair what can be repaired by itself.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(STAMP)  ## Write docs/cli.md from the commands' help.
	@$(BIN)/python docs/make_cli.py

bench: $(STAMP)  ## Measure; writes docs/benchmarks.md. Some rows alone: make bench ONLY="help epoch".
	@$(BIN)/python -c 'import timm' 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	@$(BIN)/python -m benchmarks.run $(if $(ONLY),--only $(ONLY))

smoke: $(STAMP)  ## The quickest whole run: is anything broken?
	@$(BIN)/python -m retino_cli.cli.demo --smoke $(DEMO)-smoke

clean:  ## Remove the environment, the demo and caches.
	rm -rf $(VENV) $(DEMO) $(DEMO)-smoke .pytest_cache .mypy_cache .ruff_cache
