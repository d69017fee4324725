# `make help` lists the targets. Each prepares what it needs, so `make demo` works in a fresh clone.

PYTHON ?=
TORCH_INDEX ?=
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

PY := .venv/bin/python
STAMP := .venv/.setup-done
# Workers share the cores with the OpenMP threads of the kernels under test: idle threads must sleep, not spin.
PYTEST := OMP_WAIT_POLICY=passive $(PY) -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-full bench bench-gpu experiments-gpu lint generated clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables: PYTHON=python3.12      interpreter for a new .venv (3.11 or later)"
	@echo "           TORCH_INDEX=URL        package index for PyTorch, say one of CPU builds"
	@echo "           JOBS=2                 test processes; 0 runs the tests in this one"
	@echo "           PYTEST_ARGS= DEMO_ARGS= BENCH_ARGS=    passed on"

setup: $(STAMP) ## Create .venv and install everything into it

$(STAMP): pyproject.toml scripts/setup.sh
	@PYTHON='$(PYTHON)' TORCH_INDEX='$(TORCH_INDEX)' bash scripts/setup.sh

demo: setup ## Compile a neuron, train it and show what came out
	$(PY) examples/demo.py $(DEMO_ARGS)

docs: setup ## Build the site into site/, with npm for the browser libraries
	@bash scripts/setup.sh docs
	$(PY) -m scripts.docs.generate
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

test: setup lint ## Run lint and the tests, without the slow ones
	$(PYTEST) -m 'not slow' --ignore=tests/lint -o faulthandler_exit_on_timeout=true $(PYTEST_ARGS)

test-full: setup ## Run all the tests
	LNM_TEST_FULL=1 $(PYTEST) $(PYTEST_ARGS)

bench: setup ## Time the kernels on this machine, one case after another; goes on where it stopped
	$(PY) benchmarks/run.py $(BENCH_ARGS)

bench-gpu: ## Test and time on a GPU, with the Python that has PyTorch for it: GPU_PYTHON= WHEELS= PARTS= LIMIT= ARCHIVE=
	bash scripts/bench_gpu.sh

experiments-gpu: ## Train spiking ResNets on CIFAR-10 on a GPU; goes on where it stopped: DATA=folder PLAN= GPU_PYTHON= WHEELS=
	bash scripts/experiments_gpu.sh

lint: setup ## Check style, types, layers, pages and names
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -m 'not slow' -n 0 tests/lint

generated: setup ## Write generated/ anew, after a change to the compiler or a family
	$(PY) -m tests.update_generated

clean: ## Remove build output and caches; .venv stays
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
