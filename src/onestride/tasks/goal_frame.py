"""A frame of plans at the goal, whose unit of length is the remaining distance.

The frame's origin is the goal, its x axis points from the robot to the goal, its y axis is horizontal. In this frame
all problems of going to a goal are similar, and a plan's error shrinks with the distance.

Obstacles are seen in it as distances from points around the way to the goal (a basis point set, Prokudin et al. 2019).
That is smooth and independent of the obstacles' number and order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onestride.tasks.distance import signed_distance


@dataclass(frozen=True)
class Frame:
    """The frame of B plans.

    Attributes:
        goal: its origin (B, 3) [m].
        axes: rows forward, left and up (B, 3, 3).
        length: the unit of position (B, 1) [m].
        stride: the unit of velocity and displacement (B, 1) [m per control period].
        position: of the robot (B, 3) [m].
    """

    goal: Tensor
    axes: Tensor
    length: Tensor
    stride: Tensor
    position: Tensor


def make_frame(
    position: Tensor, goal: Tensor, *, nearest: float, control_dt: float, speed: float, acceleration: float
) -> Frame:
    """Return the frame of motions from ``position`` to ``goal``, both (B, 3) [m].

    Args:
        position: of the robot.
        goal: the frame's origin.
        nearest: smallest unit of length [m].
        control_dt: control period [s].
        speed: largest speed [m/s].
        acceleration: largest acceleration [m/s^2]. The unit of velocity is the speed from which it brakes within the
            unit of length, up to the largest one.
    """
    offset = goal - position
    distance = offset.norm(dim=-1, keepdim=True)
    # At the goal there is no direction: look along x.
    forward_x = torch.tensor([1.0, 0.0, 0.0]).to(offset).expand_as(offset)
    axes = torch.stack(direction_frame(torch.where(distance > 1e-6, offset, forward_x)), -2)
    length = distance.clamp(min=nearest)
    stride = control_dt * (2 * acceleration * length).sqrt().clamp(max=speed)
    return Frame(goal, axes, length, stride, position)


def direction_frame(offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors forward, left and up (..., 3) of a motion along a non-zero ``offset`` (..., 3).

    Left is horizontal. For a vertical motion it is the base's y axis.
    """
    forward = offset / torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
    x, y, z = forward.unbind(-1)
    vertical = x.square() + y.square() < 1e-6
    left = torch.stack((torch.where(vertical, -x * y, -y), torch.where(vertical, 1 - y * y, x), -y * z * vertical), -1)
    left = torch.nn.functional.normalize(left, dim=-1)
    return forward, left, torch.linalg.cross(forward, left)


def turn(axes: Tensor, vectors: Tensor) -> Tensor:
    """Return vectors (B, ..., 3) of the base frame in the plan's frame, with axes (B, 3, 3)."""
    return torch.einsum("bij,b...j->b...i", axes, vectors)


def turn_back(axes: Tensor, vectors: Tensor) -> Tensor:
    """Return vectors (B, ..., 3) of the plan's frame in the base frame, with axes (B, 3, 3)."""
    return torch.einsum("bij,b...i->b...j", axes, vectors)


def seen_distances(frame: Frame, obstacles: Tensor, basis: Tensor, *, nearest: float, sight: float) -> Tensor:
    """Return distances of obstacles (B, K, 8) from the basis points (B, P) [m].

    Args:
        frame: of the plans.
        obstacles: see ``obstacles.py``.
        basis: points around the way to the goal, in units of its length and the frame's directions (P, 3).
        nearest: smallest unit of length of the basis points [m].
        sight: distances are clipped to this [m].
    """
    look = frame.length.clamp(min=nearest)  # (B, 1)
    points = basis.to(frame.goal) * look[..., None]  # (B, P, 3) in the plan's directions
    points = frame.goal[:, None] + turn_back(frame.axes, points)
    return signed_distance(points, obstacles).clamp(max=sight)
