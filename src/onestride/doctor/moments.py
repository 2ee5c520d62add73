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
#: A column's nearest relative has at least this correlation with it.
RELATED = 0.7
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
    off = which.residuals
    error = np.sqrt(np.maximum(((off @ cov) * off).sum(-1), 0.0))
    return np.concatenate(
        (
            mean[..., which.means],
            mean @ off.T,
            logs[..., which.deviations],
            np.log(np.maximum(error, STILL)),
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
        residuals: what is left of each column (M, 2D) that its nearest relative does not predict, with a mean and a
            deviation too.
        pairs: entries (P, 2) with a correlation, as its inverse hyperbolic tangent.
        slopes: entries (Q, 2): a rate and the column that it follows, with the logarithm of their deviations' ratio.
    """

    dim: int
    means: np.ndarray
    deviations: np.ndarray
    residuals: np.ndarray
    pairs: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, units: Units, whole: np.ndarray) -> Which:
        """Return those of a reference with the moments ``whole`` (2D+1, 2D+1)."""
        d = len(units.mean)
        columns, rates = np.flatnonzero(units.varies), np.flatnonzero(units.moves) + d
        entries = np.concatenate((columns, rates))
        pairs = np.array([(a, b) for n, a in enumerate(entries) for b in entries[n + 1 :]], int).reshape(-1, 2)
        residuals = _residuals(whole, columns, entries, np.tile(units.moves, 2))
        found = cls(d, columns, entries, residuals, pairs, np.empty((0, 2), int))
        strength = np.tanh(statistics(whole, found)[found.groups[4]])
        apart = (pairs[:, 0] < d) & (pairs[:, 1] >= d) & (pairs[:, 1] - d != pairs[:, 0])
        close = pairs[apart & (np.abs(strength) > PAIRED)][:, ::-1]
        return cls(d, columns, entries, residuals, pairs, close.reshape(-1, 2))

    @property
    def groups(self) -> list[slice]:
        """Where each kind of statistic stands: means, of residuals too, deviations, of residuals too, pairs, slopes."""
        m = len(self.means)
        ends = np.cumsum([m, m, len(self.deviations), m, len(self.pairs), len(self.slopes)]).tolist()
        return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    @property
    def of_columns(self) -> np.ndarray:
        """The two columns (S, 2) of each statistic, twice the same one for those of a single column."""
        others = self.residuals.copy()
        others[np.arange(len(self.means)), self.means] = 0.0
        relatives = np.abs(others).argmax(1)
        means, deviations = np.stack((self.means, self.means), 1), np.stack((self.deviations, self.deviations), 1)
        related = np.stack((self.means, np.where((self.residuals != 0).any(1), relatives, self.means)), 1)
        return np.concatenate((means, related, deviations, related, self.pairs, self.slopes)) % self.dim

    @property
    def mended(self) -> np.ndarray:
        """Which statistics (S,) are usual again once a wrong rate is corrected.

        Differences over longer or shorter steps follow nothing as closely as before, which no map mends.
        """
        mended = np.ones(self.groups[-1].stop, bool)
        mended[self.groups[4]] = (self.pairs < self.dim).all(1)
        mended[self.groups[1]] = mended[self.groups[3]] = False
        return mended

    def words(self, number: int, names: Sequence[str]) -> str:
        """Return what statistic ``number`` is of."""
        said = [*names, *(f"the rate of {name}" for name in names)]
        kind = next(i for i, group in enumerate(self.groups) if number < group.stop)
        at = number - self.groups[kind].start
        if kind >= 4:
            a, b = (self.pairs, self.slopes)[kind - 4][at]
            return f"{('correlation', 'ratio of deviations')[kind - 4]} of {said[a]} and {said[b]}"
        entry = (self.means, self.means, self.deviations, self.means)[kind][at]
        rest = ", less what its nearest relative predicts," if kind in (1, 3) else ""
        return f"{'mean' if kind < 2 else 'deviation'} of {said[entry]}{rest}"

    def value(self, number: int, statistic: float, units: Units) -> float:
        """Return a statistic in its column's units."""
        kind = next(i for i, group in enumerate(self.groups) if number < group.stop)
        if kind == 4:
            return float(np.tanh(statistic))
        scale = np.concatenate((units.std, units.rate))
        if kind == 5:
            a, b = self.slopes[number - self.groups[5].start]
            return float(np.exp(statistic) * scale[a] / scale[b])
        entry = (self.means, self.means, self.deviations, self.means)[kind][number - self.groups[kind].start]
        if kind >= 2:
            return float(np.exp(statistic) * scale[entry])
        return float(statistic * units.std[entry] + (units.mean[entry] if kind == 0 else 0.0))


def _residuals(whole: np.ndarray, columns: np.ndarray, entries: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Return the maps (M, 2D) from w to each column less its prediction from what it is most correlated with.

    One predictor each, and none where neither moves: what is constant within episodes is seen as often as there are
    episodes, which is too few for more. A column without one has a row of zeros, whose statistics never change.
    """
    m = whole / whole[-1, -1]
    cov = (m - np.outer(m[:, -1], m[-1]))[:-1, :-1]
    made = np.zeros((len(columns), len(cov)))
    variance = cov.diagonal()
    for row, i in zip(made, columns, strict=True):
        others = entries[entries % (len(cov) // 2) != i]
        if len(others):
            best = others[np.argmax(cov[others, i] ** 2 / variance[others])]
            if (moves[i] or moves[best]) and cov[best, i] ** 2 > RELATED**2 * variance[best] * variance[i]:
                row[best] = -cov[best, i] / variance[best]
                row[i] = 1.0
    return made
