"""Directions of a motion, in NumPy for one motion at a time. ``goal_frame.py`` has them for many."""

from __future__ import annotations

import numpy as np


def axes_toward(offset: np.ndarray) -> np.ndarray:
    """Return forward, left and up of a motion along ``offset`` (3,) as rows (3, 3), as ``direction_frame`` gives them.

    Without a way to go it is along x.
    """
    way = float(np.linalg.norm(offset))
    x, y, z = forward = offset / way if way > 1e-6 else np.array([1.0, 0.0, 0.0])
    vertical = x * x + y * y < 1e-6
    left = np.array([-x * y, 1 - y * y, -y * z]) if vertical else np.array([-y, x, 0.0])
    left /= np.linalg.norm(left)
    return np.stack((forward, left, np.cross(forward, left)))
