# `make demo` and `make test` each work alone, on a machine that has Python 3.11 and make.
# PYTHON names the interpreter that the environment is made with: `make demo PYTHON=python3.13`;
# PORT where the tour is served: `make demo PORT=8001`.
# JOBS is how many processes share the tests, a file each: most tests wait for a server or a clock.

PYTHON ?= python3
PORT ?= 8000
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PYTEST = -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
FAST := 'not slow and not browser'
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo check test coverage lint format oldest newest bench reference clean
.NOTPARALLEL:

help:
	@echo "make demo    serve the tour on http://127.0.0.1:8000; PORT=8001 takes another port"
	@echo "make check   lint, types and the fast tests; two minutes, installs nothing of the system"
	@echo "make test    install what the tests need, then run every check and every test"
	@echo "make coverage  every test, and which lines and branches of src they reach"
	@echo "make lint    the checks without the tests"
	@echo "make format  rewrite the code in the one format"
	@echo "make oldest  the fast tests with the oldest dependencies that are allowed"
	@echo "make newest  the fast tests on the newest Python that is found"
	@echo "make bench   measure, and write benchmarks/RESULTS.md"
	@echo "make reference  write the API reference to .cache/reference"
	@echo "make clean   remove the environment and every cache"

# It says first what it is doing: before there is an environment, that takes some seconds.
demo: $(VENV)/demo.stamp
	@echo "make: starting the tour on port $(PORT) (make demo PORT=... takes another)"
	@$(BIN)/tailrace demo --port '$(PORT)'

check: lint
	$(BIN)/python $(PYTEST) -m $(FAST)

test: $(VENV)/test.stamp
	@sh scripts/install-test-packages.sh
	@sh scripts/install-node-packages.sh
	$(MAKE) --no-print-directory lint
	$(BIN)/python $(PYTEST)

# Every test again, with every process measured: it takes longer than `make test`.
coverage: $(VENV)/test.stamp
	@mkdir -p .cache/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

oldest newest: $(VENV)/test.stamp
	@JOBS='$(JOBS)' sh scripts/test-versions.sh $@

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/test.stamp
	@sh scripts/install-node-packages.sh
	$(BIN)/python -m benchmarks

reference: $(VENV)/test.stamp
	$(BIN)/python scripts/make_reference.py .cache/reference

clean:
	rm -rf $(VENV) .cache node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than pyproject.toml only after pip has finished, so an install that was
# interrupted is taken up again and a second run has nothing to do.
$(VENV)/made.stamp:
	@echo "make: making an environment for Python in $(VENV)"
	@PYTHON='$(PYTHON)' sh scripts/make-environment.sh $(VENV)
	@touch $@

$(VENV)/demo.stamp: $(VENV)/made.stamp pyproject.toml
	@echo "make: installing what the tour needs into $(VENV); a minute at most, and once"
	@$(PIP) --editable '.[server]'
	@touch $@

# `--group` came with pip 25.1; Debian 12 makes environments with pip 23.
$(VENV)/test.stamp: $(VENV)/made.stamp pyproject.toml
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) --editable '.[server]' --group test
	@touch $@
