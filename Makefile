# Everything runs in a virtual environment of the project's own. Override on the command line:
#   PYTHON   the interpreter that makes it          VENV  where it lies
#   WORKERS  test processes at a time               TESTS what `make test` runs, e.g. tests/splitting
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
TESTS ?= tests

BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed
# Flower starts programs of its own by name, so the environment must lead the PATH. Each of the many
# processes that tests start would compile the library anew where bytecode is not kept.
IN_VENV := PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
PYTEST := $(IN_VENV) $(BIN)/python -m pytest
# Files go to processes as they come: with the short ones last, no process is left alone with a long one.
SHARED_OUT := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv demo docs test test-long check format benchmarks protocol test-lower-bounds clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

venv: $(STAMP) ## make the virtual environment, or bring it up to date

$(STAMP): pyproject.toml constraints.txt
	@echo "Making the virtual environment $(VENV); this takes a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --constraint constraints.txt \
		--editable '.[dev,docs,nlg,quantised,tensorboard]'
	touch $@

demo: $(STAMP) ## fine-tune the built-in model across five simulated clients
	$(IN_VENV) $(BIN)/hsplit demo

docs: $(STAMP) ## build the site of all pages: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

test: $(STAMP) ## run the tests
	$(PYTEST) $(SHARED_OUT) $(TESTS)

test-long: $(STAMP) ## run those that `make test` leaves out: repeats of laws, quick runs of benchmarks, faults
	$(PYTEST) -m long $(TESTS)

check: $(STAMP) ## formatter, linter, types, direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) -q tests/test_imports.py

format: $(STAMP) ## format, and mend what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

benchmarks: $(STAMP) ## run every benchmark at its full size; the reports go to results/
	@for name in $$($(BIN)/python -m benchmarks --list | cut -d' ' -f1); do \
		$(IN_VENV) $(BIN)/python -m benchmarks $$name --out results/$$name.json || exit 1; \
	done

# Named from the project's root, the files import each other by their full names.
protocol: $(STAMP) ## regenerate the gRPC stubs from the .proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		--grpc_python_out=. hsplit_flower/wire/proto/*.proto

# The oldest typing-extensions hold anyio back to one whose pytest plugin warns under our pytest.
test-lower-bounds: ## run the tests with the oldest versions that pyproject.toml admits
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install -qq --upgrade pip
	$(PYTHON) tests/lower_bounds.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install -qq --constraint .venv-lowest/constraints.txt \
		--editable '.[dev,nlg,quantised,tensorboard]'
	PATH="$(abspath .venv-lowest)/bin:$$PATH" OMP_NUM_THREADS=1 \
		.venv-lowest/bin/python -m pytest -p no:anyio $(SHARED_OUT) $(TESTS)

clean: ## remove the environments and what the tools left
	rm -rf $(VENV) .venv-lowest .flwr .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
