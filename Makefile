# The two commands most people need: make lab, make test.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8888
BIN := $(VENV)/bin
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help setup lab test torture lint notebooks images bench site test-browser clean

help:            ## list these targets
	@grep -E '^[a-z-]+: *.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

setup: $(VENV)/.ready  ## make .venv and install everything (done once)

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; this is `$(PYTHON) --version`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab,test]'
	touch $@

lab: setup       ## open JupyterLab at the first notebook (PORT=8888)
	$(BIN)/python -m jupyter lab $(ROOT_FLAG) --port=$(PORT) --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

test: setup      ## the whole suite, notebooks included, at the smoke budget
	$(BIN)/python -m pytest --nbval-lax -n 2 --dist loadscope --no-loadscope-reorder notebooks tests  # the long ones first

torture: setup   ## kills, faults and malformed files: all cases, twenty minutes; counts go to docs/reliability.md
	$(BIN)/python -m pytest -q -p no:nbval -o addopts= -n 2 --dist worksteal --torture --torture-table docs/reliability.md tests/torture

lint: setup      ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: setup ## run every notebook at the quick budget and keep its outputs
	$(BIN)/python scripts/build_notebooks.py $(NOTEBOOKS)

images: setup    ## make the pictures, RESULTS.md and the README's speeds from released results
	$(BIN)/python scripts/build_images.py && $(BIN)/python scripts/build_tables.py

bench: setup     ## speed, in ratios, on this machine
	$(BIN)/python -m benchmarks.run

site: setup      ## all notebooks as pages with live explorers, in site/; open site/index.html
	$(BIN)/python scripts/build_site.py

test-browser: setup  ## drive the explorers with Chromium, in JupyterLab and as pages
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab,test,browser]'
	$(BIN)/python -m pytest -p no:nbval -o addopts= tests/browser

clean:           ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info build dist test-results
