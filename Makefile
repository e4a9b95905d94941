# Everything starts from here; `make help` lists the commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SEED ?= 1
SEEDS ?= 200
MINUTES ?= 10

.PHONY: help install run test lint format docs bench bench-wal bench-control bench-cluster simulate
.PHONY: clients wheels clean fuzz oracle bench-filter bench-indexes
.PHONY: services services-install services-status services-stop
.PHONY: test-services test-cluster test-faults

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.installed: pyproject.toml scripts/build_descriptors.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Elanus needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

install: $(VENV)/.installed ## Make .venv and install Elanus into it

run: install ## Start the server with the sample on 127.0.0.1:19530 (ARGS="--port 19531")
	@exec $(BIN)/elanus run standalone --sample $(ARGS)

test: $(VENV)/.installed-dev clients ## Run all tests; those of servers that aren't installed skip
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

services-install: $(VENV)/.installed-dev ## Install real servers for tests into .services
	$(BIN)/python -m tests.services install $(ARGS)

services: services-install ## Start real servers in the background (ARGS="etcd minio": only these)
	$(BIN)/python -m tests.services start $(ARGS)

services-status: $(VENV)/.installed-dev ## Show which servers run, and where
	@$(BIN)/python -m tests.services status $(ARGS)

services-stop: $(VENV)/.installed-dev ## Stop the servers that `make services` started
	$(BIN)/python -m tests.services stop $(ARGS)

test-services: services-install ## Run the tests that need real servers; they start their own
	REQUIRE_SERVICES=1 $(BIN)/python -m pytest -m "services and not faults" $(ARGS)

test-faults: services-install ## Run a server under load while what it depends on fails (15 minutes)
	REQUIRE_SERVICES=1 $(BIN)/python -m pytest -m faults -s $(ARGS)

test-cluster: services-install clients ## Run whole clusters, and kill their processes (CHAOS_S=600: longer)
	REQUIRE_SERVICES=1 $(BIN)/python -m pytest tests/cluster -m "" -s $(ARGS)

lint: $(VENV)/.installed-dev ## Check style, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed ## Write docs/configuration.md from the settings' declarations
	$(BIN)/python -c 'from elanus.config.describe import as_markdown; print(as_markdown(), end="")' \
		> docs/configuration.md

simulate: $(VENV)/.installed-dev ## Run the simulated world with one seed (SEED=n), verbosely
	$(BIN)/python -m tests.simulation --seed $(SEED) $(ARGS)

clients: .clients/2.6/.installed .clients/3.0/.installed ## Install the clients that the tests use

.clients/%/.installed:
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/python -m pip install --quiet --disable-pip-version-check \
		"pymilvus==$*.*" pytest numpy pyarrow ml_dtypes minio azure-storage-blob
	@touch $@

fuzz: $(VENV)/.installed-dev ## Feed the filter compiler with random texts (MINUTES=60)
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(ARGS)

oracle: $(VENV)/.installed-dev ## Compare 24,000 filters with the slow reference, new ones each time
	ELANUS_TEST_PROFILE=nightly $(BIN)/python -m pytest --timeout 0 \
		tests/oracle tests/unit/engine/scalar $(ARGS)

bench-filter: $(VENV)/.installed-dev ## Compare filters with pyarrow, Polars and DuckDB
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	POLARS_MAX_THREADS=1 $(BIN)/python -m benchmarks.filter $(ARGS)

bench: $(VENV)/.installed-dev clients ## Compare with the real Milvus on this machine (takes a while)
	$(BIN)/python -m benchmarks.compare $(ARGS)

bench-indexes: $(VENV)/.installed-dev ## Measure recall, memory and time of the vector indexes
	$(BIN)/python -m benchmarks.indexes $(ARGS)

bench-wal: $(VENV)/.installed-dev ## Compare the write-ahead logs with bare clients (ARGS="local kafka")
	$(BIN)/python -m benchmarks.wal $(ARGS)

bench-cluster: $(VENV)/.installed-dev clients ## Compare a search in a cluster with one in one process
	$(MAKE) services-install ARGS="etcd minio"
	$(BIN)/python -m benchmarks.cluster $(ARGS)

bench-control: $(VENV)/.installed-dev ## Measure the coordinator with a million segments of nothing
	$(BIN)/python -m benchmarks.control_plane $(ARGS)

wheels: $(VENV)/.installed ## Build a wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## Remove what was built and installed (not your data)
	rm -rf $(VENV) .clients .services dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
