# Everything here works in .venv below this folder and in temporary folders, and changes nothing else on the machine.
# System packages are never installed; what is missing is named with the command to get it.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: venv check-machine demo test lint guards bench fuzz reproduce wheel clean

venv: $(READY)

$(READY): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv is missing: apt-get install python3-venv, or emerge dev-lang/python[ensurepip]"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

check-machine: venv
	@$(VENV)/bin/python -m tests.throwaway check

demo: check-machine
	$(VENV)/bin/python -m tests.demo

test: check-machine
	$(VENV)/bin/python -m pytest

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Takes each guard out of MODULES, one at a time: does a test notice?
MODULES ?= $(wildcard portage_p2pbin/kernel/*.py)
guards: venv
	$(VENV)/bin/python -m tests.guards $(MODULES)

# Everything that is measured, in its short form: figure, goal, met or not.
bench: venv
	$(VENV)/bin/python -m bench

# Changes packages at random for SECONDS: is each change refused or hashed?
SECONDS ?= 60
fuzz: venv
	$(VENV)/bin/python -m tests.fuzz_packages $(SECONDS)

# Real upstream projects, each built twice in surroundings as different as can be: is the contents digest equal?  As root, and ONLY="hello tree".
reproduce: check-machine
	$(VENV)/bin/python -m bench.reproduce $(ONLY)

wheel: venv
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
