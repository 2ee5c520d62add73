"""The quadrotor's task: plans from where it is to the goal, both of which are known entries (``PlanSpec``).

The frame of plans is at the goal and as large as the remaining distance, see ``tasks/goal_frame.py``. The observation
(57,) is [position 3 (m), velocity 3 (m/s), goal 3 (m), obstacles 6 x 8] in the room's frame. A plan's row is
[position 3, velocity 3 | acceleration 3]: the position relative to the remaining distance, the velocity to what can be
braked within it, the acceleration of the row's period to its limit. Row 0 begins with what is observed. The last row's
position is the goal, at the frame's origin: plans are as long as the longest way takes, arrive at the demonstrator's
pace and stay.

The context is what the frame leaves out (scale and pose), and the obstacles as distances from points along the way to
the goal and beside it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from onestride.plans.given import Given
from onestride.plans.spec import Block
from onestride.selectors.geometry import GeometryScore
from onestride.tasks import goal_frame
from onestride.tasks.goal_frame import Frame, seen_distances, turn, turn_back
from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.quadrotor import bspline
from onestride.tasks.quadrotor.bspline import BSplineConfig
from onestride.tasks.quadrotor.control_spec import LARGEST, LEAD, NEAREST, control_spec
from onestride.tasks.quadrotor.demonstrations import demonstrations, evaluation_scenes, open_on_both_sides
from onestride.tasks.quadrotor.measures import METRICS, NOTES, measure, measure_candidates
from onestride.tasks.quadrotor.scene import (
    ACCELERATION,
    BODY_RADIUS,
    CONTROL_DT,
    MAX_OBSTACLES,
    ROOM_HIGH,
    ROOM_LOW,
    SPEED,
    Scene,
)
from onestride.tasks.quadrotor.simulation import SimulatedQuadrotor
from onestride.tasks.task import Task

STATE_DIM = 6
KNOWN = (Block(0, 0, STATE_DIM), Block(-1, 0, 3))
NEAREST_SCENE = 0.6  # smallest unit of length of the points from which distances to obstacles are taken [m]
SIGHT = 0.9  # distances to obstacles are clipped to this [m]
CENTER = torch.from_numpy(ROOM_LOW + ROOM_HIGH).float() / 2
HALF = torch.from_numpy(ROOM_HIGH - ROOM_LOW).float() / 2


def _basis_points() -> Tensor:
    """Return the points from which distances are taken (P, 3): along the way, on both sides of it and above."""
    rows = []
    for x in np.linspace(-1.0, 0.0, 11):
        rows += [(x, y, 0.0) for y in (0.0, 0.12, -0.12, 0.3, -0.3, 0.55, -0.55)]
        rows.append((x, 0.0, 0.2))
    return torch.tensor(rows, dtype=torch.float32)


BASIS_POINTS = _basis_points()
CONTEXT_DIM = 11 + len(BASIS_POINTS)


def split(observation: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return position, velocity, goal (..., 3) each and obstacles (..., 6, 8) of an observation (..., 57)."""
    obstacles = observation[..., 9:].unflatten(-1, (MAX_OBSTACLES, OBSTACLE_DIM))
    return observation[..., :3], observation[..., 3:6], observation[..., 6:9], obstacles


def make_frame(position: Tensor, goal: Tensor) -> Frame:
    """Return the frame of motions from ``position`` to ``goal``, both (B, 3) [m]."""
    return goal_frame.make_frame(
        position, goal, nearest=NEAREST, control_dt=CONTROL_DT, speed=SPEED, acceleration=ACCELERATION
    )


def _state(frame: Frame, position: Tensor, velocity: Tensor) -> Tensor:
    """Return positions [m] and velocities [m/s], (B, T, 3) each, in the frame (B, T, 6)."""
    return torch.cat(
        (
            turn(frame.axes, position - frame.goal[:, None]) / frame.length[:, None],
            turn(frame.axes, velocity) * CONTROL_DT / frame.stride[:, None],
        ),
        -1,
    )


def encode(observation: Tensor) -> Given:
    """Return the known entries, context and frame of plans for observations (B, 57)."""
    position, velocity, goal, obstacles = split(observation)
    frame = make_frame(position, goal)
    start = _state(frame, position[:, None], velocity[:, None])[:, 0]
    seen = seen_distances(frame, obstacles, BASIS_POINTS, nearest=NEAREST_SCENE, sight=SIGHT)  # (B, P)
    # The last number: how much of the smallest frame is left, so that arriving is seen.
    left = (goal - position).norm(dim=-1, keepdim=True) / frame.length
    context = torch.cat((frame.length.log(), left, frame.axes[:, 0], position, goal, seen), -1)
    return Given(torch.cat((start, torch.zeros_like(goal)), -1), context, (frame, velocity))


def plan_window(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return plans (B, H, 9) and context (B, C) of observations (B, H, 57) and commands (B, H, 3) [m/s]."""
    first = encode(observations[:, 0])
    frame: Frame = first.frame[0]
    position, velocity, _, _ = split(observations)
    plans = torch.cat((_state(frame, position, velocity), turn(frame.axes, actions - velocity) / LEAD), -1)
    return plans, first.context


def positions(plans: Tensor, frame: tuple[Frame, Tensor]) -> Tensor:
    """Return positions in the room's frame (B, H, 3) [m] for plans (B, H, 9)."""
    there, _ = frame
    return there.goal[:, None] + turn_back(there.axes, plans[..., :3]) * there.length[:, None]


def command(plans: Tensor, frame: tuple[Frame, Tensor]) -> Tensor:
    """Return the first velocity (B, 3) [m/s] of plans (B, H, 9)."""
    there, velocity = frame
    return (velocity + turn_back(there.axes, plans[:, 0, STATE_DIM:]) * LEAD).clamp(-LARGEST, LARGEST)


def clearance(path: Tensor, observation: Tensor) -> Tensor:
    """Return how far a sphere around the airframe is from obstacles, walls, floor and ceiling, (B, T) [m].

    Args:
        path: positions (B, T, 3) [m].
        observation: (B, 57).
    """
    obstacles = bspline.clearance(path, split(observation)[3])
    walls = -((path - CENTER.to(path)).abs() - HALF.to(path)).amax(-1)
    return torch.minimum(obstacles, walls) - BODY_RADIUS


def first_observation(scene: Scene) -> np.ndarray:
    """Return the observation at rest at the start of a scene (57,)."""
    return np.concatenate((scene.start, np.zeros(3), scene.goal, scene.obstacles.ravel()))


#: Plans all end at the goal: the shortest and quickest one wins, as long as it keeps its distance and is smooth.
SCORE = GeometryScore(
    positions, clearance, lambda observation: observation[:, 6:9],
    enough=BSplineConfig().clearance - BODY_RADIUS, stride=0.008, arrival_weight=0.0, length_weight=0.5, every=3,
    progress_weight=1.0,
)  # fmt: skip


def task() -> Task:
    """Return the quadrotor's task."""
    return Task(
        control=control_spec(),
        context_dim=CONTEXT_DIM,
        known=KNOWN,
        encode=encode,
        plan_window=plan_window,
        command=command,
        score=SCORE,
        paths=positions,
        scenes=evaluation_scenes,
        environment=SimulatedQuadrotor,
        first_observation=first_observation,
        measure=measure,
        measure_candidates=measure_candidates,
        showcase=open_on_both_sides,
        metrics=METRICS,
        notes=NOTES,
        demonstrations=demonstrations(),
    )
