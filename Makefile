# make demo    train the tiny policy on the procedural benchmark, about ten minutes; report in $(WORKDIR)/report.html
# make test    run the tests
# make lint    run the linter
# make docs    build the documentation: docs/_build/html/index.html
# make clean   remove what these made, except runs/
# Each sets up $(VENV) first, and again when its lock file changes.
# ARGS go to the program: make demo ARGS=--config.seed=1

PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/demo
ARGS ?=
PIP = $(VENV)/bin/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test lint docs clean

demo: $(VENV)/demo.stamp
	$(VENV)/bin/python main.py --config=configs/seg.py --workdir='$(WORKDIR)' $(ARGS)

test: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -q -n 2 $(ARGS)

lint: $(VENV)/test.stamp
	$(VENV)/bin/python -m ruff check . $(ARGS)

docs: $(VENV)/docs.stamp
	JAX_PLATFORMS=cpu $(VENV)/bin/python -m sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)

clean:
	rm -rf '$(VENV)' build dist docs/_build docs/api docs/more dtr1_jax.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find dtr1_jax configs experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/demo.stamp: requirements/demo.txt
$(VENV)/test.stamp: requirements/demo.txt requirements/test.txt
$(VENV)/docs.stamp: requirements/demo.txt requirements/docs.txt
$(VENV)/%.stamp: setup.py pyproject.toml | $(VENV)/bin/python
	@echo "Installing requirements/$*.txt into $(VENV), a minute or more"
	@$(PIP) install -r requirements/$*.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

# A half-made environment is removed, so that the next call starts afresh.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
		"Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is %d.%d. Install one and name it: make PYTHON=python3.12 ..." \
		% sys.version_info[:2])'
	@$(PYTHON) -m venv --clear '$(VENV)' || { rm -rf '$(VENV)'; exit 1; }
