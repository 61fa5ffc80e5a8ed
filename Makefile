# make demo and make test need no other set-up: each makes .venv, installs, and runs.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
MUTANTS := .venv-mutants
RELEASE := .venv-release
BOOK := .venv-book
PYTHONS ?=
ONLY ?=
N ?=

.PHONY: demo test lint book bench scaling memory gpu kill fuzz mutants lock release-check clean

demo: $(VENV)/installed
	$(VENV)/bin/python cli.py reproduce digits --out results/digits --overwrite

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest -n auto --durations=25 --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python tools/core_size.py

# The course as a folder of pages, book/_build/html; REPOSITORY=address-of-a-file links line numbers to it.
book: $(BOOK)/installed
	REPOSITORY='$(REPOSITORY)' $(BOOK)/bin/sphinx-build -W --keep-going -q -j 2 -c book . book/_build/html
	$(BOOK)/bin/python tools/check_book.py book/_build/html

bench: $(BENCH)/installed
	PYTHONPATH=. $(BENCH)/bin/python benchmarks/run.py $(ONLY)

# About eight minutes on two cores that do nothing else, and draws the plots of docs/benchmarks.md; ONLY names series.
scaling: $(VENV)/installed
	$(VENV)/bin/python benchmarks/scaling.py $(ONLY)
	$(VENV)/bin/python benchmarks/scaling.py --draw
	$(VENV)/bin/python benchmarks/page.py

# The peak memory of every command, about ten minutes; ONLY names groups of commands.
memory: $(VENV)/installed
	$(VENV)/bin/python benchmarks/command_memory.py $(ONLY)
	$(VENV)/bin/python benchmarks/page.py

# At most eight minutes, with the current Python, its CuPy and a GPU; PyTorch is compared with where it is installed.
gpu:
	$(PYTHON) benchmarks/gpu.py

kill: $(VENV)/installed
	$(VENV)/bin/python benchmarks/kill_resume.py --signals KILL --times $(or $(N),200)
	$(VENV)/bin/python benchmarks/kill_resume.py --signals INT TERM --times $(or $(N),200)

fuzz: $(VENV)/installed
	$(VENV)/bin/python tests/fuzz/run.py --inputs $(or $(N),100000)

# Hours on two cores, since a mutant that survives runs every test that reaches it; it resumes where it was stopped. SAMPLE=1200
# runs a random sample, in about half an hour, and SEED=1 another one. It runs changed code again, or what ONLY names, such as
# ONLY='nanoprune.prune.budget*' or the name of a mutant; after a change of the tests, begin with rm -r mutants.
# mutmut show NAME shows a mutant.
MUTMUT = PATH="$(MUTANTS)/bin:$$PATH" OPENBLAS_NUM_THREADS=1
mutants: $(MUTANTS)/installed
ifdef SAMPLE
	$(MUTMUT) mutmut run nothing.yet >/dev/null || true  # makes the mutants
	$(MUTMUT) mutmut run $$($(MUTMUT) python tests/mutation_score.py --draw $(SAMPLE) --seed $(or $(SEED),0))
	$(MUTMUT) python tests/mutation_score.py --sample $(SAMPLE) --seed $(or $(SEED),0)
else
	$(MUTMUT) mutmut run $(foreach name,$(ONLY),'$(name)')
	$(MUTMUT) python tests/mutation_score.py $(foreach name,$(ONLY),'$(name)')
endif

# Updates requirements.lock to the newest versions, for every platform.
lock: $(RELEASE)/installed
	UV_PYTHON_DOWNLOADS=never $(RELEASE)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --extra images --extra import --extra onnx --extra parquet \
		--output-file requirements.lock pyproject.toml

# make release-check PYTHONS="python3.11 python3.12": the oldest first
release-check: $(RELEASE)/installed
	$(RELEASE)/bin/python tools/release_check.py $(PYTHONS)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(BOOK)/installed: pyproject.toml
	$(PYTHON) -m venv $(BOOK)
	$(BOOK)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[book]'
	touch $@

$(BENCH)/installed: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

$(MUTANTS)/installed: pyproject.toml
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test,mutants]'
	touch $@

$(RELEASE)/installed:
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' 'twine>=6' 'packaging>=24'
	touch $@

clean:
	rm -rf $(VENV) $(BENCH) $(MUTANTS) $(RELEASE) $(BOOK) book/_build book/source results demo mutants
