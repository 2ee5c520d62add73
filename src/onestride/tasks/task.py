"""What a task is: the only place the rest of the house learns which robot and which problem it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from onestride.plans.given import Given
from onestride.plans.spec import Block, PlanSpec
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec
from onestride.tasks.metric import Metric

#: plans (B, N, H, D) in task units, observation (B, observation_dim), frame -> scores (B, N), higher is better.
Selector = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class Benchmark:
    """A Gymnasium environment that waits for its planner, and the returns that count as 0 and as 1.

    environment: Gymnasium's id, its version included. random, expert: D4RL's reference returns.
    """

    environment: str
    random: float
    expert: float

    def normalised(self, total: float) -> float:
        """Return of an episode -> D4RL's normalised return, 1 an expert's (not times 100)."""
        return (total - self.random) / (self.expert - self.random)


@dataclass(frozen=True)
class Native:
    """How the engine's C files do what ``check``, ``encode``, ``score`` and ``command`` do.

    kind: "plain": plans are [observation | action] as the robot gives and takes them, a command is a plan's first
        action within the limits, there is no context, and any finite observation can be acted on. "arm": as
        ``engine/c/arm.h`` has it.
    constants: what is read there, in its order.
    """

    kind: Literal["plain", "arm"]
    constants: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Task(ControlSpec):
    """The interface to the robot, and what planners learn from and are judged by; functions are batched torch unless
    said otherwise.

    encode(observation (B, observation_dim)) -> Given.
    plan_window(observations (B, H, observation_dim), actions (B, H, A)) -> plans (B, H, D), context (B, C).
    command(plans (B, H, D), frame) -> (B, A) the first action, in the robot's units.
    score(plans (B, N, H, D), observation (B, observation_dim), frame) -> (B, N) the task's own selector, higher is
        better; None where one has to be learnt.
    paths(plans (B, M, D) of B frames) -> (B, M, 3) [m], what figures draw.
    scenes(count, seed) -> problems to evaluate on, never trained on.
    environment(scene, clock) -> a simulated robot in that scene; first_observation(scene) is what it reads first.
    measure(robot, scene) -> the task's own metrics of a finished trial, units in their names.
    measure_candidates(paths (N, H, 3), the teacher's from the same noise, scene, shown) -> metrics of candidates before
        any selector; shown: whether ``showcase`` names the scene. None: nothing is measured of them.
    showcase(scenes) -> numbers of the scenes that figures and films show; by default all.
    metrics: what of ``measure`` and ``measure_candidates``, or of a benchmark's episodes, goes into tables; notes: what
        their readers have to know.
    known: which entries of a plan the observation gives (``PlanSpec``); None: the observation columns of row 0.
    padding: how windows end an episode. "hold" repeats the last row (position targets), "none" takes whole ones only.
    early: (steps, times): what begins in an episode's first steps is learnt from so many times. Where long episodes
        start from rest, all of them pass through a transient that is a small part of the data.
    terminates: whether an episode can end for good, by a fall or at a goal, rather than be cut off.
    benchmark: where the task is a benchmark of returns, what it is scored on.
    native: what of it ``engine/c`` does too; None: such an engine cannot serve it.
    """

    context_dim: int  # C
    encode: Callable[[Tensor], Given]
    plan_window: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    command: Callable[[Tensor, Any], Tensor]
    score: Selector | None
    paths: Callable[[Tensor, Any], Tensor]
    scenes: Callable[[int, int], Sequence[Any]]
    environment: Callable[[Any, Clock], Any]
    first_observation: Callable[[Any], np.ndarray]
    measure: Callable[[Any, Any], dict[str, Any]]
    measure_candidates: Callable[[np.ndarray, np.ndarray, Any, bool], dict[str, float]] | None = None
    showcase: Callable[[Sequence[Any]], list[int]] = lambda scenes: list(range(len(scenes)))
    metrics: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()
    known: tuple[Block, ...] | None = None
    padding: Literal["hold", "none"] = "hold"
    early: tuple[int, int] = (0, 1)
    terminates: bool = True
    benchmark: Benchmark | None = None
    native: Native | None = None

    @property
    def plans(self) -> PlanSpec:
        """The shape of its plans, and which of their entries are known."""
        return PlanSpec(
            horizon=self.horizon,
            state_dim=self.state_dim,
            action_dim=self.action_dim,
            context_dim=self.context_dim,
            known=self.known,
        )
