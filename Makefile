# `make demo` and `make test` set up all they need. Everything lands in .venv and runs/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-fast lint types lock clean
help:
	@echo "make demo       build data, memorise, forget, score, and print the table (about ten minutes);"
	@echo "                BENCH=clear: the same with CLEAR's data and scores"
	@echo "make test       run all tests"
	@echo "make test-fast  run the tests that start no process and train no model"
	@echo "make lint       check style"
	@echo "make types      check types: strict in parts, elsewhere no error more than committed"
	@echo "make lock       resolve requirements.lock anew"

setup: $(STAMP)
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked requirements into $(VENV) (about 7 GB, some minutes) ..."
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
ifeq ($(BENCH),clear)
	$(BIN)/remem reproduce clear --out runs/demo-clear --methods grad_diff,npo,idk --no-l1
else
	$(BIN)/remem demo --out runs/demo
endif

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/python .ci/types

lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet hatchling editables ".[dev]"
	.venv-lock/bin/python -m pip freeze --exclude remem-unlearning > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) runs build dist
