# `make demo` and `make test` need only Python 3.11 or newer, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo ui test lint clean

demo: $(STAMP)
	$(BIN)/nexuslims-pipeline demo --folder .demo

ui: $(STAMP)
	@test -f .demo/demo.env || $(BIN)/nexuslims-pipeline demo --folder .demo
	@echo "The portal of the demo: file://$(CURDIR)/.demo/data/portal/index.html"
	set -a; . ./.demo/demo.env; set +a; exec $(BIN)/dagster dev -w workspace.yaml

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The lock file holds the exact versions that were tried together.
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .demo
