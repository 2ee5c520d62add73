"""HalfCheetah, Walker2d and Hopper: Gymnasium's MuJoCo environments with D4RL's scores.

A plan's row is [observation | action] in the environment's own units, and there is no context. v4 has the physics
closest to D4RL's recordings. Data collected here comes from v5. The version is part of the task's name, so that data,
checkpoints and results of the two are not mixed.
"""

from __future__ import annotations

from onestride.tasks.bodies import BODIES, Version, control_spec
from onestride.tasks.gym import plain_task
from onestride.tasks.task import Benchmark, Task

EPISODE_STEPS = 1000  # as in D4RL and the paper
#: In the first 50 of 1000 steps the body starts from rest, and falls if it does. With uniform sampling they are a
#: twentieth of the training data. Used 8 times they are about a third.
EARLY = (50, 8)


def locomotion(body: str, version: Version) -> Task:
    """Return the task ``<body>-<version>``, such as ``halfcheetah-v5``."""
    b = BODIES[body]
    benchmark = Benchmark(f"{b.environment}-{version}", b.random, b.expert)
    return plain_task(control_spec(body, version), benchmark, EARLY, terminates=b.falls)
