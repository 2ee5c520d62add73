"""HalfCheetah, Walker2d and Hopper: Gymnasium's MuJoCo environments, scored as D4RL scores them.

A plan's row is [observation | action], both as the environment gives and takes them; there is no context. v4 has the
physics nearest to D4RL's own recordings; v5 is what data collected here comes from. The version is part of the task's
name, so that data, checkpoints and results of the two never mix.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onestride.control.clock import Clock
from onestride.plans.given import Given
from onestride.tasks.bodies import BODIES, Version, interface
from onestride.tasks.lockstep import make_environment
from onestride.tasks.task import Benchmark, Native, Task

EPISODE_STEPS = 1000  # D4RL's and the paper's
#: The first 50 of 1000 steps, from rest to running: drawn uniformly they are a twentieth of what is learnt from, and a
#: body that falls over falls there. 8 times over they are about a third.
EARLY = (50, 8)


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


def _encode(observation: Tensor) -> Given:
    return Given(observation, observation.new_zeros(len(observation), 0), None)


def _plan_window(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat((observations, actions), -1), observations.new_zeros(len(observations), 0)


def locomotion(body: str, version: Version) -> Task:
    """The task ``<body>-<version>``, such as ``halfcheetah-v5``."""
    b = BODIES[body]
    environment = f"{b.environment}-{version}"
    benchmark = Benchmark(environment, b.random, b.expert)

    def first_observation(seed: int) -> np.ndarray:
        env = make_environment(environment)
        observation, _ = env.reset(seed=seed)
        env.close()
        return np.asarray(observation, dtype=np.float64)

    def measure(robot: GymRobot, _seed: int) -> dict[str, Any]:
        return {"return_raw": robot.total, "return_normalised": benchmark.normalised(robot.total)}

    return Task(
        **vars(interface(body, version)),
        context_dim=0,
        encode=_encode,
        plan_window=_plan_window,
        command=lambda plans, _frame: plans[:, 0, b.observation_dim :].clamp(-1.0, 1.0),
        score=None,
        paths=lambda plans, _frame: plans[..., :3],
        scenes=lambda count, seed: [seed + i for i in range(count)],
        environment=lambda seed, clock: GymRobot(environment, b.control_dt, seed, clock),
        first_observation=first_observation,
        measure=measure,
        padding="none",
        early=EARLY,
        benchmark=benchmark,
        native=Native("plain"),
    )
