# Everything is run through make; `make help` lists it. ARGS="..." is passed on to what is run.

.DEFAULT_GOAL := help
.PHONY: help dev build demo test check stress sanitize bench docs wheel clean

PY := .venv/bin/python
# pykesto/journal is a symlink, therefore -L.
COMPILED := $(shell find -L pykesto -name '*.pyx')
SOURCES := $(shell find -L pykesto -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h')
MODULES := $(subst /,.,$(COMPILED:.pyx=))

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

dev: .venv/stamp ## set up .venv and all that it needs; at once when nothing changed (PYTHON=... chooses a Python)
	@:

build: .venv/stamp ## compile what changed (part of dev)
	@:

.venv/stamp: pyproject.toml setup.py tools/setup.sh $(SOURCES)
	@tools/setup.sh

demo: dev ## fill a database and query it
	@$(PY) -m examples.debian_packages $(ARGS)

test: dev ## run all tests, in parallel
	@$(PY) -m pytest -n auto $(ARGS)

check: dev ## lint, format, types, and the stubs of compiled modules
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tools/stubtest.txt $(MODULES)

stress: dev ## many processes, kills and faults; checks the history afterwards
	@$(PY) -m stress $(ARGS)

sanitize: dev ## the tests of compiled code with AddressSanitizer and UndefinedBehaviorSanitizer, then under valgrind
	@PY=$(PY) tools/sanitize.sh $(ARGS)

bench: dev ## measure, beside other databases
	@$(PY) -m benchmarks $(ARGS)

docs: dev ## run the examples in the documents
	@$(PY) -m pytest tests/test_docs.py $(ARGS)

wheel: dev ## make dist/*.tar.gz and dist/*.whl, and try the wheel without the system's Tokyo Cabinet
	@tools/wheel.sh
	@tools/try_wheel.sh dist/*.whl

clean: ## remove what was built; .venv stays
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .venv/stamp
	@find -L pykesto -name '*.so' -delete
	@find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +
