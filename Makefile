# Two commands matter: `make demo` and `make test`. Both make the environment first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

C := $(wildcard src/onestride/*/c/*.[ch] tests/*/*.c) examples/*.cpp

.PHONY: demo test test-lerobot format bench tables docs clean

demo: $(READY)
	$(BIN)/onestride quickstart --preset demo --run runs/demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(C)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# The tests with LeRobot, in an environment of their own: it needs Python 3.12 and has another torch.
test-lerobot:
	python3.12 -m venv $(VENV)-lerobot
	$(VENV)-lerobot/bin/pip install --quiet -e . -e "integrations/lerobot_policy_onestride[test]"
	cd integrations/lerobot_policy_onestride && $(abspath $(VENV)-lerobot)/bin/pytest -m ""
	$(VENV)-lerobot/bin/pytest --noconftest -m "" tests/robots/test_so100.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m onestride.engine.layout
	$(BIN)/clang-format -i $(C)

bench: $(READY)
	$(BIN)/onestride bench
	$(BIN)/python -m onestride.studies training_speed

# The tables and numbers in README.md and docs/, from results/.
tables: $(READY)
	$(BIN)/python -m onestride.reports.documents

# The documentation site, into site/.
docs: $(READY)
	$(BIN)/pip install --quiet -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV)-lerobot runs/demo site

# torch 2.13.0 first: its pinned CPU wheel, where one is offered, instead of several GB of CUDA.
$(READY): pyproject.toml
	@echo "Installing onestride into $(VENV) with all its extras and what its tests need: some minutes, a few GB."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $(READY)
