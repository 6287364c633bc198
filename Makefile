# All that a newcomer runs. Every target sets up what it needs, again only when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The clouds' providers can't be installed beside the newest versions of everything else.
CLOUDS := $(VENV)-clouds
CLOUDS_INSTALLED := $(CLOUDS)/.installed
# The lowest supported Airflow, with what there was when it was the newest: what it needs has moved on since.
FLOOR := $(VENV)-floor
FLOOR_INSTALLED := $(FLOOR)/.installed
FLOOR_AIRFLOW := 3.2.0
FLOOR_DAY := 2026-05-01
# Most tests wait for something. The tests of a file share servers, so they stay together.
PARALLEL := --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup lint test test-airflow test-clouds test-floor demo bench constraints clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv with everything in it

lint: $(INSTALLED) ## Check format, style, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(INSTALLED) ## Run the tests, against real registries and a real Airflow; ARGS="-k copy" goes to pytest
	$(BIN)/python devtools/install.py registry skopeo docker-compose postgres
	$(BIN)/python -m pytest $(PARALLEL) -m "not more_airflow" $(ARGS)

test-airflow: $(INSTALLED) ## Run more tests with a real Airflow, which take minutes: events, retries, messages, metrics
	$(BIN)/python devtools/install.py registry skopeo
	$(BIN)/python -m pytest $(PARALLEL) -m more_airflow $(ARGS)

test-clouds: $(CLOUDS_INSTALLED) ## Run the tests of the clouds' logins, in .venv-clouds
	$(CLOUDS)/bin/python devtools/install.py registry
	$(CLOUDS)/bin/python -m pytest $(or $(ARGS),tests/clouds)

test-floor: $(FLOOR_INSTALLED) ## Run a smoke test with the lowest supported Airflow, in .venv-floor
	$(FLOOR)/bin/python devtools/install.py registry skopeo
	$(FLOOR)/bin/python -m pytest $(or $(ARGS),tests/floor tests/test_provider_info.py tests/test_dags.py)

demo: $(INSTALLED) ## Run the nightly sync between two local registries, twice; UI=1 ends in Airflow's web UI
	$(BIN)/python -m demo $(if $(filter-out 0,$(UI)),--ui)

bench: $(INSTALLED) ## Measure time, memory and requests, beside other programs on PATH; PUBLISH=1 updates README
	$(BIN)/python -m benchmarks $(if $(filter-out 0,$(PUBLISH)),--publish) $(ARGS)

COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
    --custom-compile-command "make constraints" pyproject.toml

constraints: ## Pin the newest versions that fit, in constraints*.txt (needs uv)
	$(COMPILE) --extra dev --output-file constraints.txt
	$(COMPILE) $(addprefix --extra ,dev dev-clouds amazon google microsoft-azure alibaba) \
	    --output-file constraints-clouds.txt
	echo 'apache-airflow==$(FLOOR_AIRFLOW)' | $(COMPILE) - --extra dev --exclude-newer $(FLOOR_DAY) \
	    --output-file constraints-floor.txt

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(CLOUDS) $(FLOOR) .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	$(environment)
	@$(install) --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(CLOUDS_INSTALLED): pyproject.toml constraints-clouds.txt
	$(environment)
	@$(install) --constraint constraints-clouds.txt --editable '.[dev,dev-clouds,amazon,microsoft-azure,alibaba]'
	@$(install) --constraint constraints-clouds.txt --no-deps apache-airflow-providers-google
	@touch $@

$(FLOOR_INSTALLED): pyproject.toml constraints-floor.txt
	$(environment)
	@$(install) --constraint constraints-floor.txt --editable '.[dev]'
	@touch $@

# The folder of the target is the environment.
define environment
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(@D); the first time this takes a few minutes."
	@if command -v uv >/dev/null; then \
	    test -x $(@D)/bin/python || uv venv --quiet --seed --no-python-downloads --python "$$(command -v $(PYTHON))" $(@D); \
	else \
	    test -x $(@D)/bin/pip || $(PYTHON) -m venv --clear $(@D) || \
	        { rm -rf $(@D); echo "Python's venv module is missing or broken; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	fi
endef

install = $(if $(shell command -v uv),uv pip install --quiet --python $(@D)/bin/python,\
    $(@D)/bin/python -m pip install --quiet --disable-pip-version-check)
