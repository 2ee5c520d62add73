"""Imports point up the list of rooms, and a module's private names are its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}

#: From the ground up. A room may import from itself and from the rooms before it.
ROOMS = (
    "ground", "scale", "networks", "robot", "plans", "diffusion", "data", "methods", "selectors", "tasks", "training",
    "policy", "clearance", "control", "doctor", "engine", "serving", "hub", "runs", "adopt", "evaluation", "latency",
    "reports", "viewer", "studies", "integrations", "commands",
)  # fmt: skip
#: Modules that lie in no folder, by the room that they belong to.
GROUND = (
    "card", "checkpoint", "compiling", "cores", "device", "differences", "errors", "files", "folders", "machine",
    "memory", "own_code", "processes", "progress", "registry", "seals", "tensors", "termination", "unwritable",
)  # fmt: skip
LOOSE = {**dict.fromkeys(GROUND, "ground"), "experiment": "studies", "cli": "commands", "__main__": "commands"}

#: What breaks the rules today: (module, what it imports or accesses). Each line says how to mend it.
EXCEPTIONS: set[tuple[str, str]] = set()


def room(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:  # the package itself only says where things are
        return ROOMS[-1]
    return parts[0] if parts[0] in ROOMS else LOOSE[parts[0]]


@cache
def nodes(module: str) -> list[ast.AST]:
    """All nodes of a file but those under ``if TYPE_CHECKING``."""
    tree = ast.parse(FILES[module].read_text())
    guards = (n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    hidden = {id(n) for guard in guards for child in guard.body for n in ast.walk(child)}
    return [node for node in ast.walk(tree) if id(node) not in hidden]


def imports(module: str) -> Iterator[str]:
    """Modules of ours that a file imports, within functions too."""
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found = [f"{node.module}.{each.name}" for each in node.names]
            yield from (name if name in FILES else str(node.module) for name in found)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name in FILES and name != module}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


@cache
def private_names(module: str) -> frozenset[str]:
    """Private names that a file defines: of functions, classes, variables, and attributes of its own objects."""
    found = set()
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return frozenset(filter(is_private, found))


@cache
def definitions() -> Counter[str]:
    """How many files define each private name."""
    return Counter(name for module in FILES for name in private_names(module))


def foreign_private_names(module: str) -> set[str]:
    """Private names of other modules of ours that a file imports or accesses."""
    elsewhere = {name for name, files in definitions().items() if files > (name in private_names(module))}
    accessed = {node.attr for node in nodes(module) if isinstance(node, ast.Attribute)}
    imported = {
        each.name
        for node in nodes(module)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("onestride")
        for each in node.names
    }
    return set(filter(is_private, imported)) | (accessed & elsewhere) - private_names(module)


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_up_the_list_of_rooms(module):
    allowed = ROOMS[: ROOMS.index(room(module)) + 1]
    down = {(module, name) for name in ours(module) if room(name) not in allowed}
    assert down <= EXCEPTIONS


@pytest.mark.parametrize("module", sorted(FILES))
def test_private_names_stay_in_their_module(module):
    assert {(module, name) for name in foreign_private_names(module)} <= EXCEPTIONS


def test_every_exception_is_still_one():
    """A rule that was mended is kept from then on."""
    down = {(m, name) for m in FILES for name in ours(m) if ROOMS.index(room(name)) > ROOMS.index(room(m))}
    private = {(m, name) for m in FILES for name in foreign_private_names(m)}
    assert down | private >= EXCEPTIONS


def test_no_two_files_need_each_other():
    needs = {module: ours(module) for module, path in FILES.items() if path.name != "__init__.py"}
    assert len(needs) > 100
    assert needs["onestride.control.loop"] >= {"onestride.control.fallback", "onestride.robot.control_spec"}
    assert "onestride.engine.export" in needs["onestride.commands.drive"]  # imported within a function
    list(TopologicalSorter(needs).static_order())  # raises where there is a circle


def test_the_control_loop_and_robots_need_no_torch():
    modules = [module for module in FILES if room(module) in ("clearance", "control", "doctor", "robot")]
    assert len(modules) > 15
    code = f"import sys, {', '.join(modules)}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
