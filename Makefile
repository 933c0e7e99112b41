# Both commands do all their own set-up, in .venv.
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check lint format results docs clean

demo: .venv/.installed
	$(BIN)/sesame demo --force

test: .venv/.dev check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

check: lint
	$(BIN)/python -m benchmarks render --check

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

results: .venv/.dev
	$(BIN)/python -m benchmarks render

# Without PESQ and STOI, which are compiled, the pages have the other figures.
docs: .venv/.installed
	-$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[speech,quality]'
	rm -rf docs/attacks
	$(BIN)/sesame catalogue docs/attacks
	$(BIN)/python -m closesesame.cli.reference docs/commands.md

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[speech]'
	touch $@

# PESQ is compiled. Where it cannot be, the rest is tested, and the end of the tests says what was not run.
.venv/.dev: .venv/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[speech,ray,hf,onnx,tflite,rl,dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[quality]' || echo "PESQ was not built: \
	tests of PESQ and STOI are skipped; with a C compiler (package gcc), 'make clean test' runs them"
	touch $@

clean:
	rm -rf .venv
