"""How far statistics of healthy logs lie apart: logs like the one in question are drawn from a reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from onestride.doctor.moments import Units, Which, statistics
from onestride.doctor.reference import Reference

#: Logs that are drawn to say how far each statistic reaches, and further ones that say how far beyond it one goes.
DRAWN = 600
CHECKED = 400
#: A statistic's reach is at least this: of a mean in deviations, of the others as logarithms or arc tangents.
LEAST_REACH = 0.05
#: Reaches are widened to this many times what the farthest statistic of its kind took in further drawn logs.
MARGIN = 1.4
#: Numbers that all moments together may have.
MEMORY = 40_000_000


@dataclass(frozen=True)
class Calibration:
    """What is usual for the statistics of a log of so many episodes.

    Attributes:
        units: of columns and rates.
        which: statistics there are.
        centre: the median of each (S,).
        reach: a distance from it that no healthy log is expected to have (S,); infinite for statistics that some
            healthy logs do not have.
        always_varies: whether a column varied in every drawn log (D,).
    """

    units: Units
    which: Which
    centre: np.ndarray
    reach: np.ndarray
    always_varies: np.ndarray

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, reference: Reference, pieces: int, rows: int) -> Calibration:
        """Return that of logs of ``pieces`` episodes with about ``rows`` rows each."""
        dt = reference.control_dt
        units = Units.of(reference.episodes, dt)
        parts = [part for episode in reference.episodes for part in cut(episode, rows)]
        rng = np.random.default_rng(0)
        size = 2 * len(units.mean) + 1
        if len(parts) > (most := max(MEMORY // size**2, 8)):
            parts = [parts[i] for i in rng.permutation(len(parts))[:most]]
        each = np.stack([units.moments(dt * np.arange(len(part)), part) for part in parts])
        which = Which.of(units, each.sum(0))
        drawn = _drawn(each, which, pieces, DRAWN, rng)
        # Resampled logs agree more with one another than with a new one: by the error of the reference itself.
        wider = np.sqrt(1 + pieces / len(parts))
        there = np.asarray(np.isfinite(drawn).all(axis=0))
        centre = np.where(there, np.median(np.where(np.isfinite(drawn), drawn, 0.0), 0), 0.0)
        reach = np.where(there, np.maximum(np.abs(drawn - centre).max(0) * wider, LEAST_REACH), np.inf)
        always = np.zeros(which.dim, bool)
        inner = which.deviations < which.dim
        always[which.deviations[inner]] = there[which.groups[2]][inner]
        made = cls(units, which, centre, reach, always)
        farther = made.distances_of(_drawn(each, which, pieces, CHECKED, rng))
        for group in which.groups:
            reach[group] *= MARGIN * max(1.0, farther[:, group].max(initial=0.0))
        return made

    def distances(self, moments: np.ndarray) -> np.ndarray:
        """Return how many reaches each statistic of moments (..., 2D+1, 2D+1) is from its centre (..., S)."""
        return self.distances_of(statistics(moments, self.which))

    def distances_of(self, values: np.ndarray) -> np.ndarray:
        """Return how many reaches values of the statistics (..., S) are from their centres; 0 where there is none."""
        return np.nan_to_num(np.abs(values - self.centre) / self.reach, nan=0.0)


def cut(episode: np.ndarray, rows: int) -> list[np.ndarray]:
    """Return an episode in parts of about ``rows`` rows, so that they are as long as a log's."""
    return np.array_split(episode, max(1, round(len(episode) / max(rows, 3))))


def _drawn(each: np.ndarray, which: Which, pieces: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the statistics (count, S) of logs of ``pieces`` episodes, drawn with replacement."""
    found = []
    for _ in range(count):
        found.append(statistics(each[rng.integers(len(each), size=pieces)].sum(0), which))
    return np.stack(found)
