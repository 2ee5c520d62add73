"""The LeRobot plug-in: what can be checked of it without LeRobot. Its own tests lie beside it (`make test-lerobot`)."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "lerobot_policy_onestride"
FOLDER = ROOT / "integrations" / NAME
MODULES = {path.stem: ast.parse(path.read_text()) for path in (FOLDER / "src" / NAME).glob("*.py")}


def test_its_names_are_those_by_which_lerobot_finds_it():
    """LeRobot imports the distribution's name as a module, and derives the others from the configuration's."""
    assert tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["name"] == NAME
    for module, wanted in (
        ("configuration_onestride", "OneStrideConfig"),
        ("modeling_onestride", "OneStridePolicy"),
        ("processor_onestride", "make_onestride_pre_post_processors"),
    ):
        kinds = (ast.ClassDef, ast.FunctionDef)
        assert wanted in {node.name for node in MODULES[module].body if isinstance(node, kinds)}


def test_what_it_imports_of_onestride_is_there():
    found = [
        (node.module, each.name)
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "onestride"
        for each in node.names
    ]
    assert ("onestride.engine.engine", "Engine") in found
    assert [each for each in found if not hasattr(import_module(each[0]), each[1])] == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lerobot") is None, reason="LeRobot is not installed here; `make test-lerobot` has it")
def test_its_own_tests_pass():
    subprocess.run([sys.executable, "-m", "pytest"], cwd=FOLDER, check=True)
