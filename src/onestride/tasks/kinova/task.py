"""The arm task: plans live in a frame that starts at the goal and is as large as the way still to go.

Origin at the goal, x axis from the end-effector to the goal, y axis horizontal, lengths in units of the
remaining distance. In this frame every problem looks alike, and a plan's error shrinks with the distance,
which is what lets a small network stop within millimetres.

The observation (41,) is [position 3 (m), velocity 3 (m/s), goal 3 (m), obstacles 4 x 8] of the base frame.
A plan's row is [position 3, velocity 3 | displacement 3]: position over the remaining distance, velocity and
displacement over what the speed and acceleration limits allow there.
The context is what the frame loses (scale, pose) and the obstacles, seen as distances at points spread
around the way to the goal (a basis point set, Prokudin et al. 2019): any number and kind of obstacles, in
any order, and smooth to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onestride.plans.given import Given
from onestride.selectors.geometry import GeometryScore
from onestride.tasks.kinova.arm import (
    BODY_RADII,
    FOREARM,
    FOREARM_SHARE,
    RISE,
    SHOULDER_HEIGHT,
    UPPER_ARM,
    WRIST_HEIGHT,
)
from onestride.tasks.kinova.bspline import BSplineConfig, clearances, direction_frame
from onestride.tasks.kinova.demonstrations import evaluation_scenes, open_on_both_sides
from onestride.tasks.kinova.distance import signed_distance
from onestride.tasks.kinova.interface import NEAREST, REACH_MARGIN, interface
from onestride.tasks.kinova.measures import METRICS, NOTES, measure, measure_candidates
from onestride.tasks.kinova.scene import FAR, MAX_OBSTACLES, OBSTACLE_DIM, WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from onestride.tasks.kinova.simulation import SimulatedArm
from onestride.tasks.task import Native, Task

LIMITS = BSplineConfig()  # the data's speeds and margins are the task's

NEAREST_SCENE = 0.12  # the part of the frame that looks at obstacles shrinks no further than this [m]
SIGHT = 0.3  # distances to obstacles are cut here [m]
WALLS = REACH_MARGIN - 0.01 + LIMITS.clearance + LIMITS.comfort  # so far inside the workspace counts as no wall [m]
BODY_OFFSET = LIMITS.clearance - LIMITS.body_clearance  # the body may come nearer than the tip by this [m]


CENTER = torch.from_numpy(WORKSPACE_LOW + WORKSPACE_HIGH).float() / 2
HALF = torch.from_numpy(WORKSPACE_HIGH - WORKSPACE_LOW).float() / 2


def _basis_points() -> Tensor:
    """Where distances are taken: stations along the way, each a centre and two rings around it, (P, 3)."""
    rows = []
    for x in (-1.0, -0.8, -0.6, -0.4, -0.2, 0.0):
        rows.append((x, 0.0, 0.0))
        for radius, count in ((0.3, 6), (0.7, 6)):
            angle = np.arange(count) * (2 * np.pi / count) + (np.pi / count if radius > 0.5 else 0.0)
            rows += [(x, radius * np.cos(a), radius * np.sin(a)) for a in angle]
    return torch.tensor(rows, dtype=torch.float32)


BASIS_POINTS = _basis_points()
CONTEXT_DIM = 11 + len(BASIS_POINTS)


@dataclass(frozen=True)
class Frame:
    """Goal (B, 3) [m], axes (B, 3, 3) with rows forward, left, up; lengths [m] (B, 1) for position and motion."""

    goal: Tensor
    axes: Tensor
    length: Tensor  # one unit of position
    stride: Tensor  # one unit of velocity and displacement: metres per control period
    position: Tensor  # where the end-effector is (B, 3) [m]


def split(observation: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(..., 41) -> position (..., 3), velocity (..., 3), goal (..., 3), obstacles (..., 4, 8)."""
    obstacles = observation[..., 9:].unflatten(-1, (MAX_OBSTACLES, OBSTACLE_DIM))
    return observation[..., :3], observation[..., 3:6], observation[..., 6:9], obstacles


def make_frame(position: Tensor, goal: Tensor) -> Frame:
    """The frame of a motion from ``position`` to ``goal``, both (B, 3) [m]."""
    offset = goal - position
    distance = offset.norm(dim=-1, keepdim=True)
    # At the goal there is no direction: look along x.
    forward_x = torch.tensor([1.0, 0.0, 0.0]).to(offset).expand_as(offset)
    axes = torch.stack(direction_frame(torch.where(distance > 1e-6, offset, forward_x)), -2)
    length = distance.clamp(min=NEAREST)
    stride = LIMITS.control_dt * (2 * LIMITS.acceleration * length).sqrt().clamp(max=LIMITS.speed)
    return Frame(goal, axes, length, stride, position)


def _turn(axes: Tensor, vectors: Tensor) -> Tensor:
    """Base frame -> plan frame: axes (B, 3, 3), vectors (B, ..., 3)."""
    return torch.einsum("bij,b...j->b...i", axes, vectors)


def _turn_back(axes: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("bij,b...i->b...j", axes, vectors)


def encode(observation: Tensor) -> Given:
    """Observation (B, 41) -> what a decision starts from."""
    position, velocity, goal, obstacles = split(observation)
    frame = make_frame(position, goal)
    start = torch.cat(
        (
            _turn(frame.axes, position - goal) / frame.length,
            _turn(frame.axes, velocity) * LIMITS.control_dt / frame.stride,
        ),
        -1,
    )
    look = frame.length.clamp(min=NEAREST_SCENE)  # (B, 1)
    points = BASIS_POINTS.to(observation) * look[..., None]  # (B, P, 3) in the plan's directions
    points = goal[:, None] + _turn_back(frame.axes, points)
    seen = signed_distance(points, obstacles).clamp(max=SIGHT)  # (B, P)
    # The last number: how much of the smallest frame is left, so that arriving is seen.
    left = (goal - position).norm(dim=-1, keepdim=True) / frame.length
    context = torch.cat((frame.length.log(), left, frame.axes[:, 0], position, goal, seen), -1)
    return Given(start, context, frame)


def plan_window(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Raw windows (B, H, 41) and position targets (B, H, 3) [m] -> plans (B, H, 9) and context (B, C)."""
    first = encode(observations[:, 0])
    frame: Frame = first.frame
    position, velocity, _, _ = split(observations)
    length, stride = frame.length[:, None], frame.stride[:, None]
    plans = torch.cat(
        (
            _turn(frame.axes, position - frame.goal[:, None]) / length,
            _turn(frame.axes, velocity) * LIMITS.control_dt / stride,
            _turn(frame.axes, actions - position) / stride,
        ),
        -1,
    )
    return plans, first.context


def positions(plans: Tensor, frame: Frame) -> Tensor:
    """Plans (B, H, 9) -> end-effector positions (B, H, 3) [m] in the base frame."""
    return frame.goal[:, None] + _turn_back(frame.axes, plans[..., :3]) * frame.length[:, None]


def command(plans: Tensor, frame: Frame) -> Tensor:
    """Plans (B, H, 9) -> the first Cartesian position target (B, 3) [m]."""
    return frame.position + _turn_back(frame.axes, plans[:, 0, 6:]) * frame.stride


def clearance(path: Tensor, observation: Tensor) -> Tensor:
    """Path (B, T, 3), observation (B, 41) -> (B, T) [m]: of the tip, the arm's body or the workspace's walls.

    The body's is counted from where the planner's margins put it level with the tip's; the walls' so that a
    plan loses nothing until a centimetre before commands would be refused.
    """
    tip, body = clearances(path, split(observation)[3])
    outside = (path - CENTER.to(path)).abs() - HALF.to(path)
    walls = WALLS - outside.amax(-1)
    return torch.minimum(torch.minimum(tip, walls), body + BODY_OFFSET)


def goal_of(observation: Tensor) -> Tensor:
    """(B, 41) -> (B, 3) [m]."""
    return observation[:, 6:9]


def first_observation(scene: Scene) -> np.ndarray:
    """What the arm reads at rest at the start of a scene (41,)."""
    return np.concatenate((scene.start, np.zeros(3), scene.goal, scene.obstacles.ravel()))


SCORE = GeometryScore(positions, clearance, goal_of)


def _constants() -> Tensor:
    """What ``engine/c/arm.h`` reads, in its order."""
    s, body = SCORE, len(BODY_RADII)
    numbers = [
        NEAREST, NEAREST_SCENE, SIGHT, LIMITS.control_dt, LIMITS.acceleration, LIMITS.speed, s.enough, s.stride, s.far,
        s.clearance_weight, s.effort_weight, s.arrival_weight, s.every, WALLS, BODY_OFFSET, UPPER_ARM, FOREARM,
        WRIST_HEIGHT - SHOULDER_HEIGHT, FAR, *CENTER.tolist(), *HALF.tolist(),
        *WORKSPACE_LOW, *WORKSPACE_HIGH, body, len(BASIS_POINTS),
    ]  # fmt: skip
    lists = (FOREARM_SHARE, RISE, BODY_RADII, BASIS_POINTS.flatten())
    return torch.cat((torch.tensor(numbers), *lists))


def task() -> Task:
    """The arm task as the rest of the house sees it."""
    return Task(
        **vars(interface()),
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
