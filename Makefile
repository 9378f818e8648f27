# `make run` shows it at work; `make test` shows that it works. Everything else is a part of one of them.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

# The real servers of the tests need root (a Docker engine, network namespaces). Without it, sudo runs pytest.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n HOME=$(HOME) PATH=$(PATH))
PYTEST := $(ROOT) env TESTCONTAINERS_RYUK_DISABLED=true $(PY) -m pytest
LOCK := uv pip compile --quiet --generate-hashes --universal --no-emit-index-url --custom-compile-command "make lock"
PARALLEL := -n 2 --dist loadgroup

NEW = $(dir $(shell $(PY) -c 'from tests.support.tools.build import tool; print(tool("promtool"))'))

# Two cores play many servers at once. What failed beside others is run once more, alone: a real failure fails again.
ALONE = { echo "once more, alone, what failed:"; $(PYTEST) --last-failed --last-failed-no-failures none tests; }

# The program itself, or a container of it where it is not installed.
TOOL := $(PY) -m tests.support.containerised

# promtool uses one core: two files at a time.
both = printf '%s\n' $(wildcard prometheus/tests/*_test.yml) | xargs -P 2 -n 1 $(1) test rules

.DEFAULT_GOAL := help
.PHONY: help venv run test lint checks checks-new unit integration e2e bench tools system lock

help: ## Say what can be made
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /  make \1\t/' | expand -t 20

venv: $(VENV)/installed-tests ## Install into .venv exactly what the lock files say

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
		then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
		else echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; fi
	@$(PYTHON) -m venv $(VENV)

# What serving needs, without the tests' tools: little enough that `make run` shows something within a minute.
$(VENV)/installed: requirements.lock pyproject.toml | $(PY)
	$(call install,requirements.lock)
	@touch $@

$(VENV)/installed-tests: tests/requirements.lock pyproject.toml | $(PY)
	$(call install,tests/requirements.lock)
	@touch $(VENV)/installed $@

# uv installs in seconds what takes pip a minute; where it cannot be had, pip does it.
define install
@echo "installing what $(1) says into $(VENV)"
@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r installer.lock \
	&& $(VENV)/bin/uv pip install --quiet --python $(PY) --require-hashes -r $(1) \
	&& $(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps -e . \
	|| { $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1) \
	&& $(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e . ; }
endef

run: $(VENV)/installed ## Serve the shipped rules and playbooks, and show the first suggested plan
	$(VENV)/bin/remediator serve --demo

# The tools take long to build on a bare machine: they are built while everything that does not need them runs.
test: venv system ## Everything: lint, types, contracts, rules, and tests against real servers
	@mkdir -p .run && { nice $(PY) -m tests.support.tools.build >.run/tools.log 2>&1 & echo $$! >.run/tools.pid; }
	$(MAKE) lint checks unit
	@echo "waiting for the tools that are built from source"; \
		while kill -0 $$(cat .run/tools.pid) 2>/dev/null; do sleep 1; done; \
		$(PY) -m tests.support.tools.build >/dev/null || { tail -n 40 .run/tools.log >&2; exit 1; }
	$(MAKE) checks-new
	$(PYTEST) $(PARALLEL) tests --ignore=tests/unit || $(ALONE)

lint: venv ## Style, formatting, types, and who may import whom
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy remediator tests rules/units
	$(VENV)/bin/lint-imports

checks: venv system ## Prometheus's and Alertmanager's own checks of the shipped files
	$(TOOL) promtool check rules $(wildcard prometheus/rules/*.yml)
	@$(call both,$(TOOL) promtool)
	$(TOOL) amtool check-config alertmanager/alertmanager.yml

checks-new: tools ## The same, with the newest promtool and amtool
	$(NEW)promtool check rules $(wildcard prometheus/rules/*.yml)
	@$(call both,$(NEW)promtool)

unit: venv ## The quick tests: pure ones, and those that run promtool, amtool and Alertmanager
	$(PYTEST) $(PARALLEL) tests/unit || $(ALONE)

integration: venv system tools ## The tests of single parts against real servers
	$(PYTEST) $(PARALLEL) tests/support tests/integration

e2e: venv system tools ## The tests of the whole service against real servers
	$(PYTEST) $(PARALLEL) tests/e2e tests/chaos tests/browser

bench: venv system ## Measure against the floor, and print the ratios
	$(PY) -m tests.bench

system: ## Install the Debian packages of the real servers, if they are missing
	@tests/install.sh

tools: venv ## Build the real servers that exist only as Go modules, once, into the user's cache
	@$(PY) -m tests.support.tools.build

lock: ## Pin every dependency anew, with hashes: what serving needs, and with it what the tests need
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --extra test -c requirements.lock pyproject.toml -o tests/requirements.lock
	printf 'hatchling\nuv\n' | $(LOCK) -c tests/requirements.lock - -o installer.lock
