# SPDX-License-Identifier: Apache-2.0
# Two commands matter to a user: `make demo` and `make test`. Both install what is missing first.

SHELL := /bin/bash
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help setup setup-demo setup-vm demo test test-vm soak fuzz unit lab browser check bench-generator bench-reflector bench-sampling bench-search bench-report bench-deploy bench-history bench-changepoints bench-statistics wheel clean

help:
	@echo "make demo             build a lab on this machine, run scenarios/quickstart.yaml in it, write the report"
	@echo "make test             every test that this machine can run (unit, lab, browser)"
	@echo "make soak             100 rounds of deploying every stack, 100 more on a tuned host, 50 kills, each other fault"
	@echo "                      10 times, 100,000 hostile inputs: nothing may be left or lost (50 minutes)"
	@echo "make fuzz SECONDS=600 coverage-guided fuzzing of everything that reads what others wrote (installs Atheris)"
	@echo "make test-vm          the tests that boot a virtual machine as DUT (installs QEMU and debootstrap)"
	@echo "make check            ruff, mypy --strict"
	@echo "make setup            only install what is missing (Debian packages, .venv, native programs);"
	@echo "                      setup-demo: without what only the tests and benchmarks need (a browser, trafgen)"
	@echo "make bench-generator  xdpgen beside trafgen and testpmd on one veth pair"
	@echo "make bench-reflector  50 kpps for a minute: does every lost frame coincide with a recorded pause?"
	@echo "make bench-sampling   what CPU samples and pause probe cost the DUT, as a share of one core"
	@echo "make bench-search     spread of NDR and PDR over five searches of the same stack"
	@echo "make bench-deploy     seconds to deploy and undeploy every stack in the lab, beside the limit of 3"
	@echo "make bench-report     a report of 10,000 simulated trials: rendering, size, Chromium"
	@echo "make bench-history    1,000 synthetic runs with 1,000,000 trials: indexing, trend, SQL"
	@echo "make bench-changepoints  jumpavg and Otava on simulated histories with known changes"
	@echo "make bench-statistics how often intervals hold the truth and gates are wrong (simulated repeats, minutes)"
	@echo "make wheel            build dist/*.whl through the sdist"

setup: $(VENV)/.stamp-test

setup-demo: $(VENV)/.stamp-demo

$(VENV)/.stamp-demo: setup.sh pyproject.toml
	@[ $(VENV)/.stamp-test -nt setup.sh -a $(VENV)/.stamp-test -nt pyproject.toml ] || \
	  PYTHON="$(PYTHON)" SUDO="$(SUDO)" bash setup.sh $(VENV) demo
	@touch $@

$(VENV)/.stamp-test: setup.sh pyproject.toml
	@PYTHON="$(PYTHON)" SUDO="$(SUDO)" bash setup.sh $(VENV) test
	@touch $@

demo: setup-demo
	@$(SUDO) $(BIN)/harness run scenarios/quickstart.yaml --report; code=$$?; \
	  echo; echo "To go on (or activate the environment once: . $(BIN)/activate):"; \
	  echo "  $(BIN)/harness results show latest                  the numbers again"; \
	  echo "  $(BIN)/harness scenarios list                       what else can be measured"; \
	  echo "  $(if $(SUDO),$(SUDO) )$(BIN)/harness run scenarios/drop-64b.yaml --report"; \
	  echo "  $(BIN)/harness stacks list                          what can be compared"; \
	  exit $$code

# Ubuntu has Chromium only as a snap; setup.sh says so. Everywhere else a missing one fails the browser tests.
NO_BROWSER := $(shell . /etc/os-release 2>/dev/null; [ "$$ID" = ubuntu ] && [ ! -x /usr/bin/chromium ] && echo yes)

test: setup
	@$(if $(NO_BROWSER),echo "test: no /usr/bin/chromium on this Ubuntu: the browser tests are left out",true)
	$(SUDO) $(BIN)/python -m pytest -m "not trex and not vm and not netmap and not dpdk$(if $(NO_BROWSER), and not browser)"

# Builds a disk from Debian packages the first time and boots QEMU: minutes where KVM does not work. Not part of CI.
test-vm: setup setup-vm
	$(SUDO) $(BIN)/python -m pytest -m vm

# The full counts of what make test does with small ones: rounds of deploying (8, and 8 tuned), kills of the harness at
# random moments (5), faults of the machines (1 each), hostile inputs (3,000). Takes about 50 minutes. Seed, commit and
# figures of the last time that each passed are in tests/data/soak.
SOAK := tests/lab/test_rounds.py tests/lab/test_survive.py tests/fuzz tests/lab/test_faults.py
soak: setup
	$(SUDO) NSH_ROUNDS=100 NSH_KILLS=50 NSH_FAULTS=10 NSH_HOSTILE=100000 NSH_SOAK_DIR=tests/data/soak \
	  $(BIN)/python -m pytest $(SOAK) -s --timeout 3600

# Not part of make test, which reads mutated inputs without a guide, and again what this has ever found. Keeps what it
# reached in results/fuzz, so that the next time goes on from there.
SECONDS ?= 600
fuzz: setup
	@$(BIN)/python -c "import atheris" 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris --editable ".[fuzz]" || true
	NSH_SOAK_DIR=tests/data/soak $(BIN)/python -m tests.fuzz.campaign --seconds $(SECONDS) --corpus results/fuzz

setup-vm:
	@PYTHON="$(PYTHON)" SUDO="$(SUDO)" bash setup.sh $(VENV) vm

# Many of these tests wait for timers and processes: one at a time more than there are cores.
unit: setup
	$(BIN)/python -m pytest tests/unit stacks -n $$(( $$(nproc) + 1 )) --dist worksteal -m "not trex and not vm and not netmap and not dpdk and not lab and not browser"

lab: setup
	$(SUDO) $(BIN)/python -m pytest -m lab

browser: setup
	$(BIN)/python -m pytest -m browser

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-generator: setup
	$(SUDO) $(BIN)/python -m benchmarks.generator --json results/bench-generator.json

bench-reflector: setup
	$(SUDO) $(BIN)/python -m benchmarks.reflector --json results/bench-reflector.json

bench-sampling: setup
	$(SUDO) $(BIN)/python -m benchmarks.sampling --json results/bench-sampling.json

bench-search: setup
	$(SUDO) $(BIN)/python -m benchmarks.search --json results/bench-search.json

bench-deploy: setup
	$(SUDO) $(BIN)/python -m benchmarks.deploy --json results/bench-deploy.json

bench-report: setup
	$(BIN)/python -m benchmarks.report --json results/bench-report.json

bench-history: setup
	$(BIN)/python -m benchmarks.history --json results/bench-history.json

bench-changepoints: setup
	$(BIN)/python -m benchmarks.changepoints --json tests/data/changepoints.json

bench-statistics: setup
	$(BIN)/python -m benchmarks.coverage --json results/bench-statistics.json

wheel: setup
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf $(VENV) dist build
