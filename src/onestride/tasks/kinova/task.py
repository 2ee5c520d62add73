"""The arm task: plans are in a frame at the goal whose unit of length is the remaining distance.

The frame's origin is the goal, its x axis points from the end-effector to the goal, its y axis is horizontal. In this
frame all problems are similar, and a plan's error shrinks with the distance, so that a small network stops the arm with
an error of millimetres.

The observation (41,) is [position 3 (m), velocity 3 (m/s), goal 3 (m), obstacles 4 x 8] in the base frame. A plan's row
is [position 3, velocity 3 | displacement 3]: the position relative to the remaining distance, velocity and displacement
relative to what the speed and acceleration limits permit there.

The context is what the frame leaves out (scale and pose), and the obstacles as distances from points around the way to
the goal (a basis point set, Prokudin et al. 2019). It is smooth and independent of the obstacles' number and order.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from onestride.plans.given import Given
from onestride.selectors.geometry import GeometryScore
from onestride.tasks import goal_frame
from onestride.tasks.goal_frame import Frame, seen_distances, turn, turn_back
from onestride.tasks.kinova.arm import BODY_RADII, FOREARM_SHARE, RISE
from onestride.tasks.kinova.bspline import BSplineConfig, clearances
from onestride.tasks.kinova.control_spec import NEAREST, REACH_MARGIN, control_spec
from onestride.tasks.kinova.demonstrations import evaluation_scenes, open_on_both_sides
from onestride.tasks.kinova.links import FOREARM, SHOULDER_HEIGHT, UPPER_ARM, WRIST_HEIGHT
from onestride.tasks.kinova.measures import METRICS, NOTES, measure, measure_candidates
from onestride.tasks.kinova.scene import MAX_OBSTACLES, WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from onestride.tasks.kinova.simulation import SimulatedArm
from onestride.tasks.obstacles import FAR, OBSTACLE_DIM
from onestride.tasks.task import Native, Task

PLANNER = BSplineConfig()  # the planner of the data; the task has its speeds and margins

NEAREST_SCENE = 0.12  # smallest unit of length of the points from which distances to obstacles are taken [m]
SIGHT = 0.3  # distances to obstacles are clipped to this [m]
WALLS = (
    REACH_MARGIN - 0.01 + PLANNER.clearance + PLANNER.comfort
)  # clearance from the workspace's walls at its edge [m]
BODY_OFFSET = PLANNER.clearance - PLANNER.body_clearance  # the body may come nearer than the tip by this [m]


CENTER = torch.from_numpy(WORKSPACE_LOW + WORKSPACE_HIGH).float() / 2
HALF = torch.from_numpy(WORKSPACE_HIGH - WORKSPACE_LOW).float() / 2


def _basis_points() -> Tensor:
    """Return the points from which distances are taken (P, 3): along the way, a centre and two rings around it each."""
    rows = []
    for x in (-1.0, -0.8, -0.6, -0.4, -0.2, 0.0):
        rows.append((x, 0.0, 0.0))
        for radius, count in ((0.3, 6), (0.7, 6)):
            angle = np.arange(count) * (2 * np.pi / count) + (np.pi / count if radius > 0.5 else 0.0)
            rows += [(x, radius * np.cos(a), radius * np.sin(a)) for a in angle]
    return torch.tensor(rows, dtype=torch.float32)


BASIS_POINTS = _basis_points()
CONTEXT_DIM = 11 + len(BASIS_POINTS)


def split(observation: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return position, velocity, goal (..., 3) each and obstacles (..., 4, 8) of an observation (..., 41)."""
    obstacles = observation[..., 9:].unflatten(-1, (MAX_OBSTACLES, OBSTACLE_DIM))
    return observation[..., :3], observation[..., 3:6], observation[..., 6:9], obstacles


def make_frame(position: Tensor, goal: Tensor) -> Frame:
    """Return the frame of motions from ``position`` to ``goal``, both (B, 3) [m]."""
    return goal_frame.make_frame(
        position, goal, nearest=NEAREST, control_dt=PLANNER.control_dt, speed=PLANNER.speed,
        acceleration=PLANNER.acceleration,
    )  # fmt: skip


def encode(observation: Tensor) -> Given:
    """Return the known entries, context and frame of plans for observations (B, 41)."""
    position, velocity, goal, obstacles = split(observation)
    frame = make_frame(position, goal)
    start = torch.cat(
        (
            turn(frame.axes, position - goal) / frame.length,
            turn(frame.axes, velocity) * PLANNER.control_dt / frame.stride,
        ),
        -1,
    )
    seen = seen_distances(frame, obstacles, BASIS_POINTS, nearest=NEAREST_SCENE, sight=SIGHT)  # (B, P)
    # The last number: how much of the smallest frame is left, so that arriving is seen.
    left = (goal - position).norm(dim=-1, keepdim=True) / frame.length
    context = torch.cat((frame.length.log(), left, frame.axes[:, 0], position, goal, seen), -1)
    return Given(start, context, frame)


def plan_window(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return plans (B, H, 9) and context (B, C) of windows of observations (B, H, 41) and targets (B, H, 3) [m]."""
    first = encode(observations[:, 0])
    frame: Frame = first.frame
    position, velocity, _, _ = split(observations)
    length, stride = frame.length[:, None], frame.stride[:, None]
    plans = torch.cat(
        (
            turn(frame.axes, position - frame.goal[:, None]) / length,
            turn(frame.axes, velocity) * PLANNER.control_dt / stride,
            turn(frame.axes, actions - position) / stride,
        ),
        -1,
    )
    return plans, first.context


def positions(plans: Tensor, frame: Frame) -> Tensor:
    """Return the end-effector's positions in the base frame (B, H, 3) [m] for plans (B, H, 9)."""
    return frame.goal[:, None] + turn_back(frame.axes, plans[..., :3]) * frame.length[:, None]


def command(plans: Tensor, frame: Frame) -> Tensor:
    """Return the first Cartesian position target (B, 3) [m] of plans (B, H, 9)."""
    return frame.position + turn_back(frame.axes, plans[:, 0, 6:]) * frame.stride


def clearance(path: Tensor, observation: Tensor) -> Tensor:
    """Return the least clearance of paths (B, T, 3) for observations (B, 41), as (B, T) [m].

    It is the smallest of three: the tip's from the obstacles; the body's, shifted by the difference of the planner's
    margins; and the tip's from the workspace's walls, shifted so that it only matters from one centimetre before
    commands are refused.
    """
    tip, body = clearances(path, split(observation)[3])
    outside = (path - CENTER.to(path)).abs() - HALF.to(path)
    walls = WALLS - outside.amax(-1)
    return torch.minimum(torch.minimum(tip, walls), body + BODY_OFFSET)


def goal_of(observation: Tensor) -> Tensor:
    """Return the goal (B, 3) [m] of observations (B, 41)."""
    return observation[:, 6:9]


def first_observation(scene: Scene) -> np.ndarray:
    """Return the observation at rest at the start of a scene (41,)."""
    return np.concatenate((scene.start, np.zeros(3), scene.goal, scene.obstacles.ravel()))


SCORE = GeometryScore(positions, clearance, goal_of)


def _constants() -> Tensor:
    """Return the constants that ``engine/c/arm.h`` reads, in its order."""
    s, body = SCORE, len(BODY_RADII)
    numbers = [
        NEAREST, NEAREST_SCENE, SIGHT, PLANNER.control_dt, PLANNER.acceleration, PLANNER.speed,
        s.enough, s.stride, s.far, s.clearance_weight, s.effort_weight, s.arrival_weight, s.every,
        WALLS, BODY_OFFSET, UPPER_ARM, FOREARM, WRIST_HEIGHT - SHOULDER_HEIGHT, FAR, *CENTER.tolist(), *HALF.tolist(),
        *WORKSPACE_LOW, *WORKSPACE_HIGH, body, len(BASIS_POINTS),
    ]  # fmt: skip
    lists = (FOREARM_SHARE, RISE, BODY_RADII, BASIS_POINTS.flatten())
    return torch.cat((torch.tensor(numbers), *lists))


def task() -> Task:
    """Return the arm task."""
    return Task(
        control=control_spec(),
        context_dim=CONTEXT_DIM,
        encode=encode,
        plan_window=plan_window,
        command=command,
        score=SCORE,
        paths=positions,
        scenes=evaluation_scenes,
        environment=SimulatedArm,
        first_observation=first_observation,
        measure=measure,
        measure_candidates=measure_candidates,
        showcase=open_on_both_sides,
        metrics=METRICS,
        notes=NOTES,
        native=Native("arm", _constants()),
    )
