# make demo and make test are the only set-up there is: each makes .venv, installs, and runs.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
MUTANTS := .venv-mutants
ONLY ?=
N ?= 200

.PHONY: demo test lint bench kill fuzz mutants clean

demo: $(VENV)/installed
	$(VENV)/bin/python cli.py reproduce digits --out results/digits --overwrite

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

bench: $(BENCH)/installed
	PYTHONPATH=. $(BENCH)/bin/python benchmarks/run.py $(ONLY)

kill: $(VENV)/installed
	$(VENV)/bin/python benchmarks/kill_resume.py $(N)

fuzz: $(VENV)/installed
	$(VENV)/bin/python tests/fuzz/run.py --inputs $(or $(N),100000)

# Some hours; where it was stopped it goes on. It runs again what was changed, or what ONLY names, such as
# ONLY='nanoprune.prune.budget*' or the name of a mutant; after a change of the tests, begin with rm -r mutants.
# mutmut show NAME shows a mutant.
mutants: $(MUTANTS)/installed
	OPENBLAS_NUM_THREADS=1 $(MUTANTS)/bin/mutmut run $(foreach name,$(ONLY),'$(name)')
	PATH="$(MUTANTS)/bin:$$PATH" python tests/mutation_score.py $(foreach name,$(ONLY),'$(name)')

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(BENCH)/installed: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

$(MUTANTS)/installed: pyproject.toml
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,mutants]'
	touch $@

clean:
	rm -rf $(VENV) $(BENCH) $(MUTANTS) results demo mutants
