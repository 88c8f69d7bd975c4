# The two commands of the README, and the pieces they are made of. Every target sets itself up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS ?= dev
# On Linux the registry's default torch carries CUDA. TORCH_INDEX=https://download.pytorch.org/whl/cpu takes the small CPU build.
PIP_FLAGS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# Set WORKERS=0 to run the tests in one process.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup quickstart families test lint types unit shape arm64 embedded-bench clean

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgepress needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

setup: $(VENV)/.ready  ## a virtual environment with pinned installs

quickstart: setup  ## prune, distill, quantize, export, measure and judge a small trained network
	$(BIN)/edgepress run recipes/quickstart.yaml

families: setup  ## every family of networks through the whole pipeline: docs/families.md (some need EDGEPRESS_DATA)
	$(BIN)/python recipes/families/prepare.py
	$(BIN)/python benchmarks/families/run.py

test: lint types shape unit  ## everything CI checks

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

shape: setup  ## sizes of functions and files, and the limits they keep
	$(BIN)/python scripts/shape.py

unit: setup
	$(BIN)/python -m pytest -n $(WORKERS)

embedded-bench: setup  ## generated C for four MLPerf Tiny networks on seven cores: instructions, flash, RAM (needs EDGEPRESS_DATA)
	$(BIN)/python benchmarks/embedded/run.py

arm64: setup  ## the arm64 build of onnxruntime in emulation: its answers against this machine's
	$(BIN)/python scripts/arm64_tree.py
	$(BIN)/python -m pytest tests/targets/remote/test_qemu.py -v

clean:  ## remove what the targets above made
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
