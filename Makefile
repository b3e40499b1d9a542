# make demo    run the main job on real requests, in under a minute
# make test    run the test suite in parallel; install Debian's Chromium unless one is there or CHROMIUM=/path names one
# make soak    run the tests that take too long for make test
# make bench   measure the promised ratios beside the naive code
# make check   lint, check types, and import an installed wheel without any extra
# make docs    rewrite the generated table in docs/settings.md
# Each target sets up all it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

SUDO = $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.PHONY: demo test soak chromium bench check docs format clean

demo: $(READY)
	$(BIN)/python -m examples.demo

test: $(READY) chromium
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --cov --cov-report=term tests

soak: $(READY) chromium
	$(BIN)/python -m pytest -m soak tests

chromium:
	@[ -n "$$CHROMIUM" ] || command -v chromium > /dev/null || { command -v apt-get > /dev/null \
	&& $(SUDO) apt-get update -qq \
	&& $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } \
	|| { echo "the tests need Chromium: install it as 'chromium', or set CHROMIUM=/path/to/it" >&2; exit 1; }

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	rm -rf dist $(VENV)/empty
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	$(PYTHON) -m venv $(VENV)/empty
	$(VENV)/empty/bin/pip install --quiet dist/*.whl
	cd $(VENV) && empty/bin/python -c "import flask_persistent_uploads as f, sys; assert 'boto3' not in sys.modules; print('imported', f.__name__, 'without extras')"

docs: $(READY)
	$(BIN)/python -m tests.settings_table

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) dist .coverage*

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --group dev --editable ".[s3,cloudinary,imagekit]"
	touch $@
