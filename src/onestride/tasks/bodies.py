"""HalfCheetah, Walker2d and Hopper as whoever drives them knows them (``locomotion.py`` is the planners' side).

A plan's row is [observation | action], both as the environment gives and takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from onestride.robot.control_spec import ControlSpec, plain_control

Version = Literal["v4", "v5"]


@dataclass(frozen=True)
class Body:
    """What differs between the three. Horizons are the paper's (section V-A), returns D4RL's."""

    environment: str
    observation_dim: int
    action_dim: int
    horizon: int
    control_dt: float  # [s]
    random: float
    expert: float
    falls: bool = True  # an episode ends when it does


BODIES = {
    "halfcheetah": Body("HalfCheetah", 17, 6, 4, 0.05, -280.178953, 12135.0, falls=False),
    "walker2d": Body("Walker2d", 17, 6, 32, 0.008, 1.629008, 4592.3),
    "hopper": Body("Hopper", 11, 3, 32, 0.008, -20.272305, 3234.3),
}


def control_spec(body: str, version: Version) -> ControlSpec:
    """Of the task ``<body>-<version>``."""
    b = BODIES[body]
    return plain_control(
        name=f"{body}-{version}",
        observation_dim=b.observation_dim,
        horizon=b.horizon,
        control_dt=b.control_dt,
        low=-np.ones(b.action_dim),
        high=np.ones(b.action_dim),
    )
