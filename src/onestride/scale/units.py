"""Units of work: each has a name, a function, arguments as JSON and a file of its own, so that none is done twice.

A unit's function is named as ``module:attribute``; it takes the arguments and returns a ``Result``. The file is written
whole or not at all, by whoever did the unit, and says which function and arguments it is of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from onestride.files import CheckpointError
from onestride.tensors import load_tensors, save_tensors

UNITS = ".units"  # folder, within that of the work, of units that are done and not in its own files yet
OURS = "onestride."  # modules whose functions are carried out; a name that comes over a network runs nothing else


@dataclass(frozen=True)
class Unit:
    """One unit of work.

    Attributes:
        name: of its file, without the ending; no other unit of the same folder has it.
        function: ``module:attribute`` of this package.
        arguments: what JSON can say.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What decides the result, as text."""
        return json.dumps([self.function, dict(self.arguments)], sort_keys=True)

    def path(self, folder: Path) -> Path:
        """Return where its result is kept in ``folder``."""
        return folder / f"{self.name}.safetensors"


@dataclass(frozen=True)
class Result:
    """What a unit made: ``said``, which JSON can say, and tensors by name."""

    said: Any = None
    tensors: dict[str, Tensor] = field(default_factory=dict)


def finished(unit: Unit, folder: Path) -> Result | None:
    """Return a unit's result; None: it is not done, was done with other arguments, or its file was damaged."""
    path = unit.path(folder)
    if not path.is_file():
        return None
    try:
        tensors, header = load_tensors(path)
    except CheckpointError:
        return None
    return Result(json.loads(header["said"]), tensors) if header.get("unit") == unit.key else None


def nothing(_arguments: Mapping[str, Any]) -> Result:
    """Return nothing: a unit of it costs what handing one out does."""
    return Result()


def do(unit: Unit, folder: Path) -> None:
    """Carry out a unit and keep its result in ``folder``.

    Raises:
        ValueError: its function is not one of this package.
    """
    module, _, attribute = unit.function.partition(":")
    if not module.startswith(OURS):
        raise ValueError(f"unit '{unit.name}' asks for {unit.function!r}, which is no function of onestride")
    function: Callable[[Mapping[str, Any]], Result] = getattr(import_module(module), attribute)
    made = function(json.loads(json.dumps(dict(unit.arguments))))  # in one process as over a network
    save_tensors(unit.path(folder), made.tensors, {"unit": unit.key, "said": json.dumps(made.said, allow_nan=False)})
