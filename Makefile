# Everything that is done here more than once. `make` lists the targets; none needs another one to be run first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# What is imported is compiled once and kept: packages are installed without bytecode, half of which nobody needs.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# The interpreter of the virtual environment; `make PYTHON=/path/to/python3.12 demo` names another one.
PYTHON ?=
# Passed on: `make demo ARGS="--once --json"`, `make unit ARGS="-k avro"`.
ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# The lock is complete, so nothing is resolved: a later release of any package changes nothing.
INSTALL := $(PIP) install --quiet --no-compile --no-deps --require-hashes --only-binary :all:
PYTEST := $(BIN)/python -m pytest
# Unit tests know nothing of one another: one process for each core.
SPREAD := --numprocesses=logical
LOCK := $(BIN)/uv pip compile --quiet --no-annotate --universal --python-version 3.11 \
  --fork-strategy fewest --generate-hashes --no-strip-extras --no-emit-index-url \
  --custom-compile-command "make lock"
# One stamp per set of packages: newer than its lock file once that is installed.
CORE := $(VENV)/.core
FULL := $(VENV)/.full
DEV := $(VENV)/.dev
WARM := $(VENV)/.warm
# The kernels are compiled while the other packages are installed.
READY := $(MAKE) --jobs=2 $(WARM)

# Parts of a longer target, one after the other whatever fails; says the seconds of each.
define parts
@failed=0; table=; for part in $(1); do \
  start=$$SECONDS; result=passed; \
  $(MAKE) "$$part" || { result=FAILED; failed=1; }; \
  table+=$$(printf '%-18s %5d s  %s' "$$part" $$((SECONDS - start)) "$$result")$$'\n'; \
done; printf '\n%s' "$$table"; exit $$failed
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## replay, train and predict on this machine, no Kafka needed (ARGS="--once --json")
	@$(READY) $(FULL)
	@$(BIN)/lapwing demo $(ARGS)

.PHONY: test
test: install ## a few minutes: unit, contract, and on a real Kafka the pipeline and a few faults
	$(call parts,unit contract pipeline few-faults)

.PHONY: test-rest
test-rest: install ## what `make test` leaves out: half an hour at most
	$(call parts,locks unit-nojit machine judges integration faults)

.PHONY: test-all
test-all: ## every test there is, but for compose-test and mutants
	$(call parts,test test-rest)

.PHONY: unit
unit: install ## unit tests, compiled kernels (ARGS="-k avro")
	@$(PYTEST) $(SPREAD) tests/unit $(ARGS)

# The rooms that have kernels of their own; what only calls them tells nothing new as plain Python.
KERNELS := decode encode ensemble features kafka kernels models quality scoring snapshots vocabulary

.PHONY: unit-nojit
unit-nojit: install ## unit tests of what has kernels, as plain Python
	@NUMBA_DISABLE_JIT=1 $(PYTEST) $(SPREAD) $(KERNELS:%=tests/unit/%) $(ARGS)

.PHONY: machine
machine: install ## long searches: the loop under 2,000 random sequences of events, entities that leave, a generic processor
	@LAPWING_MACHINE_EXAMPLES=2000 $(PYTEST) $(SPREAD) tests/unit/prediction/test_loop_machine.py \
	  tests/unit/ensemble/test_processors.py tests/unit/scoring/test_leaving.py $(ARGS)

.PHONY: contract
contract: install ## one battery over all detectors and all schemas
	@$(PYTEST) $(SPREAD) tests/contract $(ARGS)

.PHONY: page
page: $(DEV) ## the page in a real browser; needs Chromium or Chrome
	@$(INSTALL) -r requirements/browser.txt
	@$(PYTEST) tests/e2e $(ARGS)

.PHONY: locks
locks: install ## whether each pip installs the locked packages without resolving anything
	@$(PYTEST) $(SPREAD) tests/locks $(ARGS)

.PHONY: pipeline
pipeline: install ## the whole job on a real Kafka and registry, each result compared byte for byte
	@$(PYTEST) tests/integration/test_pipeline.py $(ARGS)

.PHONY: sinks
sinks: install ## results in PostgreSQL and OpenSearch, with kills; needs java, javac, mvn, Debian's postgresql-15
	@REQUIRE_KAFKA=1 REQUIRE_SINKS=1 $(PYTEST) tests/sinks $(ARGS)

.PHONY: integration
integration: install ## on a real Kafka and registry; skipped, loudly, without them (REQUIRE_KAFKA=1: an error)
	@$(PYTEST) $(SPREAD) --dist=loadfile tests/integration $(ARGS)

.PHONY: few-faults
few-faults: install ## four rows of the fault table
	@$(BIN)/python -m tests.faults --few $(ARGS)

.PHONY: faults
faults: install ## the fault table on a real Kafka: a part of it, or ARGS="--quick --json FILE", ARGS=--full
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: mutants
mutants: install ## plant mistakes into a copy, one by one, and see which fault row notices (ARGS="--json FILE")
	@$(BIN)/python -m tests.faults.mutants $(ARGS)

.PHONY: bench
bench: install ## speed and memory: kernels and other systems, the services on a real Kafka
	@$(BIN)/python -m benchmarks.scoring
	@$(BIN)/python -m benchmarks.parts
	@$(BIN)/python -m benchmarks.threads
	@$(BIN)/python -m benchmarks.codec
	@$(BIN)/python -m benchmarks.services $(ARGS)
	@$(BIN)/python -m benchmarks.throughput
	@$(BIN)/python -m benchmarks.avro_codec
	@$(BIN)/python -m benchmarks.output_format
	@$(BIN)/python -m benchmarks.scorers
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.latency
	@$(BIN)/python -m benchmarks.footprint
	@$(BIN)/python -m benchmarks.other_systems

.PHONY: judges
judges: install ## everyday situations and labelled traces keep what was reached (LAPWING_TRACES_DIR; ARGS=--write)
	@$(BIN)/python -m benchmarks.judges $(ARGS)

.PHONY: quality
quality: install ## all judges of detection in one table (ARGS="--against REVISION": another build beside this one)
	@$(BIN)/python -m benchmarks.quality $(ARGS)

.PHONY: coverage
coverage: install ## unit tests as plain Python, with the lines and branches that they miss
	@NUMBA_DISABLE_JIT=1 $(PYTEST) tests/unit --cov --cov-report=term-missing:skip-covered $(ARGS)

.PHONY: compose-test
compose-test: install ## build the image, run the compose stack, scale it, kill a part, restart it (needs a Docker engine)
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
install: ## everything into .venv, for work on the code
	@$(READY) $(DEV)

# The larger set is resolved once; the others are parts of it.
.PHONY: lock
lock: $(DEV) ## write requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(LOCK) pyproject.toml --extra train --extra dashboard --extra export --extra notify --extra route --group build --group test \
	  --group dev --output-file requirements/dev.txt $(ARGS)
	@$(LOCK) pyproject.toml --extra train --extra dashboard --extra export --extra notify --extra route \
	  --constraint requirements/dev.txt --output-file requirements/full.txt
	@$(LOCK) pyproject.toml --constraint requirements/dev.txt --output-file requirements/core.txt
	@$(LOCK) --group build --constraint requirements/dev.txt --output-file requirements/build.txt
	@$(LOCK) --group release --constraint requirements/dev.txt --output-file requirements/release.txt
	@$(LOCK) --group browser --constraint requirements/dev.txt --output-file requirements/browser.txt

# The same sources give the same bytes: every time in them is that of the last commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1577836800)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

SBOM = dist/lapwing-$(VERSION).cdx.json

.PHONY: sbom
sbom: install ## SBOM of requirements/full.txt with licences, hashes and dependencies: SBOM=FILE
	@mkdir -p $(dir $(SBOM)); folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/uv venv --quiet --no-project --python $(BIN)/python "$$folder/env" \
	&& $(BIN)/uv pip install --quiet --python "$$folder/env/bin/python" --no-deps --require-hashes \
	  --only-binary :all: --requirement requirements/full.txt \
	&& $(BIN)/uv run --quiet --no-project --python $(BIN)/python --isolated --with-requirements requirements/release.txt \
	  python deploy/sbom.py "$$folder/env/bin/python" $(SBOM)

.PHONY: release
release: install ## wheel, sdist, image (with a Docker engine), THIRD_PARTY.md and SBOM into dist/
	@rm -rf dist && mkdir -p dist
	@$(BIN)/python deploy/third_party.py dist/THIRD_PARTY.md
	@$(BIN)/hatchling build -t wheel -t sdist -d dist
	@$(MAKE) --no-print-directory sbom
	@if docker info >/dev/null 2>&1; then \
	  docker build --quiet --tag lapwing:$(VERSION) --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) . \
	  && docker save lapwing:$(VERSION) | gzip -n > dist/lapwing-$(VERSION)-image.tar.gz; \
	else echo "SKIPPED: no image, because there is no Docker engine" >&2; fi
	@cd dist && sha256sum -- * > SHA256SUMS && cat SHA256SUMS

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

$(CORE): requirements/core.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing requirements/core.txt (once)"
	@$(INSTALL) -r requirements/build.txt -r requirements/core.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(FULL): requirements/full.txt $(CORE) | $(BIN)/python
	@echo "installing requirements/full.txt (once)"
	@$(INSTALL) -r requirements/full.txt
	@touch $@

$(DEV): requirements/dev.txt $(FULL) | $(BIN)/python
	@echo "installing requirements/dev.txt"
	@$(INSTALL) -r requirements/dev.txt
	@$(BIN)/python -m compileall -q --workers 0 -x '/(tests|pip|mypy|setuptools)/' $(VENV)/lib || true  # tests start hundreds of processes
	@touch $@

$(WARM): $(wildcard shared/kernels/*.py shared/*/kernels/*.py shared/*/kernels/*/*.py shared/kafka/engine/native/kernels/*.py) $(CORE)
	@echo "compiling the kernels (once, a few minutes; a line for each module that took long)"
	@find shared benchmarks -name '*.nb[ci]' -delete  # the cache knows a kernel's own file only
	@$(BIN)/python -m shared.kernels
	@touch $@
