"""Any Gymnasium environment with flat Box spaces as a task, by its name alone (``gym:Reacher-v5``).

A plan's row is [observation | action] in the environment's own units, and there is no context. The selector is learnt
(`onestride train returns`, `onestride train iql`), and planners are evaluated by the return of an episode.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from onestride.plans.given import Given
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, plain_control
from onestride.tasks.lockstep import make_environment
from onestride.tasks.metric import EPISODE, Metric
from onestride.tasks.task import Benchmark, Native, Task

PREFIX = "gym:"
HORIZON = 16
CONTROL_DT = 0.05  # control period of an environment that does not say it [s]
#: So much of a control period too early, a reading or a command still counts as on time. On wall time every reading is
#: some moments later than its tick, and the first, from which periods count, may be later than those that follow.
EARLY_READING, EARLY_COMMAND = 0.1, 0.01


class GymRobot:
    """A Gymnasium environment as a simulated robot, which moves with the clock.

    Every control period is one step with the last command, so that a late planner finds the body where the old command
    moved it. Before the first command the body stands still.
    """

    def __init__(
        self,
        environment: str,
        control_dt: float,
        seed: int,
        clock: Clock,
        goal_reached: Callable[[np.ndarray], bool] = lambda _observation: False,
        terminated_as: str = "fell",
    ) -> None:
        self.environment, self.control_dt, self.clock = make_environment(environment), control_dt, clock
        observation, _ = self.environment.reset(seed=seed)
        self.observation = np.asarray(observation, dtype=np.float64)
        self.goal_reached, self.terminated_as = goal_reached, terminated_as
        self.best = -math.inf  # largest reward of a step
        self.command: np.ndarray | None = None
        self.began = 0.0
        self.steps = 0
        self.total = 0.0
        self.ended: str | None = None

    def read(self) -> np.ndarray:
        """Step the environment to the clock's time and return the observation (O,)."""
        if self.command is None:
            self.began = self.clock.now()
        else:
            self._step(self.command, self._periods(EARLY_READING))
        return self.observation

    def write(self, command: np.ndarray) -> None:
        """Apply the action ``command`` (A,) from now on. It must be within the environment's limits."""
        if self.command is None:
            self.began += self._periods(EARLY_COMMAND) * self.control_dt  # in which it stood still
        else:
            self._step(self.command, self._periods(EARLY_COMMAND))  # what has passed was done with the last one
        self.command = np.asarray(command, dtype=np.float32)

    def _periods(self, early: float) -> int:
        """Return the whole control periods since the start; so much of one too early counts as on time."""
        return math.floor((self.clock.now() - self.began) / self.control_dt + early)

    def _step(self, command: np.ndarray, due: int) -> None:
        """Step the environment until ``due`` steps were made, or it ends."""
        while self.steps < due and self.ended is None:
            observation, reward, terminated, truncated, _ = self.environment.step(command)
            self.observation = np.asarray(observation, dtype=np.float64)
            self.total, self.best = self.total + float(reward), max(self.best, float(reward))
            self.steps += 1
            if terminated or truncated:
                self.ended = self.terminated_as if terminated else "time is up"

    def stop(self) -> None:
        """Close the environment."""
        self.environment.close()

    def fault(self) -> str | None:
        """Return how the environment ended the episode; None where it goes on, or ended at its goal."""
        return None if self.goal_reached(self.observation) else self.ended


def gym_task(
    environment: str,
    *,
    name: str | None = None,
    horizon: int = HORIZON,
    control_dt: float | None = None,
    reference: tuple[float, float] = (0.0, 1.0),
    metrics: tuple[Metric, ...] = (),
    **fields: Any,
) -> Task:
    """Return the task of a Gymnasium environment with flat Box spaces.

    Args:
        environment: Gymnasium's id, its version included.
        name: of the task; by default ``gym:`` and the id.
        horizon: rows of a plan, H.
        control_dt: time of one step [s]; by default the environment's own ``dt``, else 1 / ``render_fps``, else 0.05.
        reference: returns that count as 0 and as 1; by default returns are not normalised.
        metrics: of ``measure_episode``, shown beside the return.
        fields: other fields of ``Task``, such as ``measure_episode``, ``score`` or ``early_oversampling``, and of its
            ``ControlSpec``, such as ``frozen_after``.

    Raises:
        ValueError: there is no such environment, or its spaces are no flat Box, or its actions have no limits, or
            neither record has such a field, or the name, the horizon or the control period cannot be one.
    """
    if name is not None and not re.fullmatch(r"[\w.:-]+", name):
        raise ValueError(f"name is '{name}', expected letters, digits, '-', '_', '.' and ':', to be typed with --task")
    try:
        env = make_environment(environment)
    except ModuleNotFoundError:
        raise
    except (gymnasium.error.Error, ImportError) as error:  # the latter of versions that were given up
        said = " ".join(" ".join(map(str, error.args)).split())
        raise ValueError(
            f"there is no environment '{environment}'. Gymnasium says \"{said}\" Correct the id, its version included, "
            "or install or import the package that has it"
        ) from error
    observations, actions = env.observation_space, env.action_space
    dt = _control_dt(env) if control_dt is None else control_dt
    env.close()
    for what, space in (("observations", observations), ("actions", actions)):
        if not (isinstance(space, Box) and len(space.shape) == 1):
            raise ValueError(f"{environment}: its {what} are {space}, expected a flat Box; wrap it, or write a task")
    assert isinstance(actions, Box)
    if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
        raise ValueError(f"{environment}: its actions have no limits ({actions}); nothing may be sent without")
    task = plain_task(
        plain_control(
            name=name or f"{PREFIX}{environment}",
            observation_dim=int(np.prod(observations.shape or (1,))),
            horizon=horizon,
            control_dt=dt,
            low=actions.low.astype(np.float64),
            high=actions.high.astype(np.float64),
        ),
        Benchmark(environment, *reference),
    )
    if unknown := fields.keys() - Task.__dataclass_fields__.keys() - ControlSpec.__dataclass_fields__.keys():
        raise ValueError(
            f"gym_task takes no {', '.join(sorted(unknown))}; beside its own arguments it takes the fields of Task and "
            "of ControlSpec, see the page on tasks"
        )
    control = {name: fields.pop(name) for name in ControlSpec.__dataclass_fields__ if name in fields}
    return replace(task.with_control(**control), metrics=(*task.metrics, *metrics), **fields)


def plain_task(
    control_spec: ControlSpec,
    benchmark: Benchmark,
    early_oversampling: tuple[int, int] = (0, 1),
    terminates: bool = True,
) -> Task:
    """Return the task of a body whose plan rows are [observation | action] in its environment's own units.

    Args:
        control_spec: its control interface, of ``plain_control``.
        benchmark: its environment and reference returns.
        early_oversampling: see ``Task``.
        terminates: see ``Task``.
    """
    o = control_spec.observation_dim
    low, high = torch.from_numpy(control_spec.limits.low).float(), torch.from_numpy(control_spec.limits.high).float()

    def command(plans: Tensor, _frame: Any) -> Tensor:
        return torch.minimum(torch.maximum(plans[:, 0, o:], low.to(plans)), high.to(plans))

    def first_observation(seed: int) -> np.ndarray:
        env = make_environment(benchmark.environment)
        observation, _ = env.reset(seed=seed)
        env.close()
        return np.asarray(observation, dtype=np.float64)

    def measure(robot: GymRobot, _seed: int) -> dict[str, Any]:
        return {"return_raw": robot.total, "return_normalised": benchmark.normalised(robot.total)}

    return Task(
        control=control_spec,
        context_dim=0,
        encode=lambda observation: Given(observation, observation.new_zeros(len(observation), 0), None),
        plan_window=lambda o, a: (torch.cat((o, a), -1), o.new_zeros(len(o), 0)),
        command=command,
        score=None,
        paths=lambda plans, _frame: plans[..., :3],
        scenes=lambda count, seed: [seed + i for i in range(count)],
        environment=lambda seed, clock: GymRobot(benchmark.environment, control_spec.control_dt, seed, clock),
        first_observation=first_observation,
        measure=measure,
        metrics=EPISODE,
        padding="none",
        early_oversampling=early_oversampling,
        terminates=terminates,
        benchmark=benchmark,
        native=Native("plain"),
    )


def _control_dt(env: gymnasium.Env[Any, Any]) -> float:
    dt = getattr(env.unwrapped, "dt", None)
    if isinstance(dt, float) and dt > 0:
        return dt
    fps = env.metadata.get("render_fps")
    return 1 / fps if isinstance(fps, int | float) and fps > 0 else CONTROL_DT
