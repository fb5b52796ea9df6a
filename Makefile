# Everything a developer needs: python3 3.11 or newer, make and a package index. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?=
RUN := .venv/bin
STAMP := .venv/.installed
UV_COMPILE := $(RUN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" pyproject.toml

.PHONY: help setup demo test test-slow chaos model lint bench bench-pacing lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything (by uv where it works, else by pip)

$(STAMP): requirements/dev.lock pyproject.toml bin/setup
	@echo "setup: making .venv ..."
	@python=$$(PYTHON="$(PYTHON)" sh bin/find-python) && "$$python" bin/setup
	@touch $@

demo: $(STAMP) ## Run a scripted day on an embedded server and a sandbox: no account, no internet (ARGS="--keep")
	@$(RUN)/notify demo $(ARGS)

test: $(STAMP) ## Run the tests (ARGS="-k pacing -x")
	@$(RUN)/python -m pytest -n 4 --dist loadscope -m "not slow and not chaos and not model" $(ARGS)

test-slow: $(STAMP) ## Run the tests that take over ten seconds each: chaos, whole trees, 100,000 people
	@$(RUN)/python -m pytest -n 2 --dist loadscope -m slow $(ARGS)

chaos: $(STAMP) ## Kill workers, web and Redis under 20,000 messages (ARGS="--chaos-messages 2000 --chaos-kills 10 --chaos-seed 1")
	@$(RUN)/python -m pytest -s -m chaos $(ARGS)

model: $(STAMP) ## Walk a million random steps through the ledger and its model (ARGS="--model-steps 2000000 --model-seed 7")
	@$(RUN)/python -m pytest -s -m model $(ARGS)

lint: $(STAMP) ## Check format, lint, types and the direction of imports
	@$(RUN)/ruff format --check .
	@$(RUN)/ruff check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-logo

bench: $(STAMP) ## List the benchmarks, or run one (ARGS="bytes")
	@$(RUN)/python -m benchmarks $(ARGS)

bench-pacing: $(STAMP) ## Measure how the rate is held, beside Dramatiq's own limiter (ARGS="--rows together --seconds 30")
	@$(RUN)/python -m benchmarks.pacing $(ARGS)

lock: $(STAMP) ## Write requirements/*.lock anew from pyproject.toml (ARGS="--upgrade")
	@$(UV_COMPILE) -o requirements/base.lock $(ARGS)
	@$(UV_COMPILE) --extra worker --extra web -o requirements/worker.lock $(ARGS)
	@$(UV_COMPILE) --extra dev -o requirements/dev.lock $(ARGS)

clean: ## Remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .demo dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
