# Every target makes what it needs first. Another Python: make test PYTHON=python3.11 (environment .venv-3.11).
VENV := .venv$(if $(PYTHON),-$(or $(lastword $(subst python, ,$(notdir $(PYTHON)))),other))
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: help setup run host test lint types threats docs replay azurite package bench bench-peer infra soak
.DEFAULT_GOAL := help

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

setup: ## make the environment .venv with all packages; leaves .venv/bin/guardrail
	@sh tools/setup.sh $(VENV) $(PYTHON)

run: setup ## try it here, no Azure: simulator, engine and the story of a bad evening (KEEP=1 goes on, OPEN=1 opens a browser)
	@$(BIN)/guardrail run --story $(if $(KEEP),--keep) $(if $(OPEN),--open)

host: setup ## the same with Azure Functions Core Tools: starts Azurite and the simulator, prints what to type
	@sh tools/host.sh $(BIN)

test: lint types ## all of it: lint, types, import rules, tests; under three minutes
	@$(BIN)/python -m pytest -q --no-header --suites -n $(JOBS)

azurite: ## install the storage emulator that tests of the Azure stores run on (Node 20, npm; 370 MB)
	@sh tools/azurite.sh

lint: setup ## ruff, and who may import whom
	@$(BIN)/ruff check -q --output-format concise . && echo "lint      ruff: clean"
	@$(BIN)/lint-imports --no-logo >$(VENV)/imports.log 2>&1 && echo "imports   `grep -o '[0-9]* kept' $(VENV)/imports.log`" || { cat $(VENV)/imports.log; exit 1; }

types: setup ## mypy --strict
	@$(BIN)/mypy --no-error-summary && echo "types     mypy --strict: clean"

threats: setup ## which tests prove which row of the threat model
	@$(BIN)/python -m tests.threats

docs: setup ## write the generated pages: docs/controls.md
	@$(BIN)/python -m tools.docs

infra: setup ## write what infra/ takes from the enabled controls: roles, filters, app roles, docs/reference/roles.md
	@$(BIN)/python -m tools.infra

replay: setup ## recorded events through the engine, report-only
	@$(BIN)/guardrail replay recorded/events

package: setup ## what runs in Azure, as one zip: dist/guardrail.zip, the same bytes each time (Python 3.13)
	@$(BIN)/python -m tools.package

bench: setup ## what an event costs: benchmarks/results.json, and the tables of docs/explanation/performance.md
	@$(BIN)/python -m benchmarks.bench

bench-peer: setup ## the same beside Cloud Custodian, in turns; makes its environment .venv-peer
	@$(BIN)/python -m benchmarks.bench --peer

soak: setup ## 100,000 events, every fault, workers killed: what was lost, doubled or widened (EVENTS= SEED= STORE=azurite MINUTES=)
	@$(BIN)/python -m tests.soak --events $(or $(EVENTS),100000) $(if $(SEED),--seed $(SEED)) $(if $(STORE),--store $(STORE)) \
		$(if $(MINUTES),--minutes $(MINUTES))
