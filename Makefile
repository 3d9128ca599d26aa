# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv once from the two lock files.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := .venv/.ready

.PHONY: demo explore test check wheel docs notebooks lock

demo: $(READY)
	$(BIN)/memlm demo

explore: $(READY)  ## the page to play with, on the demo's models; makes them where they are missing
	test -e runs/demo/report.html || $(BIN)/memlm demo
	$(BIN)/memlm serve runs/demo/slots runs/demo/causal-transformer runs/demo/memory

test: $(READY)  ## files of tests are handed to as many processes as there are cores, one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## lint, format and types
	$(BIN)/ruff check memlm tests
	$(BIN)/ruff format --check memlm tests
	$(BIN)/basedpyright

wheel: $(READY)  ## build the wheel, install it beside what it depends on and nothing else, run the README's Python there
	$(BIN)/python .ci/wheel.py

docs: $(READY) build/docs/.ready  ## the site, into build/site; strict: a link to nothing is an error; its notebooks, run in brief
	NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --quiet --strict
	MEMLM_NOTEBOOKS=$(CURDIR)/build/site/tutorials $(BIN)/python -m pytest -q tests/test_docs.py -k tutorial

notebooks: $(READY) build/docs/.ready  ## run the tutorials' notebooks as readers do: the budgets are theirs, a quarter of an hour
	$(call group,notebooks)
	build/docs/bin/python .ci/notebooks.py build/notebooks $(BIN)/python

build/docs/.ready: pyproject.toml  # reads docstrings without importing them: no torch here
	$(PYTHON) -m venv build/docs
	$(call group,docs)
	@touch $@

# Installs a dependency group into the site's environment; pip of Python 3.11 does not know --group.
group = build/docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$1"])' \
	| xargs build/docs/bin/python -m pip --quiet --disable-pip-version-check install

$(READY): requirements.lock requirements-torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("memlm needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --no-deps --require-hashes -r requirements.lock
	$(PIP) install -r requirements-torch.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

lock: $(READY)  ## pin what is installed now, with the hashes of all files that the package index has of it
	@$(PIP) install --upgrade --target build/lock uv
	@$(PIP) freeze --all --exclude-editable | grep -vE '^(pip|torch|memlm)(==| @)' > build/lock/installed.txt
	@(sed -n '/^#/p' requirements.lock; PYTHONPATH=build/lock $(BIN)/python -m uv pip compile --quiet --no-deps \
		--generate-hashes --no-header --no-annotate build/lock/installed.txt) > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@(sed -n '/^#/p' requirements-torch.lock; $(PIP) freeze | grep '^torch==' | sed 's/+.*//') > requirements-torch.lock.new
	@mv requirements-torch.lock.new requirements-torch.lock
