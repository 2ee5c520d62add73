"""What a log's times say: its rate, its gaps, values that are repeated, and columns that come late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onestride.doctor.calibration import Calibration
from onestride.doctor.reference import Reference

#: The rate may differ by this share from the control period's.
RATE = 0.05
#: A period this many times the usual one is a gap; this share of them is too many.
GAP, GAPS = 1.5, 0.02
#: Lags up to so many periods are looked at.
LAGS = 8
#: This much more of a column's values may be repeated than in any episode of the reference.
REPEATED = 0.25

Pieces = Sequence[tuple[np.ndarray, np.ndarray]]


def period_of(pieces: Pieces) -> float:
    """Return the median time between two rows [s]."""
    return float(np.median(np.concatenate([np.diff(times) for times, _ in pieces])))


def is_other_rate(period: float, control_dt: float) -> bool:
    """Return whether a log's period is not the control period."""
    return bool(abs(np.log(period / control_dt)) > RATE)


def resampled(pieces: Pieces, dt: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the episodes with a row every ``dt`` [s], interpolated between their own; shorter ones are left out."""
    made = []
    for times, rows in pieces:
        at = np.arange(times[0], times[-1] + 1e-6 * dt, dt)
        if len(at) > 1:
            made.append((at, np.stack([np.interp(at, times, column) for column in rows.T], axis=1)))
    return made


def at_one_rate(pieces: Pieces, reference: Reference) -> tuple[Sequence[tuple[np.ndarray, np.ndarray]], Reference]:
    """Return a log and a reference that both have the slower one's period; the faster one is interpolated.

    A slow log is left as it is, since interpolation would show fewer changes than there were.
    """
    period, dt = period_of(pieces), reference.control_dt
    if period < dt:
        return resampled(pieces, dt) or pieces, reference
    timed = [(dt * np.arange(len(rows)), rows) for rows in reference.episodes]
    episodes = tuple(rows for _, rows in resampled(timed, period) if len(rows) > 2)  # as a reference has them
    return pieces, replace(reference, control_dt=period, episodes=episodes) if episodes else reference


def gaps(pieces: Pieces) -> float:
    """Return the share of periods that are much longer than the usual one."""
    periods = np.concatenate([np.diff(times) for times, _ in pieces])
    return float((periods > GAP * np.median(periods)).mean())


def repeated(episodes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of rows (D,) at which each column is what it was before."""
    return np.concatenate([np.diff(rows, axis=0) == 0 for rows in episodes]).mean(0)


@dataclass(frozen=True)
class Late:
    """A pair of columns of which one comes at another time than in the reference.

    Attributes:
        pair: the column whose rate of change is followed, and the one that follows it.
        periods: how much later the second is than it should be; negative: earlier.
    """

    pair: tuple[int, int]
    periods: int


def late(pieces: Pieces, episodes: Sequence[np.ndarray], calibration: Calibration) -> list[Late]:
    """Return the pairs that are late or early by two periods or more.

    Only columns that follow another one's rate of change are told, as a velocity does a position's.
    """
    d, found = calibration.which.dim, []
    for a, b in calibration.which.slopes.tolist():
        i = a - d
        usual = _lag(episodes, i, b)
        now = _lag([rows for _, rows in pieces], i, b)
        if usual is not None and now is not None and abs(now - usual) >= 2:
            found.append(Late((i, b), now - usual))
    return found


def _lag(episodes: Sequence[np.ndarray], i: int, j: int) -> int | None:
    """Return by how many rows column j follows the change of column i, at the strongest correlation; None: at none."""
    strength = []
    for lag in range(-LAGS, LAGS + 1):
        ahead, behind = [], []
        for rows in episodes:
            v, x = np.diff(rows[:, i]), rows[1:, j]
            if len(v) > LAGS + 2:
                ahead.append(v[max(-lag, 0) : len(v) - max(lag, 0)])
                behind.append(x[max(lag, 0) : len(v) - max(-lag, 0)])
        if not ahead:
            return None
        v, x = np.concatenate(ahead), np.concatenate(behind)
        spread = v.std() * x.std()
        strength.append(abs(((v - v.mean()) * (x - x.mean())).mean()) / spread if spread > 0 else 0.0)
    best = int(np.argmax(strength))
    return best - LAGS if strength[best] > 0.5 and 0 < best < 2 * LAGS else None
