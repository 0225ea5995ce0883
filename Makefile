# Every target sets itself up: a virtual environment in .venv, then the packages pinned in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
DEMO := --config configs/sequence_classification/digits.yaml

ifneq ($(wildcard ../shared/data),)
export LIGHTNING_RNN_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test test-slow test-cluster test-triton results-translation results-lm gpu-check lint format clean

# One thread: so small a network gains nothing from two, and loses much on a busy machine.
demo: export OMP_NUM_THREADS = 1
demo: .venv/run
	@rm -rf runs/sequence_classification/digits
	@$(BIN)/lightning-rnn fit $(DEMO)
	@$(BIN)/lightning-rnn test $(DEMO)
	@$(BIN)/lightning-rnn predict $(DEMO)
	@echo "run folder   runs/sequence_classification/digits (config, metrics, checkpoints)"
	@echo "plots        runs/sequence_classification/digits/figures"
	@echo "predictions  runs/sequence_classification/digits/predictions.csv and .parquet"

test: .venv/dev lint
	@$(BIN)/python -m pytest -n 2 --dist worksteal --doctest-modules -m "not slow and not slurm" tests lightning_rnn tasks

test-slow: .venv/dev
	@$(BIN)/python -m pytest -m "slow and not slurm" tests

# Jobs on a SLURM of two nodes on this machine alone (Debian's packages, installed where this is root). A minute or two;
# SLOW=1 adds the time limit, an array and preemption again and again (CYCLES=50: so often).
test-cluster: .venv/dev
	@tests/cluster/packages.sh
	@$(BIN)/python -m pytest -m "slurm$(if $(SLOW),, and not slow)" tests/cluster

# Triton's kernels by their interpreter; apart, as Triton is large and of no use on a CPU otherwise.
test-triton: .venv/dev
	@$(INSTALL) -e '.[triton]'
	@$(BIN)/python -m pytest tests/test_triton.py

# What the tables of translation were made with; hours on two cores. Stopped, it goes on where it was.
results-translation: .venv/dev
	@$(BIN)/python benchmarks/translation.py --write

# The 40 epochs on the Penn Treebank; an hour and a half on two cores. Stopped, it goes on where it was.
results-lm: .venv/dev
	@$(BIN)/python benchmarks/language_modeling.py forty --write

# On a machine with an NVIDIA GPU: the tests that need one, and the engines' times there.
gpu-check: .venv/dev
	@$(BIN)/python benchmarks/gpu_check.py

lint: .venv/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.venv/run: pyproject.toml constraints.txt
	@echo "setting up .venv (torch is large: this takes a minute or two)"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -e .
	@touch $@

.venv/dev: .venv/run
	@$(INSTALL) -e '.[dev,tensorboard]'
	@touch $@

clean:
	rm -rf .venv runs build dist .mypy_cache .ruff_cache .pytest_cache
