"""The arm's task with a target that is moved away whenever the tool comes near, in ten patterns.

A planner sees where the target is now and takes it for still, as it has learnt: what counts is how soon it looks again.
One-Step Diffusion Policy asks this of a real arm (section 3.2, "pnp-milk-move": ten motions, one or two moves each).
Nothing is learnt here: planners of ``kinova`` are evaluated, in scenes without obstacles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onestride.robot.clock import Clock
from onestride.tasks.kinova import task as kinova
from onestride.tasks.kinova.arm import TIMESTEP
from onestride.tasks.kinova.scene import CONTROL_DT, WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from onestride.tasks.kinova.simulation import SimulatedArm
from onestride.tasks.metric import Metric
from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.task import Task

NAME = "kinova-moving"
NEAR = 0.08  # a tool that comes so near has the target moved away [m]
SPEED = 0.25  # of the target while it moves, by hand [m/s]; the tool's limit is 0.4
LEAST = 0.2  # least distance from start to target [m]
MARGIN = 0.02  # of targets from the edge of the workspace [m]

#: Legs of each pattern [m], x away from the base, y to its left, z up: one move, two, and more.
PATTERNS = (
    ((0.0, 0.18, 0.0),),
    ((0.0, -0.18, 0.0),),
    ((0.14, 0.0, 0.0),),
    ((-0.14, 0.0, 0.0),),
    ((0.0, 0.0, 0.14),),
    ((0.08, 0.14, 0.0),),
    ((0.0, 0.15, 0.0), (0.0, -0.25, 0.0)),
    ((0.1, 0.0, 0.0), (-0.1, -0.15, 0.05)),
    ((0.0, -0.12, 0.08), (0.1, 0.12, -0.08)),
    ((0.08, 0.08, 0.0), (-0.08, 0.08, 0.0), (-0.08, -0.08, 0.0)),
)
METRICS = (
    Metric("terminal_error_mm", "terminal error", "mm", better="lower"),
    Metric("moves", "times moved away", digits=1),
)
NOTES = (
    f"The target starts to move whenever the tool is within {100 * NEAR:g} cm, at {SPEED:g} m/s; after its last move "
    "it stays. The share that succeeds is of trials that come to rest on it in time.",
)


@dataclass(frozen=True)
class MovingScene(Scene):
    """A problem whose goal moves.

    Attributes:
        stops: where the target stops after each move (M, 3) [m].
    """

    stops: np.ndarray


class MovingTarget(SimulatedArm):
    """A simulated arm whose target is moved away when the tool comes near. See ``SimulatedArm``."""

    def __init__(self, scene: MovingScene, clock: Clock, control_dt: float = CONTROL_DT) -> None:
        self._stops = scene.stops
        super().__init__(scene, clock, control_dt)

    def reset(self) -> None:
        """Put the arm at rest at the scene's start, and the target where it was."""
        self.goal = self.scene.goal.copy()
        self.moves, self._moving = 0, False
        super().reset()

    def step(self, n: int) -> None:
        """Move the target on, then the arm."""
        near = float(np.linalg.norm(self.goal - self.position())) < NEAR
        if not self._moving and near and self.moves < len(self._stops):
            self.moves, self._moving = self.moves + 1, True
        if self._moving:
            left = self._stops[self.moves - 1] - self.goal
            way, far = SPEED * n * TIMESTEP, float(np.linalg.norm(left))
            self._moving = way < far
            self.goal = self.goal + left * (way / far) if self._moving else self._stops[self.moves - 1].copy()
        super().step(n)


def scenes(count: int, seed: int) -> list[MovingScene]:
    """Return scenes of the ten patterns in turns, their starts and targets drawn anew."""
    rng = np.random.default_rng((0x30E, seed))
    low, high = WORKSPACE_LOW + MARGIN, WORKSPACE_HIGH - MARGIN
    made = []
    for number in range(count):
        legs = np.array(PATTERNS[number % len(PATTERNS)])
        while True:
            start, goal = rng.uniform(low, high), rng.uniform(low, high)
            stops = goal + legs.cumsum(0)
            if np.linalg.norm(start - goal) >= LEAST and (stops >= low).all() and (stops <= high).all():
                break
        obstacles = np.zeros((MovingScene.max_obstacles, OBSTACLE_DIM))
        made.append(MovingScene(start, goal, obstacles, stops))
    return made


def measure(arm: MovingTarget, _scene: MovingScene) -> dict[str, Any]:
    """Return how near the target a finished trial ended, and how often it was moved away."""
    return {"terminal_error_mm": 1e3 * float(np.linalg.norm(arm.ee_path[-1] - arm.goal)), "moves": float(arm.moves)}


def task() -> Task:
    """Return the task, for evaluation alone."""
    return replace(
        kinova.task().with_control(name=NAME),
        scenes=scenes,
        environment=MovingTarget,
        measure=measure,
        measure_candidates=None,
        showcase=lambda problems: list(range(len(problems))),
        metrics=METRICS,
        notes=NOTES,
    )
