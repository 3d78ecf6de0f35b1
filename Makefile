# Forebay. Two commands are all a newcomer needs: `make demo` and `make test`.
# `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
RUNS ?= 1
# Of the simulator: histories in memory, and on real SQLite.
SEEDS ?= 100000
SQLITE_SEEDS ?= 2000
# So many share the tests; 0: they all run in one, as with a plain pytest.
PROCESSES ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup demo test test-fast simulate lint bench faults lock services clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## the environment in .venv, the command in .venv/bin/forebay

$(STAMP): requirements.lock.txt pyproject.toml deploy/setup/environment.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash deploy/setup/environment.sh
	@touch $@

services: ## what the tests need beside Python: RabbitMQ, systemd's tools and a browser, when there is none
	@bash deploy/setup/rabbitmq.sh
	@bash deploy/setup/systemd.sh
	@bash deploy/setup/chromium.sh

demo: setup ## train, push, submit 1,000 digits, wait, print what happened
	@$(BIN)/forebay demo

faults: setup services ## every fault RUNS times, a table, written to faults.json
	@$(BIN)/python -m tests.faults --runs $(RUNS)

lint: setup ## formatting, types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: setup services ## everything, on real RabbitMQ, PostgreSQL and S3
	@$(BIN)/pytest -q -n $(PROCESSES)

test-fast: setup ## the pure tests only
	@$(BIN)/pytest -q tests/unit

simulate: setup ## SEEDS histories full of faults in memory and SQLITE_SEEDS on SQLite (an hour for all)
	@$(BIN)/python -m tests.simulator --seeds $(SEEDS)
	@$(BIN)/python -m tests.simulator --seeds $(SQLITE_SEEDS) --on sqlite

bench: setup services ## the figures (about 45 minutes), written to bench.json; a plot beside it
	@$(BIN)/python -m tests.bench

lock: setup ## resolve dependencies anew, for the tests and the images, with hashes and without addresses
	@bash deploy/setup/lock.sh

clean: ## remove what setup made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache
