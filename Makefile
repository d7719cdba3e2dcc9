# `make` lists the targets; each does its own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
SCRIPTS := .ci/run $(wildcard scripts/*.sh)

.PHONY: urls help setup setup-ansible setup-audit setup-browser setup-programs demo up test lint lint-platform unit test-e2e test-e2e-short test-faults test-lab test-lab-full test-lab-additions test-lab-upgrade test-lab-trouble test-host acceptance bench notebooks references outdated audit vendor-check screenshots lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## create .venv with exactly the locked packages
	@scripts/setup.sh

setup-ansible: ## create .venv-ansible with Ansible and its linters
	@scripts/setup-ansible.sh

setup-audit: ## create .venv-audit with what looks for known holes and writes bills of materials
	@scripts/setup-audit.sh

setup-browser: ## install Debian's Chromium for the tests of the pages, where root may
	@scripts/chromium.sh

setup-programs: ## install Debian's packages of small programs that tests run, where root may
	@scripts/programs.sh

demo: setup ## run the whole loop once: train, drift, retrain, swap, recover, report
	@$(BIN)/driftloop demo

up: setup ## start the embedded platform and keep it running
	@$(BIN)/driftloop up

test: lint lint-platform unit ## everything that must pass before a commit lands

lint: setup ## style, types, import rules, scripts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=src $(BIN)/lint-imports --no-logo
	@$(BIN)/shellcheck $(SCRIPTS)
	@scripts/lint-workflows.sh

lint-platform: setup ## playbooks, inventory and the scripts of the cluster
	@scripts/lint-platform.sh

unit: setup setup-ansible setup-audit setup-browser setup-programs ## unit, property and API tests, and one loop from end to end
	@scripts/unit.sh

test-e2e: setup setup-browser ## other fleets, several on one platform, changed labels: each on a platform of its own
	@$(BIN)/pytest -m "e2e and not faults"

test-e2e-short: setup ## of these, a newcomer's path: from a folder of files to a served model
	@$(BIN)/pytest -m "e2e and not faults" tests/e2e/test_newcomer.py

test-faults: setup ## kill, corrupt and overload things on purpose
	@$(BIN)/pytest -m faults

test-lab: setup setup-ansible ## prove the playbooks and the loop on a real Kubernetes (root; 50 GB; installs Debian packages)
	@tests/lab/test.sh

test-lab-full: setup setup-ansible ## the same, with site.yml in one piece, every fact broken on purpose, and faults under traffic
	@tests/lab/test.sh --full

test-lab-additions: setup setup-ansible setup-browser ## the same platform with each addition switched on, tried and taken off
	@tests/lab/test.sh --additions

test-lab-upgrade: setup setup-ansible ## v0.1.0 upgraded to this version on a Kubernetes, under traffic and while it retrains
	@tests/lab/test.sh --upgrade

test-lab-trouble: setup setup-ansible ## a database that can only be read, an expired certificate, a full disk: what people see, and that it heals
	@tests/lab/test.sh --trouble

urls: setup-ansible ## where every service of the platform is, and where its password lies
	@.venv-ansible/bin/ansible-playbook playbooks/urls.yml

acceptance: setup setup-ansible ## prove this checkout on an Ubuntu machine, with a report: MACHINE=user@host, or HCLOUD_TOKEN for a rented one; FROM=v0.1.0
	@$(BIN)/python scripts/acceptance.py $(if $(MACHINE),--machine $(MACHINE),--hetzner) $(if $(FROM),--from $(FROM))

test-host: setup-ansible ## prove the playbooks of the machine on one made of namespaces (root)
	@tests/host/run.sh

bench: setup ## measure the figures in docs/measurements.md
	@$(BIN)/python scripts/bench.py

notebooks: setup ## run the notebooks on NASA's data and keep what they show
	@$(BIN)/python scripts/notebooks.py

outdated: setup ## everything pinned beside the newest version, and until when it is supported
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/outdated.py

audit: setup setup-audit ## known holes, licences that bind us, secrets; exit code 3 where a part could not look
	@$(BIN)/python scripts/audit.py

references: setup ## write docs/reference anew from the code
	@$(BIN)/python scripts/references.py

vendor-check: setup ## compare the pages' assets from others with npm's, byte for byte
	@$(BIN)/python scripts/vendor_check.py

screenshots: setup setup-browser ## take a whole loop through the pages and keep pictures of every page in build/screenshots
	@DRIFTLOOP_SCREENSHOTS=build/screenshots $(BIN)/pytest -q -m "e2e and not faults" tests/console/test_whole_loop.py

lock: setup ## choose package versions anew within pyproject's bounds
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --group dev \
		--no-emit-index-url --no-emit-package driftloop --no-annotate --no-header --generate-hashes pyproject.toml src/driftloop_bench/pyproject.toml \
		--output-file requirements.lock

clean: ## remove what the targets made, but not data or state
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .import_linter_cache
