# `make demo` and `make test` set up all they need. Everything lands in .venv and runs/.
PYTHON ?= python3
# LOCK=newest: the newest releases that pyproject.toml allows, in an environment of their own.
LOCK ?= requirements.lock
VENV := $(if $(filter newest,$(LOCK)),.venv-newest,.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# NUMERIC=plain: as another processor would compute; `python bench/numeric.py` lists the ways.
WAY := $(if $(NUMERIC),bench/numeric.py $(NUMERIC) pytest,-m pytest)
AS := $(if $(NUMERIC),$(BIN)/python bench/numeric.py $(NUMERIC))
# PART=1/8: one of eight parts of the tests of `test-slow` and `test-other`.
PART ?= 1/1
PYTEST := $(BIN)/python $(WAY) -n 2 --dist worksteal
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What computes: these parts once more in another way than the machine's.
COMPUTES := tests/engine tests/metrics tests/unlearning

.PHONY: help setup demo test test-slow test-all test-unit test-other test-engines lint types docs lock clean
help:
	@echo "make demo       build data, memorise, forget, score, and print the table (some seven minutes on two cores);"
	@echo "                BENCH=clear: the same with CLEAR's data and scores"
	@echo "make test       run the tests, but those marked slow"
	@echo "make test-slow  run those: every fault of the campaign, thousands of damaged files, several processes, whole demos"
	@echo "make test-all   run both"
	@echo "make test-unit  run the tests without a model and without a process (a minute)"
	@echo "make test-other run the tests of what computes, as another processor would"
	@echo "                PART=1/8 to PART=8/8: an eighth of test-slow; CI takes one in turn"
	@echo "                NUMERIC=plain: as another processor computes (demo too); LOCK=newest: with the newest releases (test, -slow, -all, -unit)"
	@echo "make test-engines run the tests against a real transformers serve, vLLM and Ray, each in an environment of its own"
	@echo "make lint       check style"
	@echo "make types      check types: strict in parts, elsewhere no error more than committed"
	@echo "make docs       the documentation as a site, in build/site; a broken link is an error"
	@echo "make lock       resolve requirements.lock anew"

setup: $(STAMP)
$(STAMP): $(if $(filter newest,$(LOCK)),,$(LOCK)) pyproject.toml
	@.ci/install $(VENV) $(if $(filter newest,$(LOCK)),,$(LOCK))

demo: setup
ifeq ($(BENCH),clear)
	$(AS) $(BIN)/remem reproduce clear --out runs/demo-clear --methods grad_diff,npo,idk --no-l1
else
	$(AS) $(BIN)/remem demo --out runs/demo
endif

test: setup
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m slow --part $(PART)

test-all: setup
	$(PYTEST)

test-unit: setup
	$(PYTEST) --unit

test-other: setup
	$(BIN)/python bench/numeric.py other pytest -n 2 --dist worksteal -m "not slow" --part $(PART) $(COMPUTES)

# Other commands leave these tests out where the environments are not there, and say so.
test-engines: setup
	@.ci/engines .engines $(VENV)
	$(BIN)/python -m pytest tests/engines

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/python .ci/types

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file .ci/mkdocs.yml
	@echo "build/site/index.html"

lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet hatchling editables ".[dev]"
	.venv-lock/bin/python -m pip freeze --exclude remem-unlearning > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-newest .engines runs build dist
