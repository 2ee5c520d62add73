"""Robots with a clearance filter driven by plans that want to collide, and certificates held against the simulator."""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from onestride.clearance import kinova, quadrotor
from onestride.clearance.filter import ClearanceFilter
from onestride.clearance.shapes import RoundedBoxes, segment_distances, wall_distances
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock, Clock
from onestride.robot.decision import Decider, Decision
from onestride.tasks import bspline
from onestride.tasks.directions import axes_toward
from onestride.tasks.kinova import bspline as arm_planner
from onestride.tasks.kinova.control_spec import MAX_STEP, NEAREST
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.kinova.scene import Scene as ArmScene
from onestride.tasks.physics import mujoco
from onestride.tasks.quadrotor import bspline as flight_planner
from onestride.tasks.quadrotor.control_spec import LARGEST
from onestride.tasks.quadrotor.scene import FLIGHT_HIGH, FLIGHT_LOW
from onestride.tasks.quadrotor.scene import Scene as RoomScene
from onestride.tasks.task import Task

#: random: to random places at full speed. jerky: another one in every tick. obstacle: wherever any part of the body
#: comes nearer to what is nearest. goal: straight to the goal, through what is in between.
Plan = Literal["random", "jerky", "obstacle", "goal"]
PLANS: tuple[Plan, ...] = get_args(Plan)
TURNS = 0.1  # probability per tick that random plans take another direction
PATIENCE = 1.0  # how far an obstacle swings to either side of where it was, times its speed [s]
AFTER = 0.6  # for which a certificate is looked at after an episode [s]
SOFTNESS = 0.02  # of the choice of the body's part that is nearest [m]
TOLERANCE = 1e-6  # of measured distances [m]


@dataclass(frozen=True)
class Body:
    """A robot of the study.

    Attributes:
        name: of its task.
        walls: that it stays in (W, 4).
        radii: of its capsules (K,) [m].
        axes: returns the ends of the capsules' axes (T, K, 2, 3) [m] along a recorded motion (T, nq), by the model.
        near: returns the same by the position alone (P, K, 2, 3), for plans that want to collide.
        scene: class of its scenes.
        place: returns a random start (3,) [m].
        planner: of its data, which draws scenes.
        margin: of its filter [m].
        speed: of its obstacles, where they move [m/s].
    """

    name: str
    walls: np.ndarray
    radii: np.ndarray
    axes: Callable[[mujoco.MjModel, np.ndarray], np.ndarray]
    near: Callable[[np.ndarray], np.ndarray]
    scene: Any
    place: Callable[[np.random.Generator], np.ndarray]
    planner: Any
    margin: float
    speed: float


def random_scenes(body: Body, count: int, seed: int) -> list[Any]:
    """Return scenes whose start and goal are clear of obstacles; a path between them need not exist."""
    rng, made, planner = torch.Generator().manual_seed(0xC1EA + seed), [], body.planner
    config = planner.BSplineConfig(moving_start=0.0, short_move=0.0)
    while len(made) < count:
        drawn = planner.sample_problems(256, config, rng)
        free = bspline.feasible_ends(drawn, config, planner.space(config)).nonzero()[:, 0].tolist()
        parts = [each.double().numpy() for each in (drawn.start, drawn.goal, drawn.obstacles)]
        made += [body.scene(*(each[i] for each in parts)) for i in free]
    return made[:count]


def arm_axes(model: mujoco.MjModel, path: np.ndarray) -> np.ndarray:
    """Return the axes of the arm's capsules (T, 8, 2, 3) [m] for joint angles (T, 7) [rad], by MuJoCo's kinematics."""
    geoms = [model.geom(name).id for name in ARM_GEOMS]
    data, made = mujoco.MjData(model), np.empty((len(path), len(geoms), 2, 3))
    for t, q in enumerate(path):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        half = data.geom_xmat[geoms].reshape(-1, 3, 3)[:, :, 2] * model.geom_size[geoms, 1:2]
        made[t] = np.stack((data.geom_xpos[geoms] + half, data.geom_xpos[geoms] - half), 1)
    return made


ARM_GEOMS = ("shoulder", "upper_arm_1", "upper_arm_2", "forearm", "wrist_1", "wrist_2", "bracelet", "tool")


def _points(positions: np.ndarray) -> np.ndarray:
    return np.repeat(positions[:, None, None, :3], 2, 2)  # a sphere is a capsule of length 0


BODIES = {
    "kinova": Body(
        "kinova", kinova.TABLE, kinova.RADII, arm_axes, kinova.body, ArmScene,
        lambda rng: rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH), arm_planner, 0.003, 0.1,
    ),
    "quadrotor": Body(
        "quadrotor", quadrotor.ROOM, np.array([quadrotor.RADIUS]), lambda _model, path: _points(path), _points,
        RoomScene, lambda rng: rng.uniform(FLIGHT_LOW, FLIGHT_HIGH), flight_planner, 0.005, 0.2,
    ),
}  # fmt: skip


# ---------------------------------------------------------------- obstacles that move


def moving(environment: type, speed: float, rng: np.random.Generator) -> type:
    """Return the environment with obstacles that swing to and fro on level lines, at most at ``speed`` [m/s]."""

    class Moving(environment):
        def reset(self) -> None:
            rows = self.scene.obstacles
            angle, self.pace = rng.uniform(0, 2 * np.pi, len(rows)), speed * rng.uniform(0.3, 1.0, len(rows))
            self.way = np.stack((np.cos(angle), np.sin(angle), np.zeros(len(rows))), 1)
            self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE  # it knows where geoms were at first
            self.where = [rows]
            self.place(rows)
            super().reset()

        def place(self, rows: np.ndarray) -> None:
            for k, row in enumerate(rows):
                if row[0]:
                    self.model.geom(f"obstacle{k}").pos[:] = row[1:4]

        def step(self, n: int) -> None:
            passed = self.steps * self.model.opt.timestep
            swing = np.abs((passed / PATIENCE + 3) % 4 - 2) - 1  # from 0 to 1, to -1, and back, at an even pace
            rows = self.scene.obstacles.copy()
            rows[:, 1:4] += (swing * PATIENCE * self.pace)[:, None] * self.way
            self.where.append(rows)
            self.place(rows)
            super().step(n)

        def read(self) -> np.ndarray:
            observation = super().read()
            observation[9:] = self.where[-1].ravel()
            return observation

    return Moving


# ---------------------------------------------------------------- plans that want to collide


class Adversary:
    """Decides by a ``Plan``; see there."""

    def __init__(self, body: Body, task: Task, plan: Plan, rng: np.random.Generator) -> None:
        self.body, self.control, self.plan, self.rng = body, task.control, plan, rng
        self.heading = rng.normal(size=3)

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the decision about an observation: one plan, straight on."""
        if self.plan == "jerky" or (self.plan == "random" and self.rng.random() < TURNS):
            self.heading = self.rng.normal(size=3)
        elif self.plan == "goal":
            self.heading = observation[6:9] - observation[:3]
        elif self.plan == "obstacle":
            self.heading = self._nearer(observation)
        way = self.heading / max(float(np.linalg.norm(self.heading)), 1e-9)
        low, high = self.control.limits.low, self.control.limits.high
        plan = np.zeros((self.control.horizon, self.control.transition_dim))
        if self.control.position_commands:
            rows = observation[:3] + 0.99 * MAX_STEP * np.arange(1, len(plan) + 1)[:, None] * way
            rows = np.clip(rows, low, high)
            goal, offset = observation[6:9], observation[6:9] - observation[:3]
            plan[:, :3] = (rows - goal) @ axes_toward(offset).T / max(float(np.linalg.norm(offset)), NEAREST)
            action = rows[0]
        else:
            action = np.clip(LARGEST * way, low, high)
        return Decision(action, plan, plan[None], np.zeros(1), {"total": 0.0})

    def _nearer(self, observation: np.ndarray) -> np.ndarray:
        """Return the direction (3,) in which the body's least distance from anything shrinks."""
        moved = observation[:3] + np.concatenate((np.zeros((1, 3)), 1e-3 * np.eye(3)))
        boxes = RoundedBoxes.of(observation[9:].reshape(-1, 8))
        each = distances(self.body, self.body.near(moved), boxes)  # (4, K)
        weights = np.exp((each[0].min() - each[0]) / SOFTNESS)  # parts that do not move have no direction
        return (weights * (each[0] - each[1:])).sum(1) + 1e-9 * self.rng.normal(size=3)


def distances(body: Body, axes: np.ndarray, boxes: RoundedBoxes) -> np.ndarray:
    """Return the distance of each capsule (T, K, 2, 3) from the nearest obstacle or wall (T, K) [m]."""
    segments = axes.reshape(-1, 2, 3)
    least = wall_distances(segments, body.walls)
    if len(boxes):
        least = np.minimum(least, segment_distances(segments, boxes).min(1))
    return least.reshape(axes.shape[:2]) - body.radii


# ---------------------------------------------------------------- a trial


class Recorded(ClearanceFilter):
    """A filter that writes down when it was asked, what it proved, and how much CPU time it took."""

    @classmethod
    def of(cls, made: ClearanceFilter) -> Recorded:
        """Return one like ``made``."""
        return cls(
            made.reference, made.obstacles_of, made.walls, obstacle_speed=made.obstacle_speed, max_age=made.max_age,
            kernel=made.kernel,
        )  # fmt: skip

    def begin(self) -> None:
        super().begin()
        self.calls: list[tuple[float, bool]] = []
        self.took: list[float] = []

    def __call__(self, command: np.ndarray, ahead: np.ndarray, now: float) -> np.ndarray | None:
        began = time.thread_time()
        sent = super().__call__(command, ahead, now)
        self.took.append(time.thread_time() - began)
        self.calls.append((now, self.proved))
        return sent


@dataclass
class Trial:
    """What came of one episode.

    Attributes:
        log: of the loop.
        collided: whether the robot touched something.
        proved: how many certificates there were, and ``broken``: that did not hold in the simulator.
        least: the smallest measured clearance while one held [m].
        took: CPU time of the filter, a command each [s].
    """

    log: EpisodeLog
    collided: bool
    proved: int = 0
    broken: int = 0
    least: float = np.inf
    took: list[float] = field(default_factory=list)


class Late(ChargedClock):
    """Simulated time in which decisions take up to half a control period, at random."""

    def __init__(self, most: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.most, self.rng = most, rng

    def charge(self, seconds: float) -> None:
        """Advance the time by a random duration."""
        del seconds
        super().charge(self.rng.uniform(0.0, self.most))


def trial(
    body: Body, task: Task, scene: Any, decider: Decider, clearance: Recorded | None, rng: np.random.Generator, *,
    moves: bool = False, timeout: float = 4.0, clock: Clock | None = None,
) -> Trial:  # fmt: skip
    """Drive one scene, and hold every certificate against the simulator. clock: by default decisions are late."""
    clock = clock or Late(0.5 * task.control.control_dt, rng)
    still: Any = task.environment
    environment = moving(still, body.speed, rng) if moves else still
    robot = environment(scene, clock)
    log = run_episode(robot, clock, decider, task.control, timeout=timeout, clearance=clearance)
    ended = clock.now()
    collided = robot.collided
    clock.sleep_until(ended + AFTER)
    robot.read()
    made = Trial(log, collided)
    if clearance is not None:
        check(made, body, robot, clearance, ended)
    return made


def check(made: Trial, body: Body, robot: Any, clearance: Recorded, ended: float) -> None:
    """Count the certificates, and those that did not hold.

    A certificate claims: until the next command, the whole body keeps the margin. The last one holds to its stop; where
    obstacles move, what comes after the stop is not claimed.
    """
    axes = body.axes(robot.model, robot.joint_path)
    if clearance.obstacle_speed:
        each = zip(axes, robot.where, strict=True)
        least = np.array([distances(body, now[None], RoundedBoxes.of(rows)).min() for now, rows in each])
    else:
        least = distances(body, axes, RoundedBoxes.of(robot.scene.obstacles)).min(1)
    times, made.took = robot.times, clearance.took
    last = ended if clearance.obstacle_speed else np.inf
    for (begin, proved), (end, _) in zip(clearance.calls, [*clearance.calls, (last, False)][1:], strict=True):
        held = least[(times >= begin - 1e-9) & (times <= end + 1e-9)]
        if proved and len(held):
            made.proved += 1
            made.broken += bool(held.min() < body.margin - TOLERANCE)
            made.least = min(made.least, float(held.min()))


def totals(trials: list[Trial]) -> Counter[str]:
    """Return what became of the commands of all trials, and which assumptions were seen to be broken."""
    counts: Counter[str] = Counter()
    for each in trials:
        counts.update(each.log.clearance)
        counts.update({f"violation: {name}": count for name, count in each.log.violations.items()})
    return counts
