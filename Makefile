# One-word habits. Each target first sets up the virtual environment it needs, when that is missing or out of date.
# Written for GNU make 3.81 and newer (the one of macOS).

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
# What stands in VENV, complete: enough to run; with the tools of development as well; with the peers of the benchmarks.
RUN := $(VENV)/.rec-assets-run
DEV := $(VENV)/.rec-assets-dev
BENCH := $(VENV)/.rec-assets-bench

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo ui serve storefront test test-slow cluster-test bench-quality bench-ablation bench-serving bench-speed bench-tune lint format lock java

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo "Set VENV=path (default .venv) and PYTHON=python3.x (3.10 to 3.13) as you like."

demo: java $(RUN) ## Materialize the whole graph over the demo data
	@$(BIN)/rec-assets bootstrap

ui: java $(RUN) ## Open the Dagster web UI
	@$(BIN)/rec-assets ui

serve: $(RUN) ## Answer requests in real time with what is published (docs: http://localhost:8000/docs)
	@$(BIN)/rec-assets serve

storefront: $(RUN) ## Open a small demo shop on what is published
	@$(BIN)/rec-assets storefront

test: java lint ## Run the linters, then all tests but the slow ones
	$(BIN)/python -m pytest

test-slow: java $(DEV) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow

cluster-test: java $(DEV) ## Run the graph on a Spark cluster and behind Spark Connect, started here, and compare
	$(BIN)/python -m pytest -m cluster

bench-quality: java $(BENCH) ## Measure the hybrid against its peers (an hour; benchmarks/README.md)
	$(BIN)/python -m benchmarks.quality

bench-ablation: java $(BENCH) ## Measure what each source and group of features adds
	$(BIN)/python -m benchmarks.ablation

bench-serving: $(BENCH) ## Measure the API under load, beside MLflow's server (needs `make demo`)
	$(BIN)/python -m benchmarks.serving

bench-speed: java $(BENCH) ## Measure how long everything takes, beside a reference in the same run
	$(BIN)/python -m benchmarks.speed

bench-tune: $(BENCH) ## Choose the peers' hyper-parameters again
	$(BIN)/python -m benchmarks.tune

lint: $(DEV) ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV) ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Every pin that still fits pyproject.toml stays: to raise one, delete its line first. The CPU build of torch needs
# none of the CUDA packages that the default one brings.
lock: ## Remake constraints.txt from pyproject.toml
	@set -e; $(call find_python,$(PYTHONS)); \
	tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	"$$python" -m venv "$$tmp/venv"; "$$tmp/venv/bin/python" -m pip install -qq uv; \
	cp constraints.txt "$$tmp/all.txt"; \
	"$$tmp/venv/bin/uv" pip compile -q --universal --python-version 3.10 --extra dev --extra bench --no-annotate --no-header \
	  -o "$$tmp/all.txt" pyproject.toml; \
	{ grep '^#' constraints.txt; grep -vE "^(#|nvidia-|cuda-|triton)|== 'emscripten'" "$$tmp/all.txt"; } >"$$tmp/new.txt"; \
	cat "$$tmp/new.txt" >constraints.txt

# ---- the virtual environment ----

# The candidates, best first; a PYTHON given by hand stands alone.
PYTHONS = $(PYTHON) $(if $(filter python3,$(PYTHON)),python3.13 python3.12 python3.11 python3.10)

# find_python(candidates): sets $$python to the first that runs (a pyenv shim may not) and is of a version we support.
find_python = python=; for p in $(1); do \
	  if "$$p" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; \
	  then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "rec_assets needs Python 3.10 to 3.13, and $(PYTHON) is: $$("$(PYTHON)" --version 2>&1 | head -n 1)." \
	    "Name another: make PYTHON=/path/to/python3.12 …" >&2; exit 1; \
	fi

java:
	@$(call find_python,$(BIN)/python $(PYTHONS)); "$$python" rec_assets/resources/java.py

# torch goes first and alone: so pip takes the CPU build wherever one is on offer (an index or PIP_FIND_LINKS).
# A stamp is written at the very end, and what an interrupted install left behind is not built upon: pip can't tell a
# package half written from a whole one. We delete only an environment that we made.
$(RUN): WHAT = .
$(DEV): WHAT = .[dev]
$(BENCH): WHAT = .[bench]
$(RUN) $(DEV) $(BENCH): pyproject.toml constraints.txt
	@set -e; start=$$(date +%s); busy='$(VENV)/.rec-assets-installing'; ours='$(VENV)/.rec-assets-made'; \
	$(call find_python,$(PYTHONS)); \
	if [ -e "$$busy" ] && kill -0 "$$(cat "$$busy")" 2>/dev/null; then \
	  echo "$(VENV): another make (process $$(cat "$$busy")) is installing into it; wait for that one." >&2; exit 1; \
	fi; \
	if [ -e "$$busy" ] && [ -e "$$ours" ]; then \
	  echo "$(VENV): the last install did not finish, starting afresh"; rm -rf '$(VENV)'; \
	fi; \
	mkdir -p '$(VENV)'; echo $$$$ >"$$busy"; rm -f '$(RUN)' '$(DEV)' '$(BENCH)'; \
	if ! [ -x '$(BIN)/python' ]; then \
	  echo "$(VENV): 1/3 virtual environment, $$("$$python" --version)"; \
	  touch "$$ours"; "$$python" -m venv '$(VENV)'; \
	fi; \
	torch=$$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt); \
	echo "$(VENV): 2/3 $$torch"; \
	'$(BIN)/python' -m pip install -qq -c constraints.txt "$$torch"; \
	echo "$(VENV): 3/3 rec_assets$(WHAT:.%=%) and all it needs (some minutes, the first time)"; \
	'$(BIN)/python' -m pip install -qq -c constraints.txt -e '$(WHAT)'; \
	touch '$(RUN)' '$@'; rm -f "$$busy"; \
	echo "$(VENV): ready in $$(( $$(date +%s) - start )) s"
