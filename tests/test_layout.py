"""What the README says of the code's layout holds."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def imports(path: Path, names: set[str]) -> set[str]:
    """Modules of ours among ``names`` that a file imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)} & names
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names} & names
    return found


def module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def test_no_two_files_need_each_other():
    files = {module(path): path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"}
    assert len(files) > 100
    needs = {name: imports(path, set(files) - {name}) for name, path in files.items()}
    assert needs["onestride.control.loop"] >= {"onestride.control.fallback", "onestride.robot.control_spec"}
    list(TopologicalSorter(needs).static_order())  # raises where there is a circle
