"""The certificate: a motion and the stop after it keep the whole body clear of every obstacle.

A motion is the reference that the robot follows. Its capsules move straight from one of its knots to the next. A body
point is farther off than the reference by at most the tracking error, and an obstacle moves by at most its speed times
the time until the robot is at rest. Both are added to the distance that is required, as is a margin:

    required = radius + tracking error + margin + obstacle speed x (age of the observation + time until rest)

**Between two knots.** A distance changes at most as fast as the points of a capsule move, and no point of it moves
farther than the one of its two ends that moves farther, L. From both knots, the clearance in between is therefore at
least ``(d_k + d_k+1 - L) / 2``. No sample can be too far apart: the bound only gets worse.

**At any time.** The required distance holds for all of the motion and all of its time at once. The robot may therefore
be late on its path, or stop on it early.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from onestride.clearance.shapes import RoundedBoxes, segment_distances, wall_distances

#: Rounding errors of the distances [m].
ROUNDING = 1e-9


@dataclass(frozen=True)
class Motion:
    """P motions of a body of K capsules, each to its stop.

    Attributes:
        ends: of the capsules' axes at T knots (P, T, K, 2, 3) [m].
        last: the same at rest (P, K, 2, 3) [m].
        kept: radius, tracking error and margin: the least distance of an axis from what does not move (P, K) [m].
        seconds: until the body is at rest (P,) [s].
        commands: what is sent, one per control period, the first now (P, J, A).
        allowed: whether the tracking error was measured for such motions (P,), bool.
    """

    ends: np.ndarray
    last: np.ndarray
    kept: np.ndarray
    seconds: np.ndarray
    commands: np.ndarray
    allowed: np.ndarray

    def only(self, chosen: int | np.ndarray) -> Motion:
        """Return one of them alone, P = 1, or those of a mask (P,)."""
        rows = chosen if isinstance(chosen, np.ndarray) else slice(chosen, chosen + 1)
        return Motion(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True)
class Surroundings:
    """What the body has to keep clear of.

    Attributes:
        boxes: the obstacles, as they were observed.
        walls: half-spaces that the body stays in (W, 4), see ``wall_distances``.
        speed: largest speed of any point of an obstacle [m/s].
        age: of the observation of the obstacles [s].
    """

    boxes: RoundedBoxes
    walls: np.ndarray
    speed: float
    age: float


def clearances(motion: Motion, around: Surroundings) -> np.ndarray:
    """Return by how much each motion is clearer than it has to be, a lower bound (P,) [m]. Certified: not negative."""
    p, t, k = motion.ends.shape[:3]
    segments = motion.ends.reshape(-1, 2, 3)
    walls = wall_distances(segments, around.walls).reshape(p, t, k)
    least = (walls - motion.kept[:, None]).min((1, 2))
    if len(around.boxes):
        moved = np.linalg.norm(np.diff(motion.ends, axis=1), axis=-1).max(-1)  # (P, T-1, K)
        required = motion.kept + (around.speed * (around.age + motion.seconds))[:, None]  # (P, K)
        enough = required + (moved.max(1) if t > 1 else 0.0)
        enough = np.broadcast_to(enough[:, None], (p, t, k)).ravel()
        distances = segment_distances(segments, around.boxes, enough).reshape(p, t, k, -1)
        if t > 1:
            distances = (distances[:, :-1] + distances[:, 1:] - moved[..., None]) / 2
        least = np.minimum(least, (distances - required[:, None, :, None]).min((1, 2, 3)))
    return least - ROUNDING


def certified(motion: Motion, around: Surroundings) -> np.ndarray:
    """Return which motions have a certificate (P,), bool: they are allowed, and clear of everything."""
    found = motion.allowed.copy()
    if found.any():
        found[found] = clearances(motion.only(found), around) >= 0
    return found
