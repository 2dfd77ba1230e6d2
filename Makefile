# Everything a developer or a newcomer does, in one place. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := ingest scoring notifier training embedded local
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links
# What checks the deployment files pins old versions of our own libraries: apart from them.
CHECKS := .venv-checks
KUSTOMIZE := sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
DATA ?= $(PERENNIAL_TEST_DATA)
# Test processes: more than cores, as the tests mostly wait. 0: one after another.
WORKERS ?= 3

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.run ## Make .venv with the program (.venv/bin/perennial)

.PHONY: demo
demo: $(VENV)/.run ## Everything on this machine, with a simulated vendor; Ctrl-C ends it
	@$(BIN)/perennial demo

.PHONY: up
up: $(VENV)/.run ## Run all services; what no variable names is started here (embedded)
	@$(BIN)/perennial up

.PHONY: migrate
migrate: $(VENV)/.run ## Bring the database and the topics up to date
	@$(BIN)/perennial migrate

.PHONY: test
test: $(VENV)/.dev ## All tests; Kafka (needs Java, Maven) and Chromium are skipped where absent
	@$(BIN)/pytest -n $(WORKERS)

.PHONY: check
check: $(VENV)/.dev check-deploy ## Format, lint, types, architecture, deployment files
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: check-deploy
check-deploy: $(CHECKS)/.done ## Dockerfile, docker-compose.yml, manifests, scripts: are they sound
	@deploy/checks/run.sh

.PHONY: manifests
manifests: $(VENV)/.run ## Renew what Kubernetes has of the alert rules and dashboards
	@$(BIN)/python deploy/kubernetes/monitoring.py

.PHONY: sbom
sbom: $(CHECKS)/.done ## A bill of materials (CycloneDX) of each image, into build/sbom
	@$(CHECKS)/bin/python deploy/checks/supply.py sbom

.PHONY: audit
audit: $(CHECKS)/.done ## Known vulnerabilities of what is locked; fails where nobody can be asked
	@$(CHECKS)/bin/python deploy/checks/supply.py audit

.PHONY: fmt
fmt: $(VENV)/.dev ## Format the code and mend what the linter can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: images
images: $(VENV)/.dev ## All four images, built by the Dockerfile's steps in a clean Debian (root, debootstrap)
	@IMAGES=all $(BIN)/pytest tests/e2e/test_dockerfile.py -v -n 0

.PHONY: faults
faults: $(VENV)/.dev ## Fault tests in full: five seeds, every outage, 20 shutdowns; over half an hour
	@FAULT_SEEDS=5 $(BIN)/pytest tests/faults -s

.PHONY: restore-drill
restore-drill: $(VENV)/.dev ## Backup, loss, restore, replay with the shipped scripts, on a database of its own
	@$(BIN)/pytest tests/integration/deploy/test_restore.py -v -n 0

.PHONY: bench
bench: $(VENV)/.dev ## Benchmarks (tests/benchmarks); figures with ratios, no pass or fail
	@$(BIN)/python -m tests.benchmarks.scoring --part intake --events 200000

.PHONY: bench-ingest
bench-ingest: $(VENV)/.dev ## How fast ingest is, on real Kafka, driven by wrk; OPTIONS="--help"
	@$(BIN)/python -m tests.benchmarks.ingest $(OPTIONS)

.PHONY: bench-scoring
bench-scoring: $(VENV)/.dev ## How fast and how right scoring is, on real Kafka; OPTIONS="--help"
	@$(BIN)/python -m tests.benchmarks.scoring $(OPTIONS)

.PHONY: bench-placing
bench-placing: $(VENV)/.dev ## How fast events without an account find theirs, on real Kafka; OPTIONS="--help"
	@$(BIN)/python -m tests.benchmarks.placing $(OPTIONS)

.PHONY: bench-notifier
bench-notifier: $(VENV)/.dev ## From a flag to a message, and a long queue; OPTIONS="--help"
	@$(BIN)/python -m tests.benchmarks.notifier $(OPTIONS)

.PHONY: evaluate
evaluate: $(VENV)/.dev ## How good the risk is, walk-forward, on DATA/contributor_activity.csv.gz; OPTIONS="--help"
	@test -n "$(DATA)" || { echo "set DATA (or PERENNIAL_TEST_DATA) to the folder of the data"; exit 2; }
	@$(BIN)/perennial evaluate --events "$(DATA)/contributor_activity.csv.gz" $(OPTIONS)

.PHONY: lock
lock: $(VENV)/.dev ## Renew the lock files after a change of dependencies
	@$(COMPILE) $(addprefix --extra ,$(EXTRAS)) --output-file requirements.txt pyproject.toml
	@$(COMPILE) $(addprefix --extra ,$(EXTRAS) apprise traces dev) --output-file requirements-dev.txt pyproject.toml
	@for service in ingest scoring notifier; do \
		$(COMPILE) --extra $$service --output-file requirements-$$service.txt pyproject.toml; \
		$(COMPILE) --extra $$service --extra traces --output-file requirements-$$service-traces.txt pyproject.toml; done
	@$(COMPILE) --extra notifier --extra apprise --output-file requirements-notifier-apprise.txt pyproject.toml
	@$(COMPILE) $(addprefix --extra ,ingest scoring notifier training) --output-file requirements-tools.txt pyproject.toml
	@$(COMPILE) --only-build-deps --build-deps-for wheel --output-file requirements-build.txt pyproject.toml
	@$(COMPILE) --output-file requirements-checks.txt deploy/checks/requirements.in

# The stamps are older than a changed lock file, so that one is installed again.
$(VENV)/.run: requirements.txt pyproject.toml
	@test -e $(VENV)/.dev || $(MAKE) --no-print-directory install LOCK=requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml
	@$(MAKE) --no-print-directory install LOCK=requirements-dev.txt
	@touch $@ $(VENV)/.run

# Where there is no Go, a kubectl of 1.27 or newer has kustomize too (deploy/checks/run.sh).
$(CHECKS)/.done: requirements-checks.txt Makefile
	@echo "Installing requirements-checks.txt into $(CHECKS) ..."
	@test -x $(CHECKS)/bin/python || $(PYTHON) -m venv $(CHECKS)
	@$(CHECKS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-checks.txt
	@! command -v go >/dev/null || GOBIN="$(CURDIR)/$(CHECKS)/bin" go install $(KUSTOMIZE) \
		|| echo "NOT INSTALLED: kustomize"
	@touch $@

.PHONY: install
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Perennial needs Python 3.11 or newer; set PYTHON=..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing $(LOCK) into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
