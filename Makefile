# From nothing to a result: every target first makes what it needs.
# Only make, python3 and root (or sudo) must be there; the rest comes by apt and pip.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ROOT   := $(if $(filter 0,$(shell id -u)),,sudo env $(foreach v,CI LAB_CACHE,$(if $($(v)),$(v)='$($(v))')))

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test chaos lint unit fuzz bench format lock audit clean purge python machine venv installed

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

demo: machine venv  ## watch an attacker being banned, in a place apart from this machine
	@$(ROOT) $(BIN)/python -B -m tests.lab.demo

test: machine lint  ## everything: lint, types, and all tests, with private Engines
	@$(ROOT) $(BIN)/python -m pytest --durations=10 $(ARGS); code=$$?; \
		$(if $(ROOT),$(ROOT) chown -R --reference=Makefile . ;) exit $$code

chaos: machine installed  ## pull every plug for ROUNDS=200 rounds from SEED on, and count each line
	@$(ROOT) $(BIN)/python -B -m tests.chaos --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED)) \
		$(if $(ENGINES),--engines $(ENGINES))

lint: installed  ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: installed  ## the fast tests, which need nothing special
	@$(BIN)/python -m pytest -m "not engine and not e2e" $(ARGS)

fuzz: installed $(VENV)/fuzz  ## hostile bytes against every reader: make fuzz [TARGET=log] [RUNS=1000000]
	@$(BIN)/python -m tests.fuzz.run $(TARGET) $(if $(RUNS),--runs $(RUNS)) $(if $(SECONDS),--seconds $(SECONDS))

bench: machine installed $(VENV)/bench  ## all benchmarks, into benchmarks/RESULTS.md: make bench [BENCH=bench_matching] [ROUNDS=5] [CHECK=1]
	@$(ROOT) $(BIN)/python -B -m benchmarks.results $(BENCH) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CHECK),--check); \
		code=$$?; $(if $(ROOT),$(ROOT) chown -R --reference=Makefile benchmarks;) exit $$code

format: installed  ## put the source into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

lock:  ## take the newest allowed versions into the lock files
	@$(PYTHON) requirements/lock.py $(LOCK)

audit: python  ## ask about known weaknesses of all that is locked
	@$(PYTHON) requirements/audit.py

clean:  ## stop and remove the lab's Engines, namespaces and files
	@$(ROOT) $(PYTHON) -B -m tests.lab.engine

purge: clean  ## and everything that was kept to be faster: trees, wheels, .venv
	@$(ROOT) $(PYTHON) -B -m tests.lab.cache
	rm -rf $(VENV) .fuzz .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# -- what they need -----------------------------------------------------------

python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'

# programs: the Engine, debootstrap, ...; never starts a service
machine: python
	@$(PYTHON) -B -m tests.lab.machine check || $(ROOT) $(PYTHON) -B -m tests.lab.machine install

# an environment with pip; made anew when it does not work any more
venv: python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -B -m tests.lab.machine check python3-venv \
		|| $(ROOT) $(PYTHON) -B -m tests.lab.machine install
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)

installed: venv $(VENV)/installed
	@$(BIN)/python -c 'import pytest, dockerjail' 2>/dev/null || { rm $(VENV)/installed; $(MAKE) $(VENV)/installed; }

$(VENV)/installed: requirements/dev.txt pyproject.toml
	@echo "installing what requirements/dev.txt names"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/fuzz: requirements/fuzz.txt $(VENV)/installed
	@echo "installing what requirements/fuzz.txt names"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/fuzz.txt
	@touch $@

$(VENV)/bench: requirements/bench.txt $(VENV)/installed
	@echo "installing what requirements/bench.txt names"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/bench.txt
	@touch $@
