# The commands of this repository. Each target first creates or updates the virtual environment that it needs.
# It works with GNU make 3.81 (macOS) and newer.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
# Each of these files says that VENV is complete: to run, to develop, to run the benchmarks.
RUN := $(VENV)/.rec-assets-run
DEV := $(VENV)/.rec-assets-dev
BENCH := $(VENV)/.rec-assets-bench

# Processes that run tests side by side. Each needs two to three GiB of memory.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest
PARALLEL = -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
# Java and Spark as users run them. Shorter tests leave out what pays off on large tables only (conftest.py).
FULL_SPARK = SPARK_SUBMIT_OPTS=-Xss4m

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo ui serve storefront fashion test test-fast test-slow test-long cluster-test coverage bench-quality bench-ablation bench-serving bench-speed bench-catalog bench-tune lint format lock docs java

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo "Set VENV=path (default .venv) and PYTHON=python3.x (3.10 to 3.13) to use others."

demo: java $(RUN) ## Materialize the whole graph over the demo data
	@$(BIN)/rec-assets bootstrap

ui: java $(RUN) ## Open the Dagster web UI
	@$(BIN)/rec-assets ui

serve: $(RUN) ## Start the API on the published index (docs: http://localhost:8000/docs)
	@$(BIN)/rec-assets serve

storefront: $(RUN) ## Start a small demo shop on the published index
	@$(BIN)/rec-assets storefront

fashion: java $(RUN) ## Make a synthetic fashion shop, run the graph on it, and open its storefront and report
	@[ -e build/fashion/fashion.yaml ] || $(BIN)/rec-assets make-shop fashion --folder build/fashion
	@REC_SOURCE=build/fashion/fashion.yaml REC_HOME=build/fashion/data $(BIN)/rec-assets bootstrap
	@REC_HOME=build/fashion/data REC_API__STOREFRONT_IMAGES=build/fashion/images $(BIN)/rec-assets storefront

test: java lint ## Run the linters and the tests that a change needs
	$(PYTEST) $(PARALLEL)

test-fast: $(DEV) ## Run the unit tests, without Spark; of one folder: make test-fast PACKAGE=serving
	$(PYTEST) $(PARALLEL) -m fast $(PACKAGE:%=rec_assets_tests/%)

test-slow: java $(DEV) ## Run the tests that need a daemon, a killed process, PostgreSQL, a browser or minutes of Spark
	$(PYTEST) $(PARALLEL) -m slow

test-long: java $(DEV) ## Run the tests of whole data sets and demos, before a release
	$(FULL_SPARK) $(PYTEST) -m long

cluster-test: java $(DEV) ## Run the graph on a local Spark cluster and behind Spark Connect, and compare
	$(FULL_SPARK) $(PYTEST) -m cluster

coverage: java $(DEV) ## Measure the line coverage of `make test` and `make test-slow` together
	$(PYTEST) $(PARALLEL) --cov --cov-report=
	$(PYTEST) $(PARALLEL) -m slow --cov --cov-append --cov-report=term:skip-covered

bench-quality: java $(BENCH) ## Compare the hybrid with its peers (an hour; benchmarks/README.md)
	$(BIN)/python -m benchmarks.quality

bench-ablation: java $(BENCH) ## Measure what each candidate source and feature group adds
	$(BIN)/python -m benchmarks.ablation

bench-serving: $(BENCH) ## Measure the API under load and compare it with MLflow's server (needs `make demo`)
	$(BIN)/python -m benchmarks.serving

bench-speed: java $(BENCH) ## Measure the time of each step and compare it with a reference in the same run
	$(BIN)/python -m benchmarks.speed

bench-catalog: $(BENCH) ## Measure recall, time and memory of a synthetic catalog of a million products (half an hour)
	$(BIN)/python -m benchmarks.catalog

bench-tune: $(BENCH) ## Tune the hyper-parameters of the peers
	$(BIN)/python -m benchmarks.tune

lint: $(DEV) ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV) ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# A pin that still fits pyproject.toml stays. To raise one, delete its line first. The CUDA packages are left out:
# the CPU build of torch does not need them.
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

# The Python versions to try, best first. If you set PYTHON, only that one is tried.
PYTHONS = $(PYTHON) $(if $(filter python3,$(PYTHON)),python3.13 python3.12 python3.11 python3.10)

# find_python(candidates): sets $$python to the first that runs (a pyenv shim may fail) and has a supported version.
find_python = python=; for p in $(1); do \
	  if "$$p" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; \
	  then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "rec_assets needs Python 3.10 to 3.13, and $(PYTHON) is: $$("$(PYTHON)" --version 2>&1 | head -n 1)." \
	    "Set another: make PYTHON=/path/to/python3.12 …" >&2; exit 1; \
	fi

java:
	@$(call find_python,$(BIN)/python $(PYTHONS)); "$$python" rec_assets/resources/java.py

# torch is installed first and alone, so that pip takes the CPU build where one is available (an index or PIP_FIND_LINKS).
# The last step of an installation writes its file. After an interrupted installation, the environment is made again,
# because pip can't tell a half written package from a whole one. Only an environment that make created is deleted.
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
	  echo "$(VENV): the last installation did not finish, starting over"; rm -rf '$(VENV)'; \
	fi; \
	mkdir -p '$(VENV)'; echo $$$$ >"$$busy"; rm -f '$(RUN)' '$(DEV)' '$(BENCH)'; \
	if ! [ -x '$(BIN)/python' ]; then \
	  echo "$(VENV): 1/3 virtual environment, $$("$$python" --version)"; \
	  touch "$$ours"; "$$python" -m venv '$(VENV)'; \
	fi; \
	torch=$$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt); \
	echo "$(VENV): 2/3 $$torch"; \
	'$(BIN)/python' -m pip install -qq -c constraints.txt "$$torch"; \
	echo "$(VENV): 3/3 rec_assets$(WHAT:.%=%) and its dependencies (some minutes, the first time)"; \
	'$(BIN)/python' -m pip install -qq -c constraints.txt -e '$(WHAT)'; \
	touch '$(RUN)' '$@'; rm -f "$$busy"; \
	echo "$(VENV): ready in $$(( $$(date +%s) - start )) s"

# ---- the documentation ----

docs: $(DEV) ## Build the documentation site in build/site; broken links are errors
	@$(BIN)/python -W ignore docs/build.py
