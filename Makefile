# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

TOP := $(CURDIR)
CACHE := $(TOP)/.cache
TARGETS := lint sanity unit integration asterisk hosts molecule
# Those joined by + run side by side: what has one processor's worth of work each, and the images that later ones need.
STAGES := lint sanity+unit+images integration asterisk hosts molecule
# Tests at a time where most of the time is spent waiting: for a kernel's timers, an Asterisk, a host that boots.
WORKERS := 3

# The tools' own environment for every command of every target.
export PATH := $(CACHE)/venv/bin:$(PATH)
export PYTHONPATH := $(TOP):$(CACHE)
export ANSIBLE_COLLECTIONS_PATH := $(CACHE)
export ANSIBLE_HOME := $(CACHE)/ansible
export PYTHONDONTWRITEBYTECODE := 1
export PYTHONUNBUFFERED := 1

.PHONY: help setup test $(TARGETS) test-pi demo bench images docs format clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what the targets need (each of them does it by itself)
	@tests/bin/setup

test: ## everything: lint, sanity, unit, integration, asterisk, hosts, molecule
	@tests/bin/stages $(STAGES)

lint: setup ## ruff, mypy, yamllint, ansible-lint, shellcheck, changelog, generated pages
	@tests/bin/lint

sanity: setup ## ansible-test sanity, every test, nothing ignored
	@tests/bin/sanity

unit: setup ## pytest tests/unit; TESTS=path and ARGS="-k name" for a part
	@python -m pytest $(or $(TESTS),tests/unit) $(ARGS)

integration: setup ## pytest tests/integration: real kernel, network namespaces; root
	@python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(or $(TESTS),tests/integration) $(ARGS)

asterisk: setup ## pytest tests/asterisk, tests/fail2ban: real Asterisks 16 and 22, called, scanned and reloaded; root
	@python -m lab images
	@python -m pytest -n $(WORKERS) --dist loadfile $(or $(TESTS),tests/asterisk tests/fail2ban) $(ARGS)

hosts: setup ## pytest tests/hosts: whole hosts in containers, locked out, rebooted, flushed; root
	@python -m lab images
	@python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(or $(TESTS),tests/hosts) $(ARGS)

molecule: setup ## every scenario of molecule/; SCENARIOS="name ..." for some
	@tests/bin/molecule $(SCENARIOS)

test-pi: setup ## an emulated Raspberry Pi, hardened, attacked, rebooted, cleared: its own stage, not a part of test; root
	@tests/bin/pi $(or $(TESTS),tests/pi) $(ARGS)

demo: setup ## a real Asterisk, a real scanner, before and after
	@python -m lab demo

bench: setup ## what a packet and a run cost, beside the published lists
	@python -m tests.bench

images: setup ## the lab's container images, if they are not there
	@python -m lab images

docs: setup ## write the generated pages anew
	@for script in docs/bin/*; do if [[ -f $$script && -x $$script ]]; then "$$script"; fi; done

format: setup ## repair what ruff can repair
	@tests/bin/lint --fix

clean: ## remove all that was made here: the lab's containers, tools, caches, results
	@if [[ -x $(CACHE)/venv/bin/python ]]; then python -m lab down; fi
	@rm -rf $(CACHE) .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/output changelogs/.plugin-cache.yaml sipguard-pbx-*.tar.gz
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
