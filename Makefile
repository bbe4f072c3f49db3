# Every target works alone on a fresh machine with make, a python3 with venv, and a package index.
# The first call makes .venv and installs what the target needs; later calls find it there.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.15; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
MAKEFLAGS += --no-print-directory

.PHONY: help demo test test-newest test-user test-pythons test-integrations conformance faults fuzz switches soak soak-executor bench lint docs docs-test release-check clean

help:
	@echo "make demo          see it work"
	@echo "make test          the tests and the quick part of conformance, on one Python"
	@echo "make test-pythons  the tests of warmfork run, the start-up hook and what children import, on every Python found"
	@echo "make test-newest   the tests on the newest Python found, with PYTHONUNBUFFERED set"
	@echo "make test-user     the tests as another user than root (only root can do that)"
	@echo "make test-integrations   Dask, joblib and scikit-learn on warmfork, each with a real cluster or its own tests"
	@echo "make conformance   CPython's own tests on every Python found"
	@echo "make faults        everybody dies everywhere, on every Python found"
	@echo "make fuzz          an hour of nonsense from one process, and nobody else notices"
	@echo "make switches      conformance and faults with each technique off, on one Python"
	@echo "make soak-executor ten minutes of tasks whose workers die (SECONDS=60: of one minute)"
	@echo "make soak          a quarter of an hour of random deaths, and every answer checked"
	@echo "make bench         real programs, beside fork, spawn, loky and the stdlib's forkserver; and the goals"
	@echo "make lint          ruff, mypy and pyright"
	@echo "make docs          build the documentation into docs/_build/html; a warning is an error"
	@echo "make docs-test     run each snippet of the documentation, and check its links"
	@echo "make release-check build wheel and sdist, and try them in clean environments"
	@echo "make clean         remove the virtual environments and caches"

demo: $(VENV)/made-demo
	$(RUN) examples/demo.py

# The quick conformance first, so that the last line is pytest's. Whether Dask is installed by another target or not, its
# tests are test-integrations'.
test: $(VENV)/made-test
	$(RUN) -m tests.conformance --quick
	$(RUN) -m tests.parallel --ignore=tests/integrations

test-newest: $(VENV)/made-test
	$(RUN) -m tests.elsewhere newest

test-user: $(VENV)/made-test
	$(RUN) -m tests.elsewhere user

test-pythons: $(VENV)/made-test
	WARMFORK_TEST_PYTHONS=all $(RUN) -m pytest -q tests/cli/test_run.py tests/cli/test_default.py tests/mp/test_startup.py \
		tests/mp/test_child_imports.py

test-integrations: $(VENV)/made-integrations
	$(RUN) -m pytest -q tests/integrations
	$(RUN) -m tests.integrations.with_sklearn

conformance: $(VENV)/made-test
	$(RUN) -m tests.conformance

faults: $(VENV)/made-test
	$(RUN) -m tests.faults --python all

fuzz: $(VENV)/made-test
	$(RUN) -m tests.fuzz

switches: $(VENV)/made-test
	$(RUN) -m tests.switches

soak: $(VENV)/made-test
	$(RUN) -m tests.faults.soak

SECONDS ?= 600
soak-executor: $(VENV)/made-test
	$(RUN) -m tests.api.executor.chaos --seconds $(SECONDS)

bench: $(VENV)/made-bench
	$(RUN) bench/all.py

lint: $(VENV)/made-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --strict src
	WARMFORK_TEST_TYPES=1 $(RUN) -m pytest -q tests/typing

docs: $(VENV)/made-docs
	$(RUN) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

docs-test: $(VENV)/made-docs
	$(RUN) -m pytest -q tests/docs

# TESTS="tests/cli" tries fewer of the tests from the sdist; TESTS= none.
TESTS ?= tests
release-check: $(VENV)/made-release
	$(RUN) tools/release_check.py --tests "$(TESTS)"

clean:
	rm -rf .venv* build dist docs/_build docs/reference/cli.md docs/reference/environment.md .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench examples -name __pycache__ -prune -exec rm -rf {} +

# Dependency groups need pip 25.1.
$(RUN):
	@test -n "$(PYTHON)" || { echo "warmfork needs Python 3.11 or newer, and none was found: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) could not make a virtual environment: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(RUN) -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1" || { rm -rf $(VENV); exit 1; }

$(VENV)/made-%: pyproject.toml src/warmfork_startup.pth | $(RUN)
	$(RUN) -m pip install -q --disable-pip-version-check --group $* -e .
	@touch $@

.PRECIOUS: $(VENV)/made-%
