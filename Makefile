# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv once from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check lock

demo: $(READY)
	$(BIN)/memlm demo

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)  ## lint, format and types
	$(BIN)/ruff check memlm tests
	$(BIN)/ruff format --check memlm tests
	$(BIN)/basedpyright

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("memlm needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock: $(READY)  ## pin what is installed now
	@(sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > requirements.lock.new
	@mv requirements.lock.new requirements.lock
