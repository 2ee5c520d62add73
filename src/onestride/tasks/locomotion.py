"""HalfCheetah, Walker2d and Hopper: Gymnasium's MuJoCo environments with D4RL's scores.

A plan's row is [observation | action] in the environment's own units, and there is no context. v4 has the physics
closest to D4RL's recordings. Data collected here comes from v5. The version is part of the task's name, so that data,
checkpoints and results of the two are not mixed.
"""

from __future__ import annotations

from onestride.robot.control_spec import ControlSpec
from onestride.tasks.bodies import BODIES, Version, control_spec
from onestride.tasks.gym import plain_task
from onestride.tasks.task import Benchmark, Task

#: In the first 50 of 1000 steps the body starts from rest, and falls if it does. With uniform sampling they are a
#: twentieth of the training data. Used 8 times they are about a third.
EARLY = (50, 8)


def locomotion(body: str, version: Version) -> Task:
    """Return the task ``<body>-<version>``, such as ``halfcheetah-v5``."""
    return body_task(body, control_spec(body, version), f"{BODIES[body].environment}-{version}")


def body_task(body: str, spec: ControlSpec, environment: str, reference: tuple[float, float] | None = None) -> Task:
    """Return the task of a body, or of one like it.

    Args:
        body: one of ``BODIES``.
        spec: the task's control interface.
        environment: Gymnasium's id.
        reference: returns that count as 0 and as 1; None: D4RL's of the stock body.
    """
    b = BODIES[body]
    return plain_task(spec, Benchmark(environment, *(reference or (b.random, b.expert))), EARLY, terminates=b.falls)
