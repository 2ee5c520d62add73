"""What a server tells of its policy when a client connects, and what a client makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from onestride.engine.folder import Control
from onestride.robot.control_spec import ControlSpec, numbers_of, plain_control
from onestride.serving.observations import fields_of
from onestride.serving.session import ENDPOINTS
from onestride.tasks import CONTROL_SPECS


def metadata_of(spec: ControlSpec, name: str = "") -> dict[str, Any]:
    """Return what every client is told.

    Args:
        spec: of what is controlled.
        name: of the policy.
    """
    return {
        "server": "onestride",
        "policy": name,
        "task": spec.name,
        **_sizes(spec),
        "layout": spec.layout,
        "action_low": spec.limits.low.tolist(),
        "action_high": spec.limits.high.tolist(),
        "control": numbers_of(spec) if spec.plain else None,
        "endpoints": list(ENDPOINTS),
    }


def spec_of(metadata: Mapping[str, Any], control: ControlSpec | None = None) -> ControlSpec:
    """Return the control specification of a served policy.

    Args:
        metadata: as the server sent it.
        control: the specification, where the caller has it; None: it is built in, or consists of the numbers that came.

    Raises:
        ValueError: there is none here, or it differs from what the server says.
    """
    name = metadata.get("task")
    if control is None and name in CONTROL_SPECS:
        control = CONTROL_SPECS[name]()
    if control is None and metadata.get("control") is not None:
        try:
            control = plain_control(**msgspec.convert(metadata["control"], Control))
        except (msgspec.ValidationError, TypeError) as error:
            raise ValueError(f"the server describes its task '{name}' in a way that cannot be read: {error}") from error
    if control is None:
        raise ValueError(
            f"the server's policy is of task '{name}', which is not known here: give control=, a ControlSpec"
        )
    here = _sizes(control)
    there = {key: metadata.get(key) for key in here}
    if different := [f"{key} {there[key]} (here {here[key]})" for key in here if there[key] != here[key]]:
        raise ValueError(f"the server's policy of task '{name}' is another's: it has {', '.join(different)}")
    return control


def _sizes(spec: ControlSpec) -> dict[str, Any]:
    """What both sides have to agree on."""
    return {
        "observation": {
            field.name: {
                "shape": list(field.shape),
                "dtype": "uint8" if field.camera else "float64",
                "unit": field.unit,
            }
            for field in fields_of(spec)
        },
        "n_obs_steps": spec.n_obs_steps,
        "n_action_steps": spec.n_action_steps,
        "horizon": spec.horizon,
        "action_dim": spec.action_dim,
        "control_dt": spec.control_dt,
    }
