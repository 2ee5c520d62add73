"""Methods by name: built in, from an installed package, FILE.py:NAME or MODULE:NAME.

A method's file is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from onestride.registry import Registry

if TYPE_CHECKING:
    from onestride.methods.method import Method


def _lazily(module: str, name: str) -> Callable[[], Method]:
    return lambda: getattr(import_module(f"onestride.methods.{module}"), name)


#: In the order of every table and figure.
METHODS: Registry[Method] = Registry(
    "method",
    "onestride.methods",
    "ONESTRIDE_METHODS",
    {
        "diffuser": _lazily("diffusion_planner", "DIFFUSER"),
        "dp": _lazily("diffusion_planner", "DP"),
        "dnk": _lazily("koopman", "DNK"),
        "kdm": _lazily("koopman", "KDM"),
        "kdm-f": _lazily("koopman", "KDM_F"),
        "mlp": _lazily("koopman", "MLP"),
        "kdp": _lazily("keyed_drift", "KDP"),
        "kdp-paper": _lazily("keyed_drift", "KDP_PAPER"),
        "edm": _lazily("edm", "EDM"),
        "cd": _lazily("consistency", "CD"),
        "ct": _lazily("consistency", "CT"),
        "onedp-s": _lazily("score_distillation", "ONEDP_S"),
        "onedp-d": _lazily("score_distillation", "ONEDP_D"),
        "cp": _lazily("consistency_policy", "CP"),
        "mip": _lazily("mip", "MIP"),
        "meanflow": _lazily("meanflow", "MEANFLOW"),
        "source-diffuser": _lazily("off_dynamics", "SOURCE_DIFFUSER"),
        "return-diffuser": _lazily("off_dynamics", "RETURN_DIFFUSER"),
        "finetuned-diffuser": _lazily("off_dynamics", "FINETUNED_DIFFUSER"),
        "joint-diffuser": _lazily("off_dynamics", "JOINT_DIFFUSER"),
        "labelled-diffuser": _lazily("off_dynamics", "LABELLED_DIFFUSER"),
        "off-dynamics-score": _lazily("off_dynamics", "OFF_DYNAMICS_SCORE"),
        "off-dynamics-inverse-action": _lazily("off_dynamics", "OFF_DYNAMICS_INVERSE_ACTION"),
        "off-dynamics": _lazily("off_dynamics", "OFF_DYNAMICS"),
        "bc": _lazily("cloning", "BC"),
        "iql-policy": _lazily("iql_policy", "IQL_POLICY"),
        "fql": _lazily("fql", "FQL_METHOD"),
    },
)
