"""Control interfaces of HalfCheetah, Walker2d and Hopper. ``locomotion.py`` has the tasks.

A plan's row is [observation | action] in the environment's own units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from onestride.robot.control_spec import ControlSpec, plain_control

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Version = Literal["v4", "v5"]
EPISODE_STEPS = 1000  # as in D4RL and the paper


@dataclass(frozen=True)
class Body:
    """What differs between the three bodies.

    Attributes:
        environment: Gymnasium's name, without version.
        observation_dim: O.
        action_dim: A.
        horizon: H, the paper's (section V-A).
        control_dt: control period [s].
        random: D4RL's return of a random policy.
        expert: D4RL's return of an expert.
        falls: whether the body can fall, which ends an episode.
    """

    environment: str
    observation_dim: int
    action_dim: int
    horizon: int
    control_dt: float
    random: float
    expert: float
    falls: bool = True


BODIES = {
    "halfcheetah": Body("HalfCheetah", 17, 6, 4, 0.05, -280.178953, 12135.0, falls=False),
    "walker2d": Body("Walker2d", 17, 6, 32, 0.008, 1.629008, 4592.3),
    "hopper": Body("Hopper", 11, 3, 32, 0.008, -20.272305, 3234.3),
}


def control_spec(
    body: str, version: Version, name: str = "", low: ArrayLike = -1.0, high: ArrayLike = 1.0
) -> ControlSpec:
    """Return the control interface of the task ``<body>-<version>``, or of a like one.

    Args:
        body: one of ``BODIES``.
        version: of the environment.
        name: of the task; "": ``<body>-<version>``.
        low: smallest command, one number for all or (A,).
        high: largest command, likewise.
    """
    b = BODIES[body]
    return plain_control(
        name=name or f"{body}-{version}",
        observation_dim=b.observation_dim,
        horizon=b.horizon,
        control_dt=b.control_dt,
        low=np.array(np.broadcast_to(low, b.action_dim)),
        high=np.array(np.broadcast_to(high, b.action_dim)),
    )
