# Everything runs in .venv, which the first target to need it creates.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test soak check fix docs bench reliability clean

demo: .venv/.run  ## the quickstart, against the package's own local server: no key, no network
	$(BIN)/python examples/quickstart.py

test: .venv/.dev  ## every test, a real llama-server among them
	$(BIN)/python -m pytest

soak: .venv/.dev  ## ten thousand calls on one client, and fifty times as many broken streams
	SOAK_CALLS=10000 HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -s tests/test_soak.py tests/test_properties.py

check: .venv/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes modelslab_llm --ignoreexternal

fix: .venv/.dev  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv-docs/.made  ## the documentation site, in site/html; needs Python 3.11 or newer
	.venv-docs/bin/python -m doctest docs/docstrings.py
	.venv-docs/bin/python docs/build.py

bench: .venv-bench/.made  ## against bare httpx and the anthropic SDK, in one run
	.venv-bench/bin/python -m benchmarks

reliability: .venv-bench/.made  ## the fault matrix, beside the anthropic SDK; ROW=… for one row
	cd tests && ../.venv-bench/bin/python -m matrix $(if $(ROW),'$(ROW)')

.venv-bench/.made: pyproject.toml benchmarks/requirements.txt
	rm -rf .venv-bench
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[aiohttp]' --requirement benchmarks/requirements.txt
	touch $@

.venv-docs/.made: pyproject.toml
	rm -rf .venv-docs
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --group docs
	touch $@

clean:
	rm -rf .venv .venv-bench .venv-docs site .cache dist .mypy_cache .ruff_cache

# --group needs pip 25.1 or newer, which older Pythons do not bundle.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.venv/.made:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade 'pip>=25.1'
	touch $@

.venv/.run: pyproject.toml | .venv/.made
	$(PIP) --editable .
	touch $@

.venv/.dev: pyproject.toml | .venv/.made
	$(PIP) --editable . --group dev
	$(PIP) --group llama || echo 'No llama-server for this machine: its tests will skip, and say why.'
	touch $@
