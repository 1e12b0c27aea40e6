# Sets up its own environment in .venv; needs make and Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
# Files stay together mostly, and a crash of a worker fails one test, not the run.
PARALLEL := -n 2 --dist worksteal

# Of the tests whose results are numbers, those that are quick; see `test-isa`.
NUMERIC := $(addprefix tests/,test_numerics.py geometry evaluation models/layers \
	models/test_multiview.py registration/inference/test_boxes.py \
	registration/inference/test_tiles.py test_intensity.py \
	training/test_losses.py)
ISA ?= AVX2

.PHONY: demo test test-isa lint wheel docs docs-serve clean

demo: .venv/run
	$(BIN)/python -m experiments.demo --out out/demo

test: .venv/dev
	$(BIN)/python -m pytest $(PARALLEL)

# Under another instruction set of this CPU: make test-isa ISA=SSE4_2
test-isa: .venv/dev
	XLA_FLAGS="$$XLA_FLAGS --xla_cpu_max_isa=$(ISA)" \
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(NUMERIC)

lint: .venv/dev
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

# The wheel, with the oldest and with the newest versions that it allows.
wheel:
	PYTHON="$(PYTHON)" .ci/wheel

# The site, in out/site; executes the notebook.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	PYTHONPATH=. $(BIN)/python .ci/docs_names.py out/site

docs-serve: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'regnet_jax needs Python 3.11 or newer: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python requirements.txt
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

.venv/docs: .venv/run requirements-docs.txt
	$(BIN)/pip install --quiet -r requirements-docs.txt
	touch $@

# The optional tools that tests run where they are installed.
.venv/compare: .venv/dev pyproject.toml
	$(BIN)/pip install --quiet $$($(BIN)/python -c "import tomllib; \
	print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['compare'])")
	touch $@

clean:
	rm -rf .venv out
