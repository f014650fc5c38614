# `make demo` and `make test` need nothing but Python: they make .venv and install what they use.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
JOBS ?= auto
# One thread for each worker: more of them would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.PHONY: demo test test-all test-wheel lint format bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,test,zoo,lint]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/bioconvert demo

test: $(VENV)/.installed
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.installed test-wheel
	$(PYTEST)

# The wheel, in an environment of its own: what a user installs must pass the tests too.
test-wheel: $(VENV)/.installed
	rm -rf .venv-wheel dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt "$$(ls dist/*.whl)[demo,test,zoo]"
	OMP_NUM_THREADS=1 .venv-wheel/bin/pytest -n $(JOBS) -m 'not slow'

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist

# The peers live in an environment of their own, and the package never imports them.
# An argument chooses: make bench ONLY="yat convert"
$(BENCH_VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint constraints.txt nmn==0.3.5 torchao peft \
		torchvision pytorch_bio_transformations==0.0.5 dno==0.5.3
	touch $@

bench: $(BENCH_VENV)/.installed
	$(BENCH_VENV)/bin/python -m tests.benchmarks $(ONLY)
