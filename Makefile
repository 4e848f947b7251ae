# `make demo` and `make test` do all the set-up they need, in .venv and, for the servers of the tests that stand for S3 and
# Azure, in .venv-swift and .azurite.
# What they run without make stands in the README.

PYTHON ?= python3
BIN := .venv/bin
AZURITE := 3.35.0

.PHONY: demo test lint slow faults swift azurite clean

demo: .venv/.installed
	$(BIN)/sep-batch demo

test: .venv/.tested .venv-swift/.installed .azurite/.installed lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: .venv/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

slow: .venv/.tested .venv-swift/.installed .azurite/.installed
	$(BIN)/python -m pytest -m slow

faults: .venv/.tested .venv-swift/.installed .azurite/.installed
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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,cluster]'
	touch $@

swift: .venv-swift/.installed

# Where it cannot be installed, the tests take moto's mock and say so; the next make tries again.
.venv-swift/.installed: infra/object-store/requirements.txt | .venv/.installed
	@rm -rf .venv-swift
	@{ $(BIN)/python -m venv --without-pip .venv-swift && \
		$(BIN)/python -m pip --python .venv-swift/bin/python install --quiet --requirement $< && touch $@; } || \
		{ rm -rf .venv-swift; echo "Swift, the S3 server of the tests, could not be installed: they will run against a mock" >&2; }

azurite: .azurite/.installed

# It needs Node.js. Where it cannot be installed, the tests of az:// are skipped and say so; the next make tries again.
.azurite/.installed: Makefile
	@rm -rf .azurite
	@mkdir .azurite
	@{ npm install --prefix .azurite --no-save --no-audit --no-fund --silent azurite@$(AZURITE) && touch $@; } || \
		{ rm -rf .azurite; echo "Azurite, the tests' Azure Blob Storage, could not be installed: tests of az:// are skipped" >&2; }

clean:
	rm -rf .venv .venv-swift .azurite demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
