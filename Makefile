# Everything that is done here more than once. `make` lists the targets; none needs another one to be run first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# The interpreter of the virtual environment; `make PYTHON=/path/to/python3.12 demo` names another one.
PYTHON ?=
# Passed on: `make demo ARGS="--once --json"`, `make unit ARGS="-k codec"`.
ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# The lock is complete, so nothing is left to resolve: a newer release of anything can never change what is installed.
INSTALL := $(PIP) install --quiet --no-deps --require-hashes --only-binary :all:
PYTEST := $(BIN)/python -m pytest
LOCK := $(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock"
# One stamp per set of packages: written after the installation, older than the lock file as soon as that changes.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
WARM := $(VENV)/.warm

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(WARM) ## replay, train and predict on this machine, no Kafka needed (ARGS="--once --json")
	@$(BIN)/lapwing demo $(ARGS)

.PHONY: test
test: $(DEV) $(WARM) ## every test: unit, unit-nojit, contract, integration, faults; says the seconds of each
	@failed=0; table=; for part in unit unit-nojit contract integration faults; do \
	  start=$$SECONDS; result=passed; \
	  $(MAKE) $$part || { result=FAILED; failed=1; }; \
	  table+=$$(printf '%-12s %5d s  %s' "$$part" $$((SECONDS - start)) "$$result")$$'\n'; \
	done; printf '\n%s' "$$table"; exit $$failed

.PHONY: unit
unit: $(DEV) $(WARM) ## unit tests, compiled kernels (ARGS="-k codec")
	@$(PYTEST) tests/unit $(ARGS)

.PHONY: unit-nojit
unit-nojit: $(DEV) ## unit tests, kernels as plain Python
	@NUMBA_DISABLE_JIT=1 $(PYTEST) tests/unit $(ARGS)

.PHONY: contract
contract: $(DEV) $(WARM) ## one battery over all detectors and all schemas
	@$(PYTEST) tests/contract $(ARGS)

.PHONY: integration
integration: $(DEV) $(WARM) ## on a real Kafka and registry; skipped, loudly, without them (REQUIRE_KAFKA=1: an error)
	@$(PYTEST) tests/integration $(ARGS)

.PHONY: faults
faults: $(DEV) $(WARM) ## the fault table on a real Kafka: a part of it, or ARGS="--quick --json FILE", ARGS=--full
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: mutants
mutants: $(DEV) $(WARM) ## plant mistakes into a copy, one by one, and see which fault row notices (ARGS="--json FILE")
	@$(BIN)/python -m tests.faults.mutants $(ARGS)

.PHONY: bench
bench: $(DEV) $(WARM) ## speed and memory: kernels against scikit-learn, the services on a real Kafka
	@$(BIN)/python -m benchmarks.scoring
	@$(BIN)/python -m benchmarks.services $(ARGS)

.PHONY: coverage
coverage: $(DEV) ## unit tests as plain Python, with the lines and branches that they miss
	@NUMBA_DISABLE_JIT=1 $(PYTEST) tests/unit --cov --cov-report=term-missing:skip-covered $(ARGS)

.PHONY: compose-test
compose-test: $(DEV) ## build the image, run the compose stack, scale it, kill a part, restart it (needs a Docker engine)
	@COMPOSE_TEST=1 $(PYTEST) tests/compose -s $(ARGS)

.PHONY: lint
lint: $(DEV) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: $(DEV) ## ruff: repair what it can, format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: types
types: $(DEV) ## mypy, strict
	@$(BIN)/mypy

.PHONY: install
install: $(DEV) $(WARM) ## everything into .venv, for work on the code

.PHONY: lock
lock: $(DEV) ## write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(LOCK) pyproject.toml --extra report --output-file requirements/runtime.txt $(ARGS)
	@$(LOCK) --group build --constraint requirements/runtime.txt --output-file requirements/build.txt $(ARGS)
	@$(LOCK) pyproject.toml --extra report --group build --group test --group dev --constraint requirements/runtime.txt \
	  --constraint requirements/build.txt --output-file requirements/dev.txt $(ARGS)

.PHONY: clean
clean: ## remove what the targets above made (not models/, state/ and data/)
	@rm -rf $(VENV) build dist out .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	@find . -path ./.git -prune -o -name __pycache__ -type d -print0 | xargs -0r rm -rf

$(BIN)/python:
	@found=; tried=; for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	  version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  tried+=" $$candidate is $$version,"; \
	  case $$version in 3.11 | 3.12 | 3.13) ;; *) continue ;; esac; \
	  "$$candidate" -c 'import ensurepip, venv' 2>/dev/null || { tried+=" without venv,"; continue; }; \
	  found=$$candidate; break; \
	done; \
	[[ -n $$found ]] || { echo "Lapwing needs Python 3.11, 3.12 or 3.13 with venv;$${tried:- none found,} so install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }; \
	echo "creating $(VENV) with $$found ($$("$$found" -c 'import platform; print(platform.python_version())'))"; \
	"$$found" -m venv --clear $(VENV)

$(RUNTIME): requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing requirements/runtime.txt"
	@$(INSTALL) -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME) | $(BIN)/python
	@echo "installing requirements/dev.txt"
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

$(WARM): $(wildcard shared/kernels/*.py) $(RUNTIME)
	@echo "compiling the kernels"; rm -rf shared/kernels/__pycache__; $(BIN)/python -m shared.kernels
	@touch $@
