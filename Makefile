# The set-up and the daily habits. PYTHON and PIP_ARGS may be given: make demo PIP_ARGS="..."
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test test-slow lint format docs report recover clean

install: $(INSTALLED)  ## .venv with all that a study and the tests need

demo: $(INSTALLED)  ## the whole study small, offline, on a CPU
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml
	@echo; echo "tables   results/demo/tables/"; echo "figures  results/demo/figures/"
	@echo "report   results/demo/report.html"

test: $(INSTALLED)  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto --dist loadfile

test-slow: $(INSTALLED)  ## SLURM, kills, pruning, what an edit reruns, tutorial, wheel: minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n auto --dist loadfile

lint: $(INSTALLED)  ## style, floors, types, workflow
	$(BIN)/ruff check lunet tests docs
	$(BIN)/ruff format --check lunet tests docs
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --profile profiles/local --lint

format: $(INSTALLED)
	$(BIN)/ruff check --fix lunet tests docs
	$(BIN)/ruff format lunet tests docs
	$(BIN)/snakefmt Snakefile workflow

docs: .venv/.docs  ## the documentation, into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo; echo "documentation   site/index.html"

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

# not a part of what everybody needs
.venv/.docs: $(INSTALLED)
	$(BIN)/pip install $(PIP_ARGS) -q -c envs/constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf .venv .snakemake site work
