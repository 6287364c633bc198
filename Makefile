# All that a newcomer runs. Every target sets up what it needs, again only when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup lint test demo bench constraints clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv with everything in it

lint: $(INSTALLED) ## Check format, style, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(INSTALLED) ## Run all tests, against real registries; ARGS="-k copy" goes to pytest
	$(BIN)/python devtools/install.py registry skopeo docker-compose
	$(BIN)/python -m pytest $(ARGS)

demo: $(INSTALLED) ## Run the nightly sync between two local registries, twice; UI=1 ends in Airflow's web UI
	$(BIN)/python -m demo $(if $(filter-out 0,$(UI)),--ui)

bench: $(INSTALLED) ## Measure time, memory and requests, beside skopeo where it is installed
	$(BIN)/python -m benchmarks $(ARGS)

constraints: ## Pin the newest versions that fit, in constraints.txt (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --no-annotate \
	    --custom-compile-command "make constraints" --output-file constraints.txt pyproject.toml

clean: ## Remove what the other targets made
	rm -rf $(VENV) .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(VENV); the first time this takes a few minutes."
	@if command -v uv >/dev/null; then \
	    test -x $(BIN)/python || uv venv --quiet --seed --no-python-downloads --python "$$(command -v $(PYTHON))" $(VENV) && \
	    uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
	    test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || \
	        { rm -rf $(VENV); echo "Python's venv module is missing or broken; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@
