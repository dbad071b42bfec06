# Most targets are one verb; `make` alone lists them. The first that needs it makes .venv and installs the project into it.
EXP      ?= alpha_ablation
SCALE    ?= laptop
EXECUTOR ?= local
CLUSTER  ?= one_machine
DRY_RUN  ?=
JOBS     ?=
PROCESSES ?=
SET      ?=
RETRY    ?=
FORCE    ?=
RUN      ?=
HOURS    ?=
ONLY     ?=
PYTHON   ?= python3

VENV     := .venv
INSTALLED := $(VENV)/.installed
TEST_TOOLS := $(VENV)/.test-tools
PIP_INSTALL = $(VENV)/bin/python -m pip install $(if $(MAKE_TERMOUT),,--quiet) --disable-pip-version-check --constraint results/versions.txt
NFREPRO  := $(VENV)/bin/nfrepro
# One word of the shell, whatever is in it; the value of a variable, where it has one, after its option.
quoted   = '$(subst ','\'',$(1))'
option   = $(if $($(1)),$(2) $(call quoted,$($(1))))
ON_CLUSTER = $(if $(filter slurm,$(EXECUTOR)),--cluster $(call quoted,$(CLUSTER)) $(if $(DRY_RUN),--dry-run))
SCALED   = --scale $(call quoted,$(SCALE))
OPTIONS  = $(SCALED) $(foreach pair,$(SET),--set $(call quoted,$(pair)))

.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-numeric test-slurm soak soak-local lint sweep plan dry-run status watch logs cancel figures claims settle report bench gpu-check slurm-up slurm-down clean

# The cluster of `make slurm-up`, if it is there and this machine has no other.
NFREPRO_SLURM ?= /tmp/nfrepro-slurm-$(shell id -un)
export NFREPRO_SLURM
ifeq ($(SLURM_CONF)$(wildcard /etc/slurm/slurm.conf),)
ifneq ($(wildcard $(NFREPRO_SLURM)/slurm.conf),)
export SLURM_CONF := $(NFREPRO_SLURM)/slurm.conf
endif
endif

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
	@echo $(call quoted,variables: EXP=$(EXP) SCALE=$(SCALE) EXECUTOR=$(EXECUTOR) CLUSTER=$(CLUSTER) DRY_RUN=1 JOBS= PROCESSES= SET="key=value …" RETRY=1 FORCE=pattern RUN=hash HOURS=8)

setup: $(INSTALLED)  ## create .venv and install the project into it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nfrepro needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Use: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo 'installing into $(VENV) (once; torch is large, it takes a minute or more)'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --editable .
	@touch $@

$(TEST_TOOLS): $(INSTALLED)
	@echo 'installing the tools of tests and benchmarks (once)'
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

# Calls the script that draws the experiment $name; the default one where it has none of its own.
draws = if [ -f analysis/"$$name".py ]; then set -- analysis/"$$name".py; else set -- -m nfrepro.plots.default "$$name"; fi; $(VENV)/bin/python "$$@"

sweep: $(INSTALLED)  ## run what is left of EXP at SCALE, then draw it (EXECUTOR=slurm: only submit; debug: one process)
	@$(NFREPRO) sweep $(call quoted,$(EXP)) $(OPTIONS) --executor $(call quoted,$(EXECUTOR)) $(call option,JOBS,--jobs) \
	  $(call option,PROCESSES,--processes) $(if $(RETRY),--retry) $(call option,FORCE,--force) $(ON_CLUSTER)

plan: $(INSTALLED)  ## show what is left of EXP at SCALE and its cost: hours, memory, disk (EXECUTOR=slurm: as jobs)
	@$(NFREPRO) plan $(call quoted,$(EXP)) $(OPTIONS) $(if $(filter slurm,$(EXECUTOR)),--cluster $(call quoted,$(CLUSTER)))

dry-run: $(INSTALLED)  ## try a few real steps of each shape of run of EXP at SCALE: memory, speed, loss
	@$(NFREPRO) dry-run $(call quoted,$(EXP)) $(OPTIONS)

status: $(INSTALLED)  ## show the state of every run of EXP at SCALE
	@$(NFREPRO) status $(call quoted,$(EXP)) $(OPTIONS)

watch: $(INSTALLED)  ## keep refreshing the status until nothing of EXP at SCALE is queued or running
	@$(NFREPRO) status $(call quoted,$(EXP)) $(OPTIONS) --watch

logs: $(INSTALLED)  ## show the output of RUN of EXP at SCALE, and follow it until the run ends
	@$(NFREPRO) logs $(call quoted,$(EXP)) $(if $(RUN),$(call quoted,$(RUN))) $(OPTIONS) --follow

cancel: $(INSTALLED)  ## cancel queued and running runs of EXP at SCALE, or only RUN; make sweep continues them
	@$(NFREPRO) cancel $(call quoted,$(EXP)) $(if $(RUN),$(call quoted,$(RUN))) $(OPTIONS)

figures: $(INSTALLED)  ## redraw all tables and figures from results/
	@status=0; for table in results/*/*/runs.csv; do \
	  [ -f "$$table" ] || continue; \
	  grep -q '^[^,]*,completed,' "$$table" || { echo "nothing to draw: $$table has no completed run"; continue; }; \
	  folder=$$(dirname "$$table"); name=$$(basename "$$(dirname "$$folder")"); \
	  $(draws) --scale "$$(basename "$$folder")" || { status=1; echo "not drawn: $$table" >&2; }; \
	done; exit $$status

claims: $(INSTALLED)  ## show verdicts from results/, each at its best scale or SCALE; write all to results/claims.json
	@$(NFREPRO) claims $(if $(filter-out file,$(origin SCALE)),$(SCALED)) --write

settle: $(INSTALLED)  ## run the seeds that open claims need at SCALE (overnight), up to HOURS (DRY_RUN=1: only show)
	@$(NFREPRO) settle $(if $(filter-out file,$(origin EXP)),$(call quoted,$(EXP))) $(if $(filter-out file,$(origin SCALE)),$(SCALED),--scale overnight) \
	  --executor $(call quoted,$(EXECUTOR)) $(call option,HOURS,--hours) $(call option,JOBS,--jobs) $(if $(RETRY),--retry) \
	  $(if $(filter slurm,$(EXECUTOR)),--cluster $(call quoted,$(CLUSTER))) $(if $(DRY_RUN),--dry-run)

report: figures  ## redraw all figures; write REPORT.md, report.html, claims.json in results/; update README.md, docs/
	@$(NFREPRO) report
	@$(VENV)/bin/python docs/verdicts.py
	@$(VENV)/bin/python docs/experiments.py

bench: $(TEST_TOOLS)  ## measure the startup and expansion speed on this machine (more: nfrepro bench --help)
	@$(NFREPRO) bench

gpu-check: $(TEST_TOOLS)  ## check the project on this machine's NVIDIA GPU in under nine minutes; write docs/gpu.md
	@$(VENV)/bin/python -m nfrepro.bench.gpu_check --out "$${TMPDIR:-/tmp}/gpu_check.jsonl" --page docs

PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest -n $(shell expr $$(nproc) + 1) --maxprocesses 8 --dist worksteal

test: $(TEST_TOOLS)  ## run the fast tests: seconds each, a few minutes in all
	@$(PYTEST) -m 'not slurm and not slow'

test-all: test  ## run the fast tests, then the slow ones: killed sweeps, compilers, large networks (not test-slurm)
	@$(PYTEST) -m 'slow and not slurm'

test-numeric: $(TEST_TOOLS)  ## repeat the numeric tests with the kernels of a processor without AVX
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(PYTEST) -m 'not slurm and not slow' $(call option,ONLY,-k) tests/signal tests/models tests/training tests/tasks

test-slurm: $(TEST_TOOLS)  ## run the tests on a real SLURM, which they start and stop (Debian, as root; minutes)
	@$(VENV)/bin/python -m pytest -m slurm tests/slurm $(call option,ONLY,-k)

soak: $(TEST_TOOLS)  ## test 200 runs on a real SLURM: kills, requeues, lost nodes …; write docs/soak.md (up to 15 min)
	@PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} $(VENV)/bin/python tests/slurm/soak.py

soak-local: $(TEST_TOOLS)  ## test 200 local runs with 1 to 4 faults each; write docs/soak_local.md (up to 30 minutes)
	@PYTHONPATH=tests:tests/slurm$${PYTHONPATH:+:$$PYTHONPATH} $(VENV)/bin/python tests/launch/local_soak.py

lint: $(TEST_TOOLS)  ## run ruff and mypy
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

slurm-up:  ## start a real SLURM with two nodes on this machine, for EXECUTOR=slurm (Debian; installs what is missing)
	@tests/slurm/slurm-up

slurm-down:  ## stop that SLURM and its jobs, and remove its files
	@tests/slurm/slurm-down

clean:  ## remove .venv, caches and build files; keep results and data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
