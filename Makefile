# One command for each thing one does here. Each sets up what it needs by itself.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LEVEL  ?= dev
PROCESSES ?= 4

.PHONY: help setup run test test-rabbitmq lint types contracts sequences bench feedback cache queue prompts clean
help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

setup: $(VENV)/.$(LEVEL) ## make .venv with everything that development needs

$(VENV)/.cli: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,mock,speed]'
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.cli

run: $(VENV)/.cli ## send examples/requests.jsonl with four processes under one quota
	$(BIN)/python examples/run.py --processes $(PROCESSES)

test: $(VENV)/.dev ## run all tests, on servers of their own
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-rabbitmq: $(VENV)/.dev ## run the tests that need a RabbitMQ; installs it where it may
	tests/rabbit/make.sh $(BIN)/python

lint: $(VENV)/.dev ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## check types
	$(BIN)/mypy

contracts: $(VENV)/.dev ## check that each layer imports only from those below
	$(BIN)/lint-imports

sequences: $(VENV)/.dev ## hold the Lua against the model on thousands of random sequences, on every server
	LIMITER_SEQUENCES=$(or $(SEQUENCES),3000) $(BIN)/python -m pytest -n 2 tests/engine/test_model.py --timeout 3600

bench: $(VENV)/.dev ## measure everything that has a bar, in one run
	$(BIN)/python -m benchmarks

feedback: $(VENV)/.dev ## measure a fleet that hears the provider: changes, brake, repeats, learned estimates
	$(BIN)/python -m benchmarks.feedback

cache: $(VENV)/.dev ## measure what the cache saves and what a hit costs (GSM8K=FILE: bulk runs, too)
	$(BIN)/python -m benchmarks.cache $(if $(GSM8K),--gsm8k $(GSM8K))

queue: $(VENV)/.dev ## measure the queue: urgent calls, memory, overhead (GSM8K=FILE: everything once, workers killed)
	$(BIN)/python -m benchmarks.queue $(if $(GSM8K),--gsm8k $(GSM8K))

prompts: $(VENV)/.dev ## measure what the prompt toolbox saves on real texts (TEXTS="FILE …": more of them)
	$(BIN)/python -m benchmarks.prompts $(TEXTS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
