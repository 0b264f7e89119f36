# Every target makes the environment it needs: Python 3.11, make and gcc are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# A second environment with the client alone, on numpy 2: what a service that calls Tridex has.
CLIENT_VENV := .venv-client
DEPLOY_VENV := .venv-deploy
# For a machine with a GPU. `make gpu GPU_PYTHON=python3` takes an environment that exists, as where there is no network.
GPU_VENV := .venv-gpu
GPU_PYTHON ?= $(GPU_VENV)/bin/python
GPU_CACHE = $(DATA)/gpu-tests-kernel-cache
# Where the demo and `make serve` keep collections, checkpoints and the server's log.
DATA ?= .tridex
MODEL ?= default
PRECISION ?= fp32
COLLECTION ?= stdlib
PORT ?= 8001
ROUNDS ?= 300
KILLS ?= 200
STOPS ?= 50
MINUTES ?= 10
OF_CORPUS = $(if $(CORPUS),--corpus $(CORPUS))
EXPORTED = ls model_repository/encoder/*/manifest.json >/dev/null 2>&1 || \
  $(BIN)/tridex export $(MODEL) --precision $(PRECISION)
.DEFAULT_GOAL := help
.PHONY: help install demo serve export index build search perf bench bench-build bench-kernels bench-index
.PHONY: bench-candidates bench-overload bench-start bench-ingest quality observe soak gpu install-gpu try test test-browser
.PHONY: test-crash docs generate lint lint-deploy clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-17s\033[0m %s\n", $$1, $$2}'

install: $(VENV)/.done ## make the environment: server, export, tests

# torch first and by exact version: any looser request may pull gigabytes of CUDA libraries that a CPU cannot use.
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(CLIENT_VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CLIENT_VENV)
	grep -v '^numpy==' constraints.txt > $(CLIENT_VENV)/constraints.txt
	$(CLIENT_VENV)/bin/pip install --quiet --constraint $(CLIENT_VENV)/constraints.txt --editable . 'numpy>=2'
	@touch $@

demo: install ## export, index Python's documentation, serve, ask questions, stop
	$(BIN)/python -m examples.demo --data $(DATA)

export: install ## export a checkpoint: MODEL=<hub id or folder> PRECISION=fp32|fp16|int8
	$(BIN)/tridex export $(MODEL) --precision $(PRECISION)

serve: install ## run the server until Ctrl-C (exports the default checkpoint first if there is none)
	@$(EXPORTED)
	$(BIN)/tridex serve --store $(DATA)/store --grpc-port $(PORT)

try: install ## try it on a file of your own, in the browser: FILE=<.jsonl, .csv, ... or BEIR folder>
	@test -n "$(FILE)" || { echo "make try FILE=films.csv"; exit 2; }
	$(BIN)/tridex try $(FILE)

index: install ## index into a running server: FILE=<.jsonl, .csv, ... or BEIR folder> COLLECTION=<name>
	@test -n "$(FILE)" || { echo "make index FILE=corpus.jsonl COLLECTION=name"; exit 2; }
	$(BIN)/tridex index add $(FILE) --collection $(COLLECTION) --create --address localhost:$(PORT)

build: install ## build a new collection without a server: FILE=<.jsonl, .csv, ... or BEIR folder> COLLECTION=<name>
	@test -n "$(FILE)" || { echo "make build FILE=corpus.jsonl COLLECTION=name"; exit 2; }
	$(BIN)/tridex index build $(FILE) --collection $(COLLECTION) --store $(DATA)/store

search: install ## ask a running server: QUERY="..." COLLECTION=<name>
	@test -n "$(QUERY)" || { echo 'make search QUERY="delete a directory" COLLECTION=stdlib'; exit 2; }
	$(BIN)/tridex search $(COLLECTION) "$(QUERY)" --address localhost:$(PORT)

perf: install ## load the server with perf_analyzer: throughput, latency, the split by stage: CORPUS=<BEIR folder>
	$(BIN)/python -m benchmarks.serving --data $(DATA) $(OF_CORPUS)

bench: install ## measure the encoder against plain ONNX Runtime, and int8 against fp32
	$(BIN)/python -m benchmarks.encoder --data $(DATA)

bench-build: install ## build and search real collections in every codec: CORPORA=<folder of BEIR folders>
	$(BIN)/python -m benchmarks.build $(if $(CORPORA),--corpora $(CORPORA))

bench-kernels: install ## measure MaxSim against other libraries and the device's roofline (QUICK=1: a minute)
	$(BIN)/python -m benchmarks.maxsim $(if $(QUICK),--quick)

bench-candidates: install ## measure candidate search and the modes: FOLDERS="<BEIR folder> ..."
	@test -n "$(FOLDERS)" || { echo 'make bench-candidates FOLDERS="scifact nfcorpus"'; exit 2; }
	$(BIN)/python -m benchmarks.candidates $(FOLDERS) --data $(DATA)

quality: install ## measure ranking quality, codec by codec: CORPORA=<folder of BEIR folders> ONLY="<names>" ALSO=<checkpoint>
	@test -n "$(CORPORA)" || { echo "make quality CORPORA=<folder of BEIR folders>"; exit 2; }
	$(BIN)/python -m benchmarks.quality --corpora $(CORPORA) --data $(DATA) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(ALSO),--also $(ALSO))

bench-index: install ## measure the mutable index: how soon a write is found, what searches pay for it, filters
	$(BIN)/python -m benchmarks.mutable_index --data $(DATA)

bench-start: install ## measure how soon a server is ready, without and with the kernel cache
	$(BIN)/python -m benchmarks.start --data $(DATA)

bench-ingest: install ## measure what a big ingest costs the searches beside it: CORPUS=<BEIR folder>
	$(BIN)/python -m benchmarks.ingest --data $(DATA) $(OF_CORPUS)

bench-overload: install ## send ten times more searches than the server can do: what is accepted, and how soon the rest refused
	@$(EXPORTED)
	$(BIN)/python -m benchmarks.overload --data $(DATA)

observe: install $(DEPLOY_VENV)/bin/prometheus ## has every query of the dashboards data? A real Prometheus watches a mixed load for MINUTES=10
	@$(EXPORTED)
	$(BIN)/python -m benchmarks.observe --prometheus $(DEPLOY_VENV)/bin/prometheus --minutes $(MINUTES) --data $(DATA)

soak: install ## a mixed load for MINUTES=10: fails where memory, file descriptors or disk grow
	@$(EXPORTED)
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --data $(DATA)

install-gpu: $(GPU_VENV)/.done ## make the environment of `make gpu`, on a machine with a GPU: gigabytes of CUDA's libraries

$(GPU_VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[gpu-dev]'
	@touch $@

# Without a network it takes $(DATA)/perf_analyzer, which an earlier `make perf` has fetched. The tests run side by side,
# those that share servers or services in one process, and agreement, which times nothing, beside them; what asks how
# much of the GPU's memory is free is alone on it, and finds what the servers before it have compiled.
gpu: $(if $(filter $(GPU_VENV)/%,$(GPU_PYTHON)),install-gpu) ## on a machine with a GPU: its tests, then what is measured on it: CORPUS=<BEIR folder>
	rm -rf $(GPU_CACHE)
	$(if $(CORPUS),$(GPU_PYTHON) -m benchmarks.agreement --device cuda $(OF_CORPUS) & agreement=$$!;) \
	  $(GPU_PYTHON) -m pytest tests/gpu -m 'not alone' --numprocesses 14 --dist loadgroup --kernel-cache $(GPU_CACHE) \
	  $(if $(CORPUS),; tests=$$?; wait $$agreement && exit $$tests)
	$(GPU_PYTHON) -m pytest tests/gpu -m alone --kernel-cache $(GPU_CACHE)
	$(GPU_PYTHON) -m benchmarks.batch_profile --data $(DATA) --device cuda $(OF_CORPUS)
	$(GPU_PYTHON) -m benchmarks.bulk_build --data $(DATA) --device cuda $(OF_CORPUS)
	$(GPU_PYTHON) -m benchmarks.start --data $(DATA) --device cuda --rounds 1
	$(GPU_PYTHON) -m benchmarks.serving --data $(DATA) --seconds 1 $(OF_CORPUS)
	$(GPU_PYTHON) -m benchmarks.ingest --data $(DATA) --seconds 3 $(OF_CORPUS)
	$(GPU_PYTHON) -m benchmarks.maxsim
	$(GPU_PYTHON) -m benchmarks.large --codecs residual2 --batches 1 8 --seconds 2

# First what needs no server, in two processes of one thread each, with the lines that it reaches; what runs in a server
# is not counted. Then what starts servers, which take all cores.
test: install $(CLIENT_VENV)/.done ## run every test, the real server included, and report coverage
	OMP_NUM_THREADS=1 $(BIN)/pytest --ignore tests/end_to_end --ignore tests/crash \
	  --numprocesses 2 --dist loadfile --cov --cov-report=term
	TRIDEX_CLIENT_PYTHON=$(CURDIR)/$(CLIENT_VENV)/bin/python $(BIN)/pytest tests/end_to_end tests/crash

test-browser: install ## try the playground in headless Chromium (Debian: apt-get install chromium-headless-shell)
	$(BIN)/pytest tests/browser

test-crash: install ## kill writers (ROUNDS=300), kill (KILLS=200) and stop (STOPS=50) a server's processes under load at random moments
	@mkdir -p $(DATA)
	$(BIN)/pytest tests/crash --crash-rounds $(ROUNDS) --crash-kills $(KILLS) --crash-stops $(STOPS) \
	  --crash-results $(DATA)/crash.json
	$(BIN)/python -m benchmarks.crash $(DATA)/crash.json

generate: install ## write the synchronous client from the asynchronous one
	$(BIN)/python client/generate_sync.py

# The message it silences is about MkDocs 2 (docs/decisions/029-documentation-as-a-site.md).
docs: install ## build the documentation in .site/, strictly: every link and every documented name exists
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: install docs ## ruff, mypy --strict, the arrows between the packages, the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# With the client, whose types the recipes' calls are checked against. promtool is in Debian's package prometheus, whose
# own program `make observe` runs; where it is installed that one is taken.
$(DEPLOY_VENV)/.done: deploy/requirements-lint.txt pyproject.toml
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/pip install --quiet --requirement $< --editable .
	@command -v promtool >/dev/null || { cd $(DEPLOY_VENV) \
	  && { apt-get download --quiet=2 prometheus || { apt-get update --quiet=2 && apt-get download --quiet=2 prometheus; }; } \
	  && dpkg-deb --extract prometheus_*.deb . ; }
	ln -sf "$$(command -v promtool || echo ../usr/bin/promtool)" $(DEPLOY_VENV)/bin/promtool
	@touch $@

$(DEPLOY_VENV)/bin/prometheus: $(DEPLOY_VENV)/.done
	ln -sf "$$(command -v prometheus || echo ../usr/bin/prometheus)" $@

lint-deploy: $(DEPLOY_VENV)/.done ## check images, chart, alerts and dashboards (deploy/), without a container runtime
	$(DEPLOY_VENV)/bin/python deploy/check.py

clean: ## remove the environments, exported encoders and collections
	rm -rf $(VENV) $(CLIENT_VENV) $(DEPLOY_VENV) $(GPU_VENV) $(DATA) model_repository/encoder/[0-9]* model_repository/encoder/.staging-* \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .site .coverage
