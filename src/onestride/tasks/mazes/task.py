"""Point mazes and ant mazes as tasks: reach the goal before the episode is cut off.

Point mazes: a plan's row is [x, y, vx, vy | force]. Start and goal are known entries of the plan, its first and its
last row, so that a planner fills in the way between the two, as Diffuser's does (Janner et al. 2022, section 4), with
its horizons 128, 256 and 384. In training the last position of a window plays the goal. A window that runs past its
episode's end repeats the last row, at rest at the goal: plans arrive at the demonstrator's pace and stay.
A goal may be farther than one horizon: of 400 of evaluation's starts 5 % in UMaze, by at most 14 rows, and 1 % in the
others, by at most 43. A planner has then seen no window from here to there. It is asked for a little more than the
fastest ones cover, and once it has come as much nearer the goal lies within a plan. Ways round that do not fit into a
plan are not demonstrated, except the shortest.

Ant mazes: a plan's row is [x, y, rest of the state | torques]. An episode takes five to thirty times as long as a plan
of 32 rows, and the last row would have to say where the ant will be in 1.6 s, which nobody knows before the way is
planned. The goal is the plan's context instead: a plan is what an ant at this place does on its way to that goal, which
its episode went on to reach. No goal is too far for that, and the planner decides again at every step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from onestride.data.episode import Episode
from onestride.plans.given import Given
from onestride.plans.spec import Block
from onestride.tasks.gym import GymRobot, plain_task
from onestride.tasks.mazes.control_spec import control_spec
from onestride.tasks.mazes.demonstrations import ant_demonstrations, point_demonstrations
from onestride.tasks.mazes.environment import registered
from onestride.tasks.mazes.maps import ANT, MAZES, POINT, goal_reached
from onestride.tasks.mazes.routes import way_taken
from onestride.tasks.metric import Metric
from onestride.tasks.task import Benchmark, Task

METRICS = (
    Metric("success", "reached the goal", digits=1, kind="share", spread=False, better="higher"),
    Metric("steps_to_goal", "steps to the goal", digits=0, better="lower"),
    Metric("other_way", "of several ways, not the shortest", digits=1, kind="share", spread=False),
)
NOTES = (
    "A return of 1 is a goal reached in time, 0 one that was not: the mean return is the success rate.",
    "Steps to the goal: of episodes that reached it. Of several ways, not the shortest: the share of those among them "
    "whose start and goal have several ways of similar length.",
)


def maze(name: str) -> Task:
    """Return the task ``name``, one of ``MAZES``. An episode's return is 1 where the goal is reached, else 0."""
    body, environment = MAZES[name].body, registered(name)
    task = replace(
        plain_task(control_spec(name), Benchmark(environment, random=0.0, expert=1.0)),
        command=lambda plans, _frame: plans[:, 0, body.state_dim :].clamp(-1, 1),
        paths=lambda plans, _frame: pad(plans[..., :2], (0, 1)),
        environment=lambda seed, clock: GymRobot(environment, body.control_dt, seed, clock, goal_reached),
        measure_episode=lambda episode: measure_episode(name, episode),
        metrics=METRICS,
        notes=NOTES,
        padding="hold",
        native=None,
    )
    return with_goal_as_context(name, task) if body is ANT else with_goal_in_last_row(name, task)


def with_goal_in_last_row(name: str, task: Task) -> Task:
    """Return a point maze's task."""
    return replace(
        task,
        # An observation's numbers are the known entries in their order: the first row's state, the goal.
        encode=lambda observation: Given(observation, observation[:, :0], None),
        plan_window=lambda o, a: (torch.cat((o[..., : task.control.state_dim], a), -1), o.new_zeros(len(o), 0)),
        score=score,
        known=(Block(0, 0, task.control.state_dim), Block(-1, 0, 2)),
        demonstrations=point_demonstrations(name),
    )


def with_goal_as_context(name: str, task: Task) -> Task:
    """Return an ant maze's task."""
    n = task.control.state_dim
    return replace(
        task,
        context_dim=2,
        encode=lambda observation: Given(observation[:, :n], observation[:, n:], None),
        plan_window=lambda o, a: (torch.cat((o[..., :n], a), -1), o[:, 0, n:]),
        score=None,
        demonstrations=ant_demonstrations(name),
    )


def score(plans: Tensor, _observation: Tensor, _frame: Any) -> Tensor:
    """Return minus what plans (B, N, H, D) travel [m] and what of it their velocities do not explain [m] (B, N).

    The shortest way to the goal wins, unless it jumps: a position is the last one plus a period of its velocity.
    """
    steps = plans[..., 1:, :2] - plans[..., :-1, :2]
    jumps = steps - POINT.control_dt * plans[..., 1:, 2 : POINT.state_dim]
    return -(torch.linalg.vector_norm(steps, dim=-1) + torch.linalg.vector_norm(jumps, dim=-1)).sum(-1)


def measure_episode(name: str, episode: Episode) -> dict[str, float | None]:
    """Return what ``METRICS`` names of an episode, how many short ways there were, and the number of the one it took.

    "way" is 0 for the shortest, None where the goal was not reached or none of the short ways was taken.
    """
    seen = episode.observations
    success = goal_reached(seen[-1])
    path = np.concatenate((seen[:, :2], seen[-1:, -2:]))
    count, way = way_taken(name, path)
    way = way if success else None
    return {
        "success": float(success),
        "steps_to_goal": float(len(episode)) if success else None,
        "ways": float(count),
        "way": way,
        "other_way": None if way is None or count == 1 else float(way > 0),
    }
