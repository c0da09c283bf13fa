# The set-up and the daily habits. PYTHON and PIP_ARGS may be given: make demo PIP_ARGS="..."
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint format report recover clean

demo: $(INSTALLED)  ## the whole study small, offline, on a CPU
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml
	@echo; echo "tables   results/demo/tables/"; echo "figures  results/demo/figures/"
	@echo "report   results/demo/report.html"

test: $(INSTALLED)  ## unit tests and end-to-end tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: $(INSTALLED)  ## style, floors, types, workflow
	$(BIN)/ruff check lunet tests
	$(BIN)/ruff format --check lunet tests
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --profile profiles/local --lint

format: $(INSTALLED)
	$(BIN)/ruff check --fix lunet tests
	$(BIN)/ruff format lunet tests
	$(BIN)/snakefmt Snakefile workflow

report: $(INSTALLED)  ## Snakemake's own report of the demo
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml --report results/demo/snakemake-report.html

recover: $(INSTALLED)  ## left-over jobs after a crash: list, end or await, unlock
	$(BIN)/lunet recover

# torch comes first and pinned, so that no other package can choose another build of it
$(INSTALLED): pyproject.toml envs/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_ARGS) -q -c envs/constraints.txt torch
	$(BIN)/pip install $(PIP_ARGS) -q -c envs/constraints.txt -e ".[slurm,export,test,twins,lint]"
	touch $@

clean:
	rm -rf .venv .snakemake work
