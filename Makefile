# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# "make" or "make help" lists the targets. Each one prepares what it needs.
# PYTHON is the interpreter of the virtual environments (3.11 or newer).

PYTHON ?= python3
export PYTHON

venv := .venv/bin

# "make test" sets it to quick: CONTRIBUTING.md has a table of what each tier runs. A single target runs everything.
TIER ?=
quick := $(filter quick,$(TIER))
oldest_core := 2.16
older_cores := $(oldest_core) $(if $(quick),,2.17 2.18)
# For the targets whose tests run with each of them.
older_environments := $(older_cores:%=.venvs/core-%/.ready)
select := $(if $(quick),-m 'not thorough')
export HYPOTHESIS_PROFILE := $(if $(quick),quick,thorough)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- Demonstrating and measuring ---

.PHONY: demo bench
demo: .venv/.ready guest-packages ## save a real guest, restore it, and correct its clock
	@tests/setup/with-guests $(venv)/python -m tests.demo

bench: .venv/.ready guest-packages ## measure on a real guest: prints tables and writes build/bench.json
	@tests/setup/with-guests $(venv)/python -m tests.bench

# --- Checking ---

# Seconds after which a test counts as hanging and is ended. No test takes this long, even on a busy machine.
hangs := 600

# Seconds of fuzzing in total.
SECONDS ?= 16

# The figures of a correction depend on these files.
covered := $(addprefix _protocol/,framing.py messages.py numbers.py values.py) \
    $(addprefix _clock/,intervals.py measuring.py methods.py offsets.py report.py resync.py stepping.py) \
    $(addprefix _clock/,tolerance.py) _agent.py _channels/base.py

only_in_test_all := $(if $(quick),,fuzz $(older_cores:%=sanity-on-%))
# One more at a time than there are processors, since most of them wait now and then. The longest come first. The output of
# each is shown when it ends.
checks := vm integration molecule lint unit unit-slow sanity $(older_cores:%=unit-on-%) docs release-check $(only_in_test_all)
at_once ?= $(shell echo $$(($$(nproc) + 1)))

.PHONY: checks test test-all unit unit-slow unit-all unit-on-targets integration vm sanity lint molecule fuzz
test: TIER := quick
test: ## every check, each capability once: a quarter of an hour on two processors
test-all: TIER := all
test-all: ## every test, with all repetitions: an hour and a half
# The environments of the longest targets are made first; otherwise make would start all other targets meanwhile.
test: .venvs/core-$(oldest_core)/.ready
test-all: $(older_environments)
test test-all: .venv/.ready guest-packages
	@$(MAKE) TIER=$(TIER) PACKAGES=checked --no-print-directory --keep-going --jobs=$(at_once) --output-sync=target checks

checks: $(checks)

# A developer waits for a single target, so it tries fewer examples.
ifeq ($(TIER),)
unit unit-%: export HYPOTHESIS_PROFILE := quick
endif

unit: .venv/.ready ## unit tests with branch coverage, ansible-core 2.19: the first thing to run after a change
	$(venv)/pytest -n auto -m 'not slow' --timeout $(hangs) tests/unit --cov --cov-report=term
	@$(venv)/coverage report --fail-under=100 $(covered:%=plugins/module_utils/%) || \
	    { echo "Every line and branch of $(covered) must be tested." >&2; exit 1; }

# They spend most of their time waiting.
unit-slow: .venv/.ready ## unit tests that start programs or wait for a real clock
	$(venv)/pytest -n 4 -m slow --timeout $(hangs) tests/unit

unit-all: unit unit-slow $(older_cores:%=unit-%) ## all unit tests, also with every older ansible-core

unit-%: .venvs/core-%/.ready
	.venvs/core-$*/bin/pytest -q -n auto --timeout $(hangs) tests/unit

# Only tests of code that imports Ansible: the rest is the same on every core.
unit-on-%: .venvs/core-%/.ready
	.venvs/core-$*/bin/pytest -q --timeout $(hangs) tests/unit/plugins/filter tests/unit/plugins/plugin_utils \
	    tests/unit/plugins/connection tests/unit/plugins/inventory tests/unit/plugins/modules \
	    tests/unit/plugins/module_utils/test_module*.py

# Code that runs on hypervisors and in guests, with their Python: make unit-on-targets PYTHON=python3.9
# Without code that needs Ansible or runs only on controllers, which have Python 3.11 or newer.
unit-on-targets: .venvs/targets/.ready
	PYTHONPYCACHEPREFIX=build/pycache .venvs/targets/bin/python -m compileall -q -f plugins/module_utils plugins/modules roles
	.venvs/targets/bin/pytest -q -n auto --timeout $(hangs) tests/unit/plugins/module_utils tests/unit/roles \
	    $(addprefix --ignore=tests/unit/,$(addsuffix .py,$(only_on_controllers)))

only_on_controllers := plugins/module_utils/test_module roles/resync_on_resume/test_templates \
    $(addprefix roles/extended_agent/test_,shell_programs supervise switch_initd)

integration: .venv/.ready $(older_environments) guest-packages ## every channel against stock agents and fakes, without a guest
	$(venv)/pytest $(select) --timeout $(hangs) --durations 20 --durations-min 5 tests/integration

vm: .venv/.ready $(older_environments) guest-packages ## real guests: save, suspend and revert them, correct and verify their clocks
	tests/setup/with-guests $(venv)/pytest $(select) --durations 20 --durations-min 5 tests/vm

molecule: .venv/.ready guest-packages ## the roles: extended_agent on guests of three Debian releases, resync_on_resume on one
	@$(venv)/python -m tests.support.collection link >/dev/null
	PATH="$(CURDIR)/$(venv):$$PATH" tests/setup/with-guests tests/setup/molecule $(or $(TIER),all)

fuzz: .venv/.ready ## make fuzz SECONDS=600: arbitrary bytes into everything that reads bytes
	@$(venv)/python -m tests.fuzz --seconds $(SECONDS)

sanity: .venv/.ready ## ansible-test sanity, ansible-core 2.19
	@tests/setup/sanity $(if $(quick),--exclude tests/)

sanity-on-%: .venvs/core-%/.ready
	@VENV=.venvs/core-$* tests/setup/sanity

lint: .venv/.ready ## ruff, codespell, mypy, vermin, shellcheck, biome, yamllint, ansible-lint, reuse
	$(venv)/ruff check
	$(venv)/ruff format --check
	$(venv)/codespell
	@$(venv)/python -m tests.support.collection link >/dev/null
	$(venv)/mypy -p ansible_collections.qemu.guest_agent.plugins.module_utils \
	    -p ansible_collections.qemu.guest_agent.plugins.plugin_utils \
	    -p ansible_collections.qemu.guest_agent.plugins.modules \
	    -p ansible_collections.qemu.guest_agent.plugins.filter \
	    -p ansible_collections.qemu.guest_agent.plugins.connection \
	    -p ansible_collections.qemu.guest_agent.plugins.inventory
	@$(venv)/python -m tests.support.extended_agent >/dev/null
	MYPYPATH=build/extended_agent $(venv)/mypy -p qemu_ga_extended
	@$(venv)/python -m tests.support.resync_service >/dev/null
	MYPYPATH=build/resync_service $(venv)/mypy -p resync_on_resume
	$(venv)/mypy extensions/eda/plugins/event_source/libvirt_guest.py
	$(venv)/vermin --quiet --no-tips --violations --target=3.8- plugins extensions/eda/plugins \
	    roles/*/files
	test ! -x $(venv)/biome || $(venv)/biome lint --error-on-warnings --config-path=tests/setup plugins
	shellcheck plugins/plugin_utils/_connection/guest/*.sh
	$(venv)/yamllint --strict .
	PATH="$(CURDIR)/$(venv):$$PATH" ANSIBLE_COLLECTIONS_PATH="$$($(venv)/python -m tests.support.collection install)" \
	    $(venv)/ansible-lint --offline
	$(venv)/reuse lint --quiet || $(venv)/reuse lint

# --- Building ---

.PHONY: build docs clean
build: .venv/.ready ## the collection's tarball, in build/
	@$(venv)/python -m tests.support.collection build

docs: .venvs/docs/.ready ## the documentation site, in build/docs/html, with a check of its links
	@.venvs/docs/bin/python -m tests.docs

# --- Releasing: see CONTRIBUTING.md ---

release := .venvs/release/bin

.PHONY: release-check release-lint importer nox changelog
release-check: .venv/.ready $(if $(quick),,release-lint importer) ## the changelog, Galaxy's importer, the tarball's contents, execution environments
	$(venv)/pytest $(select) --timeout $(hangs) tests/release

release-lint: .venvs/release/.ready ## the changelog's fragments and GitHub's workflows
	@$(release)/antsibull-changelog lint
	@$(release)/antsibull-changelog lint-changelog-yaml --strict changelogs/changelog.yaml
	@$(release)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(release)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(release)/zizmor --offline --quiet --strict-collection .github

importer: .venv/.ready .venvs/importer/.ready ## Galaxy's importer, on the built tarball
	@tests/setup/importer

nox: .venvs/release/.ready ## make nox SESSION=license-check: one session of noxfile.py, or all default ones
	PATH="$(CURDIR)/$(release):$$PATH" $(release)/nox $(SESSION:%=-e %)

# The version must be new: antsibull-changelog would change the record of a released version before it fails.
changelog: .venvs/release/.ready ## write the changelog of the version in galaxy.yml from the fragments
	@version=$$(awk '/^version:/ { print $$2 }' galaxy.yml) && if grep -qx "  $$version:" changelogs/changelog.yaml; then \
	    echo "$$version is already in the changelog. Set the next version in galaxy.yml." >&2; exit 1; fi
	@PATH="$(CURDIR)/$(release):$$PATH" $(release)/antsibull-changelog release
	@rm -f changelogs/.plugin-cache.yaml

clean: ## remove everything that make created
	rm -rf build .venv .venvs .ansible .hypothesis

# --- Packages and environments ---

.PHONY: build-packages guest-packages
build-packages:
	$(if $(PACKAGES),,@tests/setup/system-packages build)

# After build-packages, since dpkg has one lock. "make test" checks them once, before the targets that need them.
guest-packages: build-packages
	$(if $(PACKAGES),,@tests/setup/system-packages test)

# Order-only: packages are checked first, but checking them again does not rebuild an environment.
.venv/.ready: tests/setup/requirements.txt tests/setup/unit.txt | build-packages
	@tests/setup/venv .venv -r tests/setup/requirements.txt

.venvs/core-%/.ready: tests/setup/unit.txt | build-packages
	@tests/setup/venv .venvs/core-$* -r tests/setup/unit.txt 'ansible-core~=$*.0'

.venvs/targets/.ready: tests/setup/unit.txt | build-packages
	@MINIMUM=3.8 tests/setup/venv .venvs/targets -r tests/setup/unit.txt

.venvs/docs/.ready: tests/setup/docs.txt | build-packages
	@tests/setup/venv .venvs/docs -r tests/setup/docs.txt

.venvs/release/.ready: tests/setup/release.txt | build-packages
	@tests/setup/venv .venvs/release -r tests/setup/release.txt

.venvs/importer/.ready: tests/setup/importer.txt | build-packages
	@tests/setup/venv .venvs/importer -r tests/setup/importer.txt

# Otherwise make would remove these environments as intermediate files.
.PRECIOUS: .venvs/core-%/.ready
