"""HalfCheetah, Walker2d and Hopper: Gymnasium's MuJoCo environments, scored as D4RL scores them.

A plan's row is [observation | action], both as the environment gives and takes them; there is no context. v4 has the
physics nearest to D4RL's own recordings; v5 is what data collected here comes from. The version is part of the task's
name, so that data, checkpoints and results of the two never mix.
"""

from __future__ import annotations

from onestride.tasks.bodies import BODIES, Version, control_spec
from onestride.tasks.gym import plain_task
from onestride.tasks.task import Benchmark, Task

EPISODE_STEPS = 1000  # D4RL's and the paper's
#: The first 50 of 1000 steps, from rest to running: drawn uniformly they are a twentieth of what is learnt from, and a
#: body that falls over falls there. 8 times over they are about a third.
EARLY = (50, 8)


def locomotion(body: str, version: Version) -> Task:
    """The task ``<body>-<version>``, such as ``halfcheetah-v5``."""
    b = BODIES[body]
    benchmark = Benchmark(f"{b.environment}-{version}", b.random, b.expert)
    return plain_task(control_spec(body, version), benchmark, EARLY, terminates=b.falls)
