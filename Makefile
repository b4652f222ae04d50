# The course: `make help` lists what there is. Without make, README.md gives the same in three lines.

PYTHON ?= python3
PORT ?= 8000
BIN := $(CURDIR)/.venv/bin
DONE := _build/stamps
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# nbgrader starts alembic by its name.
export PATH := $(BIN):$(PATH)

files = $(shell find $(1) -type f -not -path '*/__pycache__/*' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null)
PACKAGE := $(call files,crossattn_ref)
ASSIGNMENTS := $(notdir $(wildcard solutions/*))
RELEASED := $(ASSIGNMENTS:%=$(DONE)/exercises/%)

.DELETE_ON_ERROR:
.SECONDEXPANSION:
.PHONY: help course exercises book serve check test bench browser clean

help:
	@echo 'make course     set up .venv, generate the exercises, grade the sample class, build the book'
	@echo 'make serve      show the book at http://localhost:$(PORT) (another port: make serve PORT=8001)'
	@echo 'make exercises  generate exercises/ from solutions/'
	@echo 'make book       build the book into _build/html'
	@echo 'make check      the fast tests: lint, layers, units (a minute or two)'
	@echo 'make test       every test: check, exercises, grading, book, browser'
	@echo 'make bench SUITE=multihead  measure a suite again and record it; without SUITE: list the suites'
	@echo 'make clean      remove _build and the caches; .venv stays'
	@echo
	@echo 'PYTHON=python3.12 make course   sets .venv up with another Python (3.11 to 3.13)'

course: .venv/course $(RELEASED) $(DONE)/sample-class $(DONE)/book
	@echo
	@echo 'Everything is up to date:'
	@echo '  the book         _build/html/index.html'
	@echo '  the exercises    exercises/<subject>/<notebook>.ipynb, for: .venv/bin/jupyter lab exercises'
	@echo '  a graded class   _build/sample-class/: grades.csv, feedback/<student>/, summary.txt'
	@echo
	@echo 'Read it in a browser:  make serve'

# Installing: torch first, exactly as pinned, because it is the one download that comes in several sizes.
.venv/bin/python:
	@echo '[1/5] Setting up .venv with $(shell $(PYTHON) --version)'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The course needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .venv

.venv/course: pyproject.toml constraints.txt | .venv/bin/python
	@echo '[2/5] Installing torch, then the course (a minute or two, longer where they are still to be fetched)'
	@$(INSTALL) torch
	@$(INSTALL) --editable '.[torch,notebook,book,grading]'
	@touch $@

.venv/dev: .venv/course
	@echo 'Installing what the tests need'
	@$(INSTALL) --editable '.[dev]'
	@touch $@

# Making: each stamp names what it was made from, so a second run does only what changed.
exercises: $(RELEASED)

$(DONE)/exercises/%: $$(wildcard solutions/%/*.ipynb) nbgrader_config.py | .venv/course
	@echo '[3/5] Generating exercises/$*'
	@nbgrader generate_assignment $* --force --no-db --log-level=ERROR
	@mkdir -p $(@D) && touch $@

$(DONE)/sample-class: $(call files,sample_class solutions/attention) nbgrader_config.py $(PACKAGE) | .venv/course
	@echo '[4/5] Grading the sample class with nbgrader'
	@mkdir -p $(@D)
	@python sample_class/grade.py --out _build/sample-class
	@touch $@

book: $(DONE)/book

$(DONE)/book: _config.yml _toc.yml $(call files,book) $(RELEASED) $(PACKAGE) | .venv/course
	@echo '[5/5] Building the book'
	@mkdir -p $(@D)
	@jupyter-book build . -q --warningiserror --nitpick --keep-going >_build/book.log 2>&1 \
		|| { cat _build/book.log; exit 1; }
	@touch $@

serve: $(DONE)/book
	@python -c 'import socket; socket.create_server(("localhost", $(PORT))).close()' 2>/dev/null \
		|| { echo "Port $(PORT) is taken: make serve PORT=$$(($(PORT) + 1))"; exit 1; }
	@echo 'The book is at http://localhost:$(PORT) (stop with Ctrl-C)'
	@python -m http.server $(PORT) --bind localhost --directory _build/html

# Testing.
SLOW := tests/book tests/grading tests/judge tests/bench tests/tasks tests/train tests/decode tests/checks/test_classifier.py

check: .venv/dev
	ruff check .
	ruff format --check .
	lint-imports --no-logo
	python -m pytest -q -n 2 --dist loadgroup $(SLOW:%=--ignore=%)

test: .venv/dev browser
	ruff check .
	ruff format --check .
	lint-imports --no-logo
	python -m pytest -n 2 --dist loadgroup --durations=15

bench: .venv/course
	@python -m crossattn_ref bench $(SUITE)

# A Chromium of the machine, or Playwright's own, which needs no root; without either the browser tests say what to do.
browser: .venv/dev
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null && exit 0; done; \
	playwright install chromium || echo 'No Chromium could be fetched: the browser tests will say how to get one.'

clean:
	rm -rf _build .hypothesis .import_linter_cache .pytest_cache .ruff_cache
