"""Kinds of selectors by name: built in, from an installed package, FILE.py:NAME or MODULE:NAME.

A kind's file is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from onestride.registry import Registry

if TYPE_CHECKING:
    from onestride.selectors.selector import SelectorKind


def _lazily(module: str, name: str) -> Callable[[], SelectorKind]:
    return lambda: getattr(import_module(f"onestride.selectors.{module}"), name)


SELECTORS: Registry[SelectorKind] = Registry(
    "selector",
    "onestride.selectors",
    "ONESTRIDE_SELECTORS",
    {
        "iql": _lazily("iql", "IQL_CRITIC"),
        "returns": _lazily("returns", "RETURNS"),
        "medoid": _lazily("medoid", "MEDOID"),
    },
)
