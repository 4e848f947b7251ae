# `make demo` and `make test` install everything they need: in .venv, and in .venv-swift and .azurite the servers with which the
# tests emulate S3 and Azure. The README has the same commands without make.

PYTHON ?= python3
BIN := .venv/bin
AZURITE := 3.35.0

.PHONY: demo test lint docs slow faults gpu pictures swift azurite clean

demo: .venv/.installed
	$(BIN)/sep-batch demo

test: .venv/.tested .venv-swift/.installed .azurite/.installed lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: .venv/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site of docs/, to be opened from the disk: build/docs/index.html. SEP_BATCH_REPOSITORY_URL is described in docs/conf.py.
docs: .venv/.docs
	@rm -rf build/docs build/doctrees
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --doctree-dir build/doctrees docs build/docs

slow: .venv/.tested .venv-swift/.installed .azurite/.installed
	$(BIN)/python -m pytest -m slow

faults: .venv/.tested .venv-swift/.installed .azurite/.installed
	$(BIN)/python -m pytest -m 'slow or not slow' tests/faults tests/hostile

# On a machine with a GPU: three parts, of at most seven minutes each, into build/accept.json and build/accept.md.
gpu: .venv/.tested
	@mkdir -p build/accept
	@code=0; for part in 1 2 3; do \
		$(BIN)/python tests/gpu/accept.py --part $$part --json build/accept.json --work build/accept || code=$$?; \
	done; exit $$code

# The pictures of the README and the docs, drawn from real runs. Needs Linux.
pictures: .venv/.pictures
	$(BIN)/python docs/pictures/spectrograms.py
	$(BIN)/python docs/pictures/record_terminal.py

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
		{ echo "sep-batch needs Python 3.11 to 3.14, found $$($(PYTHON) --version 2>&1); name one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "this Python has no venv module; install it (Debian, Ubuntu: apt install python3-venv) or name another Python"; exit 1; }
	$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt uv && \
		$(BIN)/uv pip install --python .venv --torch-backend auto --constraint constraints.txt --editable . || \
		{ echo "the torch for this machine could not be installed by uv from PyTorch's own index;" \
			"installing the package index's, which has CUDA's libraries (5 GB)" >&2; \
		$(BIN)/python -m pip install --constraint constraints.txt --editable .; }
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,cluster]'
	touch $@

.venv/.pictures: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pictures]'
	touch $@

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

swift: .venv-swift/.installed

# If the installation fails, the tests run against moto's mock and report that; the next make retries.
.venv-swift/.installed: infra/object-store/requirements.txt | .venv/.installed
	@rm -rf .venv-swift
	@{ $(BIN)/python -m venv --without-pip .venv-swift && \
		$(BIN)/python -m pip --python .venv-swift/bin/python install --quiet --requirement $< && touch $@; } || \
		{ rm -rf .venv-swift; echo "Swift, the S3 server of the tests, could not be installed: the tests will run against a mock" >&2; }

azurite: .azurite/.installed

# Needs Node.js. If the installation fails, the tests of az:// are skipped and report that; the next make retries.
.azurite/.installed: Makefile
	@rm -rf .azurite
	@mkdir .azurite
	@{ npm install --prefix .azurite --no-save --no-audit --no-fund --silent azurite@$(AZURITE) && touch $@; } || \
		{ rm -rf .azurite; echo "Azurite, the Azure server of the tests, could not be installed: tests of az:// will be skipped" >&2; }

clean:
	rm -rf .venv .venv-swift .azurite demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
