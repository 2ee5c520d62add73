"""Point mazes: start and goal are known entries of the plan, its first and its last row (``PlanSpec``).

A plan's row is [x, y, vx, vy | ax, ay]. The first row begins with what is observed, the last one with the goal's x
and y, so that a planner fills in the way between the two, as Diffuser's does (Janner et al. 2022, section 4). In
training the last position of a window plays the goal. A window that runs past its episode's end repeats the last row,
which lies at the goal: plans arrive at the demonstrator's pace and stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from onestride.plans.given import Given
from onestride.plans.spec import Block
from onestride.tasks.gym import GymRobot, plain_task
from onestride.tasks.maze_control_spec import CONTROL_DT, STATE_DIM, control_spec, goal_reached
from onestride.tasks.maze_demonstrations import demonstrations
from onestride.tasks.maze_environment import registered
from onestride.tasks.task import Benchmark, Task

KNOWN = (Block(0, 0, STATE_DIM), Block(-1, 0, 2))


def maze(name: str) -> Task:
    """Return the task of a point maze, one of ``MAZES``: reach the goal before the episode is cut off.

    An episode's return is 1 where the goal is reached and 0 elsewhere.
    """
    environment = registered(name)
    return replace(
        plain_task(control_spec(name), Benchmark(environment, random=0.0, expert=1.0)),
        # An observation's numbers are the known entries in their order: the first row's state, the goal.
        encode=lambda observation: Given(observation, observation[:, :0], None),
        plan_window=lambda o, a: (torch.cat((o[..., :STATE_DIM], a), -1), o.new_zeros(len(o), 0)),
        command=lambda plans, _frame: plans[:, 0, STATE_DIM:].clamp(-1, 1),
        score=score,
        paths=lambda plans, _frame: pad(plans[..., :2], (0, 1)),
        environment=lambda seed, clock: GymRobot(environment, CONTROL_DT, seed, clock, goal_reached),
        notes=("A return of 1 is a goal reached in time, 0 one that was not: the mean return is the success rate.",),
        known=KNOWN,
        padding="hold",
        native=None,
        demonstrations=demonstrations(name),
    )


def score(plans: Tensor, _observation: Tensor, _frame: Any) -> Tensor:
    """Return minus what plans (B, N, H, D) travel [m] and what of it their velocities do not explain [m] (B, N).

    The shortest way to the goal wins, unless it jumps: a position is the last one plus a period of its velocity.
    """
    steps = plans[..., 1:, :2] - plans[..., :-1, :2]
    jumps = steps - CONTROL_DT * plans[..., 1:, 2:STATE_DIM]
    return -(torch.linalg.vector_norm(steps, dim=-1) + torch.linalg.vector_norm(jumps, dim=-1)).sum(-1)
