"""Studies by name: what ``onestride reproduce NAME`` makes. A study's file is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from onestride.registry import Registry

if TYPE_CHECKING:
    from onestride.studies.study import Study


def _lazily(module: str, name: str = "STUDY") -> Callable[[], Study]:
    return lambda: getattr(import_module(f"onestride.studies.{module}"), name)


STUDIES: Registry[Study] = Registry(
    "study",
    "onestride.studies",
    "ONESTRIDE_STUDIES",
    {
        "dnk-table1": _lazily("dnk", "TABLE1"),
        "dnk-ablations": _lazily("dnk", "ABLATIONS"),
        **{f"kdp-table{number}": _lazily(f"kdp_table{number}") for number in range(1, 8)},
        **{f"onedp-{what}": _lazily(f"onedp_{what}") for what in ("table1", "table2", "convergence", "ablations")},
        **{
            f"off-dynamics-{what}": _lazily(f"off_dynamics_{what}")
            for what in ("table1", "contexts", "guidance", "masses", "knob")
        },
        "onedp-moving-target": _lazily("onedp_moving_target"),
    },
)
