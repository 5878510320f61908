# Two commands do all the set-up on a machine with Python 3.11 or newer: `make demo` and `make test`.
# Each creates what is missing in $(VENV) and goes on from there the next time.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/pocket
# Further options of `fc-bench run`, such as ARGS="-m fastcomposer".
ARGS ?=
WORKERS ?= auto
# Optional extras of the installation for tests: EXTRAS=test,dlib adds the tests on photographs of real people.
EXTRAS ?= test

bin := $(VENV)/bin
install := $(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --config-settings editable_mode=strict --editable
# Strict editable installations link every file, so a new or a moved one needs the installation again.
modules := $(shell find fc_bench model baselines datasets reports -name __pycache__ -prune -o -type d -print)
browser := $(firstword $(FC_BENCH_CHROMIUM) $(shell command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable))

.PHONY: demo test lint docs clean

## The main job: every method on the people of the suite pocket; ends with the table and the path of the page.
demo: $(VENV)/.installed
	$(bin)/fc-bench run --out $(RUN) $(ARGS)

## The tests that a change must pass.
test: $(VENV)/.installed-test
ifeq ($(browser),)
	@echo "No Chromium found: the tests of the report's page are left out. Install one, or name it in FC_BENCH_CHROMIUM."
endif
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n $(WORKERS) --dist loadfile $(if $(browser),,-m "not slow and not browser")

## Style, the order of the packages, types.
lint: $(VENV)/.installed-test
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	cd $(VENV) && bin/lint-imports --no-cache --config $(CURDIR)/pyproject.toml
	$(bin)/pyright --pythonpath $(bin)/python

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; name one, as in: make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt $(modules) | $(VENV)/bin/python
	$(install) .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(install) ".[$(EXTRAS)]"
	@touch $@

## The documentation site in build/site; every warning is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict --quiet

$(VENV)/.installed-docs: $(VENV)/.installed
	$(install) ".[docs]"
	@touch $@

## Remove the environment; results stay.
clean:
	rm -rf $(VENV) build
