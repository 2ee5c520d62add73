"""Distances from capsules to boxes, spheres, pillars and walls, many at once. NumPy alone.

Every obstacle is a rounded box: a box whose surface is moved outward by a radius. A sphere's box is a point, a pillar's
a vertical line, so that it also gets round ends. A capsule is a line segment with a radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onestride.tasks.obstacles import ABSENT, BOX, PILLAR, SPHERE


@dataclass(frozen=True)
class RoundedBoxes:
    """Boxes, each in its own frame and rounded.

    Attributes:
        center: (M, 3) [m].
        turn: from the robot's base frame to the boxes' (M, 3, 3).
        half: half extents (M, 3) [m].
        rounding: how far the surface lies outside of the box (M,) [m].
    """

    center: np.ndarray
    turn: np.ndarray
    half: np.ndarray
    rounding: np.ndarray

    @classmethod
    def of(cls, obstacles: np.ndarray) -> RoundedBoxes:
        """Return the boxes of obstacles' rows (K, 8); absent ones are left out. See ``tasks/obstacles.py``."""
        rows = obstacles[obstacles[:, 0] != ABSENT]
        kind, half, yaw = rows[:, 0], rows[:, 4:7], rows[:, 7]
        is_box, is_round = kind == BOX, (kind == SPHERE) | (kind == PILLAR)
        stands = np.stack((is_box, is_box, is_box | (kind == PILLAR)), -1)
        cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros(len(rows))
        turn = np.stack((cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1), -1).reshape(-1, 3, 3)
        return cls(rows[:, 1:4], turn, half * stands, half[:, 0] * is_round)

    def __len__(self) -> int:
        return len(self.half)


def segment_distances(ends: np.ndarray, boxes: RoundedBoxes, enough: np.ndarray | float = np.inf) -> np.ndarray:
    """Return distances from line segments to the surfaces of boxes (N, M) [m], 0 or less where they meet.

    A distance below ``enough`` is exact. One that is not is replaced by a lower bound that is still at least
    ``enough``, wherever such a bound is cheap: the distance of the segment's middle less half its length.

    Args:
        ends: of the segments (N, 2, 3) [m].
        boxes: M of them.
        enough: distance from which on the exact one does not matter, (N,) or one for all [m].
    """
    # Coordinates come first from here on: a last axis of three is slow.
    middle, along = 0.5 * (ends[:, 0] + ends[:, 1]), ends[:, 1] - ends[:, 0]  # (N, 3)
    turn = boxes.turn.transpose(1, 0, 2).reshape(-1, 3)  # rows: every box's local x, then every y, then every z
    shape = 3, len(boxes), len(ends)
    local = (turn @ middle.T).reshape(shape) - np.einsum("mij,mj->im", boxes.turn, boxes.center)[..., None]
    half = boxes.half.T  # (3, M)
    rounding = boxes.rounding[:, None]
    bound = _norm(np.maximum(np.abs(local) - half[..., None], 0.0)) - rounding - 0.5 * _norm(along.T)  # (M, N)
    near = bound < enough
    if near.any():
        m, n = np.nonzero(near)
        way = (turn @ along.T).reshape(shape)[:, m, n]
        bound[m, n] = _segment_to_box(local[:, m, n] - 0.5 * way, way, half[:, m]) - boxes.rounding[m]
    return bound.T


def _segment_to_box(start: np.ndarray, way: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return the distances of segments from boxes around the origin (N,) [m], exactly; 0 where they meet.

    The squared distance of the point ``start + s way`` is convex in s, and its derivative is continuous and linear
    between the places where a coordinate passes a face. So its root lies on the line between the two next to it.

    Args:
        start: of the segments (3, N) [m].
        way: from their starts to their ends (3, N) [m].
        half: half extents (3, N) [m].
    """
    still = np.where(way == 0, 1.0, way)  # passes no face: any place will do

    def slope(places: np.ndarray) -> np.ndarray:
        total = np.zeros_like(places)
        for x, dx, h in zip(start, way, half, strict=True):
            at = x + places * dx
            total += (at - np.clip(at, -h, h)) * dx
        return total

    faces = np.clip(np.concatenate(((half - start) / still, (-half - start) / still)), 0.0, 1.0)  # (6, N)
    places = np.concatenate((faces, np.zeros_like(start[:1]), np.ones_like(start[:1])))
    rising = slope(places)
    before = np.where(rising <= 0, places, 0.0).max(0)  # the last place from which it still falls
    after = np.where(rising >= 0, places, 1.0).min(0)  # the first from which it rises
    falls, rises = -slope(before), slope(after)
    share = np.divide(falls, falls + rises, out=np.zeros_like(falls), where=(falls > 0) & (rises > 0))
    at = start + (before + share * (after - before)) * way
    return _norm(at - np.clip(at, -half, half))


def _norm(vectors: np.ndarray) -> np.ndarray:
    """Return lengths (...) of vectors whose coordinates come first (3, ...)."""
    x, y, z = vectors
    return np.sqrt(x * x + y * y + z * z)


def wall_distances(ends: np.ndarray, walls: np.ndarray) -> np.ndarray:
    """Return distances from line segments (N, 2, 3) to the nearest wall (N,) [m], negative beyond it.

    Args:
        ends: of the segments [m].
        walls: rows of a normal (3), pointing away from the wall, and the wall's distance from the origin along it
            (W, 4) [m].
    """
    return (ends @ walls[:, :3].T - walls[:, 3]).min((1, 2))
