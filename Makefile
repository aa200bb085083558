# Two commands do all the set-up: `make serve` runs the example, `make test` runs every test.
# They need Python 3.11 or newer; name another one with `make PYTHON=python3.12 ...`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CONFIG ?= config.example.yaml

COMPILED    := build/compiled
WHEEL       := build/wheel
PROFILED    := build/profiled
PROFILE     := $(CURDIR)/build/profile
IN_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED)
PIP         := $(BIN)/pip --quiet --disable-pip-version-check
PROFILING   := asgi-trio asgi-asyncio h2 tls websocket wsgi fastcgi uwsgi http cgi static-1k

.PHONY: serve test test-compiled check format build bench coverage clean
.DELETE_ON_ERROR:

serve: $(VENV)/.installed
	$(BIN)/gateway serve $(CONFIG)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

# The same tests, without those of other programs, on the gateway as it is installed: compiled, see setup.py.
test-compiled: $(VENV)/.installed-dev $(COMPILED)/.built
	$(IN_COMPILED) $(BIN)/gateway --version | grep compiled
	$(IN_COMPILED) $(BIN)/python -m pytest -o pythonpath="$(COMPILED) ." tests/protocols tests/gateway

# gateway/protocols/ is covered by its own tests, lines and branches.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/protocols --cov=gateway.protocols --cov-branch --cov-report=term-missing --cov-fail-under=100

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(COMPILED)/.built

# Compiled twice: what counts how often it is run, put under the load of benchmarks (those that can be run
# here), tells the compiler what matters.
$(COMPILED)/.built: $(VENV)/.installed-bench setup.py pyproject.toml $(shell find gateway -name '*.py')
	rm -rf build
	GATEWAY_PROFILE=make:$(PROFILE) $(PIP) install --no-deps --target $(PROFILED) .
	-BENCHMARKED=$(PROFILED) $(BIN)/python -m benchmarks --peers "" --rounds 1 --seconds 1 $(PROFILING)
	rm -rf build/lib* build/temp* $(PROFILED)
	GATEWAY_PROFILE=use:$(PROFILE) $(PIP) wheel --no-deps --wheel-dir $(WHEEL) .
	$(PIP) install --no-deps --target $(COMPILED) $(WHEEL)/*.whl
	@touch $@

bench: $(VENV)/.installed-bench $(COMPILED)/.built
	$(BIN)/python -m benchmarks $(SCENARIOS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "pip>=25.1"

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --group bench
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
