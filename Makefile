# Two commands do everything on a fresh machine with Python >= 3.10:
#   make run     set up, then memory, what it is made of, and times (GPU_CAP=8GB)
#   make test    set up, then linting, types and the tests
# and more: make check (memory against results/baseline.json), make demo (training too), make slow, make benchmark,
#   make virtual (what PyTorch's own CUDA code does on a card that is not there: VIRTUAL_TORCH=2.14, in .venv-cuda-2.14),
#   make wheel (what an installation from a wheel does, in an empty folder: make wheel PYTHON=python3.12),
#   make storm (bad inputs, kills and simultaneous runs), make mutants (small changes of the code that
#   no test notices; hours)
PYTHON  ?= python3
VENV    ?= .venv
GPU_CAP ?= 8GB
VIRTUAL_TORCH ?= 2.14
VIRTUAL_VENV  ?= .venv-cuda-$(VIRTUAL_TORCH)
BIN     := $(VENV)/bin

.PHONY: run test check demo slow virtual wheel storm mutants benchmark clean

run: $(VENV)/installed
	$(BIN)/bench run --gpu-cap $(GPU_CAP)

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist loadfile

check: $(VENV)/installed
	$(BIN)/bench check

demo: $(VENV)/installed
	$(BIN)/bench run --stages memory,profile,timing,accuracy

slow: $(VENV)/installed-dev
	$(BIN)/pytest -m slow

# An environment of its own for each release, with the CUDA build that PyPI has for Linux: 6 GB. Ends with how much the
# virtual card answered, and fails if it answers anything else than what is kept. Environments that there are already,
# whose pythons are given, stay as they are: make virtual VIRTUAL_PYTHON=... TEST_PYTHON=...
VIRTUAL_PYTHON ?= $(VIRTUAL_VENV)/bin/python
TEST_PYTHON    ?= $(BIN)/python

virtual: $(if $(filter $(VIRTUAL_VENV)/%,$(VIRTUAL_PYTHON)),$(VIRTUAL_VENV)/installed)
virtual: $(if $(filter $(BIN)/%,$(TEST_PYTHON)),$(VENV)/installed-dev)
	PYTHONPATH=$(CURDIR) $(VIRTUAL_PYTHON) -m tools.virtual_goldens
	PYTHONPATH=$(CURDIR) BENCH_CUDA_PYTHON=$(VIRTUAL_PYTHON) $(TEST_PYTHON) -m pytest tests/virtual

$(VIRTUAL_VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VIRTUAL_VENV)
	$(VIRTUAL_VENV)/bin/pip install --quiet 'torch==$(VIRTUAL_TORCH).*' --editable .
	touch $@

# In a temporary folder, with PYTHON's own environment and nothing of the checkout: the wheel, and tests/installed.
wheel:
	folder=$$(mktemp -d) && trap "rm -rf $$folder" EXIT && \
	$(PYTHON) -m venv $$folder/venv && \
	$$folder/venv/bin/pip wheel --quiet --no-deps --wheel-dir $$folder . && \
	$$folder/venv/bin/pip install --quiet --constraint constraints.txt $$folder/*.whl pytest && \
	cp -r tests/installed $$folder/tests && cd $$folder && $$folder/venv/bin/python -m pytest -W ignore::pytest.PytestUnknownMarkWarning tests

storm: $(VENV)/installed-dev
	$(BIN)/python -m tools.storm

benchmark: $(VENV)/installed-dev
	$(BIN)/pytest benchmarks --benchmark-only

mutants: $(VENV)/installed-dev
	$(BIN)/python -m tools.mutation

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[accuracy]'
	touch $@

$(VENV)/installed-dev: $(BIN)/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV)
