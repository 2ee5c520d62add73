"""Second moments of observations and their rates of change, and the statistics that are compared.

With w_t = [z_t | dz_t/dt | 1], z normalised by the reference, an episode is its moments sum_t w_t w_t'. Those of a log
are a sum, and a wrong sign, order, unit or offset is a linear map of w: no hypothesis needs the rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Correlations beyond this are not told apart.
STRONGEST = 0.999
#: Columns whose rate of change follows another one this closely are a pair: a position and its velocity.
PAIRED = 0.95
#: A column that varies by less than this share of the reference's deviation has no statistics.
STILL = 1e-4


@dataclass(frozen=True)
class Units:
    """How columns and their rates are normalised.

    Attributes:
        mean: (D,).
        std: (D,), 1 for columns that are constant in the reference.
        rate: root mean square of the rates (D,), 1 for columns that never change within an episode.
        varies: whether a column varies in the reference (D,).
        moves: whether it changes within an episode (D,).
    """

    mean: np.ndarray
    std: np.ndarray
    rate: np.ndarray
    varies: np.ndarray
    moves: np.ndarray

    @classmethod
    def of(cls, episodes: Sequence[np.ndarray], dt: float) -> Units:
        """Return those of episodes (T_e, D) with a row every ``dt`` [s]."""
        rows = np.concatenate(episodes).astype(np.float64)
        steps = np.concatenate([np.diff(e.astype(np.float64), axis=0) for e in episodes])
        spread = rows.std(0)
        varies = spread > 1e-6 * np.maximum(1.0, np.abs(rows).max(0))
        moves = varies & (np.abs(steps).max(0) > 0)
        rate = np.sqrt((steps**2).mean(0)) / dt
        return cls(rows.mean(0), np.where(varies, spread, 1.0), np.where(moves, rate, 1.0), varies, moves)

    def moments(self, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the moments (2D+1, 2D+1) of one episode with times (T,) [s] and rows (T, D)."""
        z = (rows[1:] - self.mean) / self.std
        v = np.diff(rows, axis=0) / np.diff(times)[:, None] / self.rate
        w = np.concatenate((z, v, np.ones((len(z), 1))), 1)
        return w.T @ w


def statistics(moments: np.ndarray, which: Which) -> np.ndarray:
    """Return the statistics (..., S) of moments (..., 2D+1, 2D+1); NaN where a column does not vary."""
    m = moments / moments[..., -1:, -1:]
    mean = m[..., :-1, -1]
    cov = m[..., :-1, :-1] - mean[..., :, None] * mean[..., None, :]
    std = np.sqrt(np.maximum(np.diagonal(cov, axis1=-2, axis2=-1), 0.0))
    std = np.where(std > STILL, std, np.nan)
    i, j = which.pairs.T
    strength = cov[..., i, j] / (std[..., i] * std[..., j])
    logs = np.log(std)
    k, j = which.slopes.T
    return np.concatenate(
        (
            mean[..., which.means],
            logs[..., which.deviations],
            np.arctanh(np.clip(strength, -STRONGEST, STRONGEST)),
            logs[..., k] - logs[..., j],
        ),
        -1,
    )


@dataclass(frozen=True)
class Which:
    """Which statistics there are, by entries of w: 0 to D are columns, D to 2D their rates.

    Attributes:
        dim: D.
        means, deviations: entries (M,), (N,) with a mean and the logarithm of a deviation.
        pairs: entries (P, 2) with a correlation, as its inverse hyperbolic tangent.
        slopes: entries (Q, 2): a rate and the column that it follows, with the logarithm of their deviations' ratio.
    """

    dim: int
    means: np.ndarray
    deviations: np.ndarray
    pairs: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, units: Units, whole: np.ndarray) -> Which:
        """Return those of a reference with the moments ``whole`` (2D+1, 2D+1)."""
        d = len(units.mean)
        columns, rates = np.flatnonzero(units.varies), np.flatnonzero(units.moves) + d
        entries = np.concatenate((columns, rates))
        pairs = np.array([(a, b) for n, a in enumerate(entries) for b in entries[n + 1 :]], int).reshape(-1, 2)
        none = np.empty((0, 2), int)
        found = cls(d, columns, entries, pairs, none)
        strength = np.tanh(statistics(whole, found)[len(columns) + len(entries) :][: len(pairs)])
        apart = (pairs[:, 0] < d) & (pairs[:, 1] >= d) & (pairs[:, 1] - d != pairs[:, 0])
        close = pairs[apart & (np.abs(strength) > PAIRED)][:, ::-1]
        return cls(d, columns, entries, pairs, close.reshape(-1, 2))

    @property
    def of_columns(self) -> np.ndarray:
        """The two columns (S, 2) of each statistic, twice the same one for those of a single column."""
        single = np.concatenate((self.means, self.deviations))
        return np.concatenate((np.stack((single, single), 1), self.pairs, self.slopes)) % self.dim

    def words(self, number: int, names: Sequence[str]) -> tuple[str, bool]:
        """Return what statistic ``number`` is of, and whether it is a correlation."""
        m, n, p = len(self.means), len(self.deviations), len(self.pairs)
        said = [*names, *(f"the rate of {name}" for name in names)]
        if number < m:
            return f"mean of {said[self.means[number]]}", False
        if number < m + n:
            return f"log deviation of {said[self.deviations[number - m]]}", False
        if number < m + n + p:
            a, b = self.pairs[number - m - n]
            return f"correlation of {said[a]} with {said[b]}", True
        a, b = self.slopes[number - m - n - p]
        return f"log ratio of {said[a]} to {said[b]}", False
