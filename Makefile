# `make demo` and `make test` do all the set-up they need, in .venv. What they run without make stands in the README.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint slow faults clean

demo: .venv/.installed
	$(BIN)/sep-batch demo

test: .venv/.tested lint
	$(BIN)/python -m pytest

lint: .venv/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

slow: .venv/.tested
	$(BIN)/python -m pytest -m slow

faults: .venv/.tested
	$(BIN)/python -m pytest -m 'slow or not slow' tests/faults tests/hostile

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "sep-batch needs Python 3.11 to 3.13, found $$($(PYTHON) --version 2>&1); name one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "this Python has no venv module; install it (Debian, Ubuntu: apt install python3-venv) or name another Python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
