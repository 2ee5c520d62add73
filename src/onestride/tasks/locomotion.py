"""HalfCheetah, Walker2d and Hopper: Gymnasium's MuJoCo environments, scored as D4RL scores them.

A plan's row is [observation | action], both as the environment gives and takes them; there is no context. v4 has the
physics nearest to D4RL's own recordings; v5 is what data collected here comes from. The version is part of the task's
name, so that data, checkpoints and results of the two never mix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from onestride.control.clock import Clock
from onestride.control.limits import Limits
from onestride.tasks.lockstep import make_environment
from onestride.tasks.task import Benchmark, Native, ObservationError, Start, Task

Version = Literal["v4", "v5"]
EPISODE_STEPS = 1000  # D4RL's and the paper's
#: The first 50 of 1000 steps, from rest to running: drawn uniformly they are a twentieth of what is learnt from, and a
#: body that falls over falls there. 8 times over they are about a third.
EARLY = (50, 8)


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


BODIES = {
    "halfcheetah": Body("HalfCheetah", 17, 6, 4, 0.05, -280.178953, 12135.0),
    "walker2d": Body("Walker2d", 17, 6, 32, 0.008, 1.629008, 4592.3),
    "hopper": Body("Hopper", 11, 3, 32, 0.008, -20.272305, 3234.3),
}


class GymRobot:
    """An environment behind the robot's interface: it moves with the clock, not when it is asked to.

    Every control period that passes is one step with the last command: a planner that is late finds the body where
    the stale command took it. Before the first command it stands still.
    """

    def __init__(self, environment: str, control_dt: float, seed: int, clock: Clock) -> None:
        self.environment, self.control_dt, self.clock = make_environment(environment), control_dt, clock
        observation, _ = self.environment.reset(seed=seed)
        self.observation = np.asarray(observation, dtype=np.float64)
        self.command: np.ndarray | None = None
        self.began = 0.0
        self.steps = 0
        self.total = 0.0
        self.ended: str | None = None

    def read(self) -> np.ndarray:
        """The observation now; steps the environment up to the clock."""
        if self.command is None:
            self.began = self.clock.now()
        else:
            due = self._periods()
            while self.steps < due and self.ended is None:
                observation, reward, terminated, truncated, _ = self.environment.step(self.command)
                self.observation = np.asarray(observation, dtype=np.float64)
                self.total += float(reward)
                self.steps += 1
                if terminated or truncated:
                    self.ended = "fell" if terminated else "time is up"
        return self.observation

    def write(self, command: np.ndarray) -> None:
        """Torques from now on (A,), in -1 ... 1."""
        if self.command is None:
            self.began += self._periods() * self.control_dt  # in which it stood still
        else:
            self.read()  # what has passed until now was done with the last one
        self.command = np.asarray(command, dtype=np.float32)

    def _periods(self) -> int:
        """Whole control periods since it began; a hundredth of one early is on time, as real clocks need."""
        return math.floor((self.clock.now() - self.began) / self.control_dt + 0.01)

    def stop(self) -> None:
        self.environment.close()

    def fault(self) -> str | None:
        return self.ended


def _check(observation: np.ndarray, dim: int, name: str) -> None:
    if np.shape(observation) != (dim,):
        raise ObservationError(f"observation has shape {np.shape(observation)}, expected ({dim},) of {name}")
    bad = np.flatnonzero(~np.isfinite(observation))
    if len(bad):
        raise ObservationError(
            f"observation[{bad[0]}] is {observation[bad[0]]}; check the sensor that fills this entry"
        )


def _encode(observation: Tensor) -> Start:
    return Start(observation, observation.new_zeros(len(observation), 0), None)


def _plan_window(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat((observations, actions), -1), observations.new_zeros(len(observations), 0)


def locomotion(body: str, version: Version) -> Task:
    """The task ``<body>-<version>``, such as ``halfcheetah-v5``."""
    b = BODIES[body]
    name, environment = f"{body}-{version}", f"{b.environment}-{version}"
    benchmark = Benchmark(environment, b.random, b.expert)

    def commands(plans: Tensor, _frame: Any) -> Tensor:
        return plans[..., b.observation_dim :].clamp(-1.0, 1.0)

    def command(plans: Tensor, frame: Any) -> Tensor:
        return commands(plans[:, 0], frame)

    def first_observation(seed: int) -> np.ndarray:
        env = make_environment(environment)
        observation, _ = env.reset(seed=seed)
        env.close()
        return np.asarray(observation, dtype=np.float64)

    def measure(robot: GymRobot, _seed: int) -> dict[str, Any]:
        return {"return_raw": robot.total, "return_normalised": benchmark.normalised(robot.total)}

    return Task(
        name=name,
        observation_dim=b.observation_dim,
        state_dim=b.observation_dim,
        action_dim=b.action_dim,
        context_dim=0,
        horizon=b.horizon,
        control_dt=b.control_dt,
        encode=_encode,
        plan_window=_plan_window,
        command=command,
        score=None,
        check=lambda observation: _check(observation, b.observation_dim, name),
        paths=lambda plans, _frame: plans[..., :3],
        arrived=lambda _observation: False,
        scenes=lambda count, seed: [seed + i for i in range(count)],
        environment=lambda seed, clock: GymRobot(environment, b.control_dt, seed, clock),
        first_observation=first_observation,
        measure=measure,
        commands=commands,
        rest=lambda _observation: np.zeros(b.action_dim),
        limits=Limits(-np.ones(b.action_dim), np.ones(b.action_dim)),
        padding="none",
        early=EARLY,
        benchmark=benchmark,
        native=Native("plain"),
    )
