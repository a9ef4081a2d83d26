# `make` lists the targets. Nothing needs to be set up first: every target makes .venv if it must.
SHELL := /bin/bash
SCALE ?= paper
FRESH ?= 0
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
NATIVE := experiments/agents/_native.so
VIDEO = seed=1 keep_model=true runs=runs/video
STUDY_ARGUMENTS = scale=$(SCALE) $(if $(TASK),task=$(TASK)) $(if $(filter 1,$(FRESH)),fresh=true)

.DEFAULT_GOAL := help
.PHONY: help setup test test-fast test-faults test-slurm test-gpu lint format reproduce-dqn reproduce-td3 reproduce-ppo status \
	plots figure report claims check-results check-records benchmark benchmark-optimizer benchmark-throughput \
	benchmark-equivalence benchmark-tracking sbx \
	dashboard wandb-sync tensorboard video docs clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
	while IFS=$$'\t' read -r target text; do printf '  \033[1m%-20s\033[0m %s\n' "$$target" "$$text"; done

setup: $(VENV)/installed $(NATIVE) ## Make .venv with everything pinned (done by the other targets when needed)

$(VENV)/installed: pyproject.toml constraints.txt alphagrad/kernel.cpp alphagrad/vectors.h
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check 'pip>=25.1' # knows dependency groups
	$(RUN) -m pip install --quiet -c constraints.txt torch -e '.[sb3]' --group dev
	@$(RUN) -c 'from alphagrad import kernel; kernel.is_built() or print("AlphaGrad goes without its kernel.", \
	"Why: $(RUN) -m pip install -v --force-reinstall --no-deps -e .")'
	@touch $@

# Without it, networks go through torch.
$(NATIVE): experiments/agents/native.cpp alphagrad/vectors.h
	@$(CXX) -std=c++17 -O3 -fno-math-errno -fno-trapping-math -shared -fPIC -o $@.new $< && mv $@.new $@ || \
	echo "$@ was not built, so that updates take longer: is there a C++ compiler?"

test: setup ## Run all tests
	$(RUN) -m pytest -n auto --dist worksteal

test-fast: setup ## Run the tests that take less than ten seconds each
	$(RUN) -m pytest -n auto --dist worksteal -m 'not slow'

test-faults: setup ## Kill workers and parents of small studies, fill a disk, compare every record
	$(RUN) tests/faults.py --kills 20

test-slurm: setup ## Run studies on a Slurm cluster of two nodes on this machine (Debian, root)
	@command -v slurmctld >/dev/null || [ -x /usr/sbin/slurmctld ] || \
	{ echo "installing Debian's slurm-wlm and munge"; apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null; }
	CI=true $(RUN) -m pytest tests/slurm

test-gpu: setup ## On a CUDA GPU: the optimizer's tests, a short study, the step's times (eight minutes)
	@$(RUN) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("make test-gpu: torch finds no CUDA GPU here")' || exit 2
	$(RUN) -m pytest tests/gpu
	$(RUN) -m scripts.benchmark.gpu

lint: setup ## Check style (ruff) and types (mypy, strict)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: setup ## Format the code
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

reproduce-dqn: setup ## The study of DQN, its tables and figures (SCALE=paper|quick, TASK=CartPole-v1, FRESH=1)
reproduce-td3: setup ## The study of TD3, likewise
reproduce-ppo: setup ## The study of PPO, likewise
reproduce-dqn reproduce-td3 reproduce-ppo: reproduce-%:
	$(RUN) -m experiments.study study=$* $(STUDY_ARGUMENTS)
	$(RUN) -m scripts.figures study=$* scale=$(SCALE)
	$(RUN) -m scripts.tables study=$* scale=$(SCALE)

status: setup ## Watch all runs: done, running with time left, stalled, diverged, failed
	$(RUN) -m experiments.runs.status

plots: setup ## Redraw every table and figure from the records under results/
	$(RUN) -m scripts.tables
	$(RUN) -m scripts.figures

figure: setup ## Redraw one figure: NAME=learning_curves (STUDY=ppo, SCALE=paper|quick)
	$(RUN) -m scripts.figures name=$(or $(NAME),all) study=$(or $(STUDY),all) $(if $(filter command line,$(origin SCALE)),scale=$(SCALE))

report: setup ## Write results/report.html and results/README.md, with all tables, figures and verdicts
	$(RUN) -m scripts.report

dashboard: setup ## With a wandb key: save the workspace, print its address; without: see the runs here
	$(RUN) -m experiments.views.dashboard

wandb-sync: setup ## Upload to wandb what was logged without a key or a network
	WANDB_DIR=runs $(VENV)/bin/wandb sync --yes

tensorboard: setup ## Serve the runs that were made with tracking=tensorboard or both
	$(VENV)/bin/tensorboard --logdir runs/tensorboard

video: setup ## Adam beside AlphaGrad on HalfCheetah: train a run of each, then draw results/video
	$(RUN) -m experiments.train protocol=ppo_cleanrl optimizer=adam $(VIDEO)
	$(RUN) -m experiments.train protocol=ppo_cleanrl optimizer=alphagrad optimizer.alpha=10 $(VIDEO)
	$(RUN) -m experiments.views.video runs/video/ppo-* --output results/video/halfcheetah.gif \
	--size 240 --first 100 --last 180

benchmark: benchmark-optimizer benchmark-throughput benchmark-equivalence benchmark-tracking ## Run all benchmarks of speed; hours on two cores

benchmark-optimizer: setup ## Time the optimizer's step against torch's optimizers
	$(RUN) -m scripts.benchmark.optimizer

benchmark-throughput: setup ## Training speed against stock SB3, and SBX after `make sbx`; cost of a study
	$(RUN) -m scripts.benchmark.throughput protocol=dqn_cleanrl
	$(RUN) -m scripts.benchmark.throughput protocol=td3_cleanrl algorithm.learning_starts=1000
	for environment in HalfCheetah Walker2d Hopper; do \
		$(RUN) -m scripts.benchmark.throughput protocol=ppo_cleanrl environment.id=$$environment-v4 || exit; \
	done
	$(RUN) -m scripts.benchmark.figure
	$(RUN) -m scripts.benchmark.scaling

sbx: ## Install SBX, Stable-Baselines3 in JAX, into .venv-sbx, for the benchmark of throughput
	$(PYTHON) -m venv .venv-sbx
	.venv-sbx/bin/python -m pip install --quiet --disable-pip-version-check sbx-rl==0.28.0 'gymnasium[mujoco]'

benchmark-equivalence: setup ## Whether runs by native.cpp, torch and SB3 learn the same; hours
	for protocol in dqn_cleanrl ppo_cleanrl td3_cleanrl; do \
		$(RUN) -m scripts.benchmark.equivalence $$protocol || exit; \
	done

benchmark-tracking: setup ## Measure what wandb and TensorBoard cost a run of PPO (ten minutes)
	$(RUN) -m scripts.benchmark.tracking

check-results: setup ## Check that the committed tables, verdicts, pictures and pages are those of the records
	$(RUN) -m scripts.check_results

check-records: setup ## Check that the committed records may stand beside each other
	$(RUN) -m scripts.check_records

docs: setup ## Write the reference of every module, from its docstrings: build/docs/index.html
	PDOC_ALLOW_EXEC=1 $(RUN) -m pdoc --docformat google --output-directory build/docs alphagrad experiments scripts \
	'!experiments.agents._native' '!scripts.benchmark'

claims: setup ## A verdict for each claim, from the records: results/CLAIMS.md
	$(RUN) -m scripts.claims

clean: ## Remove .venv, caches and quick results; runs/ and results/ stay
	rm -rf $(VENV) .venv-sbx build *.egg-info alphagrad/*.so $(NATIVE) .mypy_cache .pytest_cache .ruff_cache .hypothesis results/quick
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
