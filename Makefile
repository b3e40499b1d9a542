# make demo    the main job on real requests, in under a minute
# make test    the whole test suite
# make bench   the ratios that we promise, measured beside the naive code
# make check   lint, types, and a wheel that is installed and imported without any extra
# Each sets up all it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test bench check format clean

demo: $(READY)
	$(BIN)/python -m examples.demo

test: $(READY)
	$(BIN)/python -m pytest --cov --cov-report=term tests

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
