# The two commands a newcomer types: `make demo` and `make test`.
PYTHON ?= python3
PORT ?= 5433
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check slow bench lock fmt

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# pip checks every hash; the stamp makes a second run free.
$(VENV)/.stamp: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(VENV)/.stamp ## the environment alone

demo: setup ## a room on 127.0.0.1:5433 (PORT= changes it) with made-up data
	@$(BIN)/cleanroom demo --dir .demo --port $(PORT)

check: setup ## format, lint, types, import rules, unit tests: the inner loop, under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q -n 2 -m "not system and not slow" --ignore tests/attacks

test: setup ## everything in the gate
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 -m "not slow"

slow: setup ## what takes longer than the gate allows
	$(BIN)/pytest -n 2 -m slow

bench: setup ## speed and memory, as ratios against the exact query in the same run
	$(BIN)/python -m tests.bench

fmt: setup ## format and fix in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## write both lock files anew
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock
