"""Untrained generators: a method's own, with cameras, conditions or a prefix around it where its plans have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onestride.methods.asked import with_conditions
from onestride.methods.method import Method
from onestride.methods.prefixed import with_prefix
from onestride.methods.sighted import Vision, with_cameras
from onestride.networks.vision import VisionConfig
from onestride.plans.spec import PlanSpec


def build_generator(
    method: Method,
    config: Any,
    spec: PlanSpec,
    *,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    n_obs_steps: int = 1,
    vision: Vision | None = None,
) -> Any:
    """Return an untrained generator of plans.

    Args:
        method: that makes them.
        config: its settings.
        spec: of the plans, with the conditions that may be asked for and the longest prefix.
        cameras: height and width of each camera's image [px] by name, where there are any.
        n_obs_steps: images of each camera that a decision sees.
        vision: how cameras are encoded.

    Raises:
        ValueError: plans have two of cameras, conditions and a prefix, or no network is of such sizes.
    """
    asked = bool(spec.conditions) and not method.conditional
    parts = {"cameras": bool(cameras), "conditions": asked, "a prefix": bool(spec.prefix)}
    if sum(parts.values()) > 1:
        raise ValueError(
            f"{method.label} takes one of cameras, conditions and a prefix, and this is asked "
            f"{' and '.join(name for name, there in parts.items() if there)}"
        )
    if spec.prefix:
        made: Any = with_prefix(method.build, config, spec)
    elif cameras:
        made = with_cameras(method.build, config, spec, cameras, n_obs_steps, vision or VisionConfig())
    elif asked:
        made = with_conditions(method.build, config, spec)
    else:
        made = method.build(config, spec)
    made.method = method.name  # its checkpoint says so
    return made
