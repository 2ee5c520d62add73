"""A quadratic program that moves a standing robot out of the way of an obstacle that comes.

It is asked only where neither the plan nor the stop has a certificate: braking beats pushing aside. What it proposes
proves nothing by itself; the filter takes it where it ends clearer than staying.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int

import numpy as np

from onestride.clearance.shapes import RoundedBoxes, segment_distances
from onestride.errors import naming_extras

#: Step of finite differences [m].
STEP = 1e-4
#: Share of what a step can gain at most that is asked for, where more would be needed.
FEASIBLE = 0.8
#: Obstacles farther off than this beyond what is required are left out [m].
NEAR = 0.2


def step_aside(
    ends: np.ndarray, required: np.ndarray, low: np.ndarray, high: np.ndarray, boxes: RoundedBoxes,
    measured: Callable[[np.ndarray, RoundedBoxes], np.ndarray] = segment_distances,
) -> np.ndarray | None:  # fmt: skip
    """Return the smallest step of the reference (3,) [m] that regains the required distances, or None.

    Of each capsule and obstacle, the distance's linearisation has to reach what is required, or as much of it as steps
    gain.

    Args:
        ends: of the capsules as they are, and with the reference moved by ``STEP`` along each axis (4, K, 2, 3) [m].
        required: distance of each capsule's axis from obstacles (K,) [m].
        low: smallest step along each axis (3,) [m].
        high: largest step along each axis (3,) [m].
        boxes: the obstacles.
        measured: returns the distances of segments from boxes, see ``shapes.segment_distances``.
    """
    with naming_extras():
        import daqp

    k = len(required)
    distances = measured(ends.reshape(-1, 2, 3), boxes).reshape(4, k, -1)
    lacking = required[:, None] - distances[0]  # (K, M)
    gradient = ((distances[1:] - distances[0]) / STEP).reshape(3, -1).T  # (K M, 3)
    near = (lacking > -NEAR).ravel() & (np.abs(gradient).max(1) > 1e-6)
    if not near.any():
        return None
    gradient, lacking = np.ascontiguousarray(gradient[near]), lacking.ravel()[near]
    gains = np.maximum(gradient * low, gradient * high).sum(1)  # at most, of each
    upper = np.concatenate((high, np.full(len(gradient), 1e30)))
    lower = np.concatenate((low, np.minimum(lacking, FEASIBLE * gains)))
    sense = np.zeros(len(upper), c_int)
    step, _, found, _ = daqp.solve(np.eye(3), np.zeros(3), gradient, upper, lower, sense)
    return np.asarray(step) if found == 1 else None
