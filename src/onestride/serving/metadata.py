"""What a server tells of its policy when a client connects, and what a client makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from onestride.engine.folder import Control
from onestride.plans.asking import NOTHING, Asking
from onestride.robot.control_spec import ControlSpec, numbers_of, plain_control
from onestride.serving.observations import fields_of
from onestride.serving.session import ENDPOINTS
from onestride.tasks import CONTROL_SPECS


class Range(msgspec.Struct):
    """Between which numbers a condition may be asked for."""

    low: list[float]
    high: list[float]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high):
            raise ValueError(f"low has {len(self.low)} numbers and high {len(self.high)}")


def metadata_of(
    spec: ControlSpec, name: str = "", asking: Asking = NOTHING, usual: np.ndarray | None = None
) -> dict[str, Any]:
    """Return what every client is told.

    Args:
        spec: of what is controlled.
        name: of the policy.
        asking: what its plans may be asked for.
        usual: what they are asked for where a client says nothing (K,), NaN: not.
    """
    named = asking.by_name(asking.numbers({}) if usual is None else usual)
    ends = np.cumsum(asking.sizes, dtype=int).tolist()
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
        "conditions": {
            condition: {
                "low": asking.low[end - size : end].tolist(),
                "high": asking.high[end - size : end].tolist(),
                "usual": named.get(condition),
            }
            for condition, size, end in zip(asking.names, asking.sizes, ends, strict=True)
        },
    }


def asking_of(metadata: Mapping[str, Any]) -> Asking:
    """Return what plans of a served policy may be asked for.

    Raises:
        ValueError: the server says it in a way that cannot be read.
    """
    try:
        said = msgspec.convert(metadata.get("conditions", {}), dict[str, Range])
    except msgspec.ValidationError as error:
        raise ValueError(f"the server describes its conditions in a way that cannot be read: {error}") from error
    low = [number for each in said.values() for number in each.low]
    high = [number for each in said.values() for number in each.high]
    sizes = tuple(len(each.low) for each in said.values())
    return Asking(tuple(said), sizes, np.array(low, np.float32), np.array(high, np.float32))


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
