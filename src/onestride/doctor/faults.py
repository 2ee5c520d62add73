"""Faults of a log's columns as linear maps: what they do to its moments, and so which of them explains a log best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from onestride.doctor.calibration import Calibration
from onestride.doctor.moments import Units
from onestride.robot.fields import Column

#: What a number may be multiplied by to come to the unit that is expected, and how that is said.
SCALES = {
    float(np.pi / 180): "degrees where radians are expected",
    float(180 / np.pi): "radians where degrees are expected",
    1e-3: "thousandths where whole units are expected (mm for m)",
    1e3: "whole units where thousandths are expected (m for mm)",
    1e-2: "hundredths where whole units are expected (cm for m)",
    1e2: "whole units where hundredths are expected (m for cm)",
    9.80665: "multiples of g where m/s² is expected",
    1 / 9.80665: "m/s² where multiples of g are expected",
    float(2 * np.pi / 60): "revolutions per minute where rad/s is expected",
    float(60 / (2 * np.pi)): "rad/s where revolutions per minute are expected",
}
Kind = Literal["swapped", "negated", "units", "shifted", "rate"]
#: Distances count up to so many reaches, as a logarithm.
FARTHEST = 1e3
#: A correction is believed if it takes away this share of what is unusual about its columns.
BELIEVED = 0.6
#: A shift is free to fit a mean, and a rate all speeds: each has to explain so much more than the others.
FREE = {"shifted": 1.15, "rate": 1.0, "swapped": 1.0, "negated": 1.0, "units": 1.0}
#: At most so many corrections are looked for.
MOST = 64


@dataclass(frozen=True)
class Correction:
    """A map that takes a log's columns to what they should be: x'_i = factor_i x_order_i + offset_i, v' = rate v.

    Attributes:
        kind: of the fault.
        columns: that are at fault.
        factor: for "negated" and "units".
        offset: for "shifted".
        rate: for "rate".
    """

    kind: Kind
    columns: tuple[int, ...]
    factor: float = 1.0
    offset: float = 0.0
    rate: float = 1.0
    said: str = field(default="", compare=False)

    def applied(self, moments: np.ndarray, units: Units) -> np.ndarray:
        """Return the moments (2D+1, 2D+1) of the corrected log."""
        d = len(units.mean)
        if self.kind == "swapped":
            i, j = self.columns
            gain = units.std[[j, i]] / units.std[[i, j]], units.rate[[j, i]] / units.rate[[i, j]]
            shift = (units.mean[[j, i]] - units.mean[[i, j]]) / units.std[[i, j]]
            order = np.arange(2 * d + 1)
            order[[i, j, d + i, d + j]] = [j, i, d + j, d + i]
            made = moments[np.ix_(order, order)]
            return _scaled(made, [i, j, d + i, d + j], np.concatenate(gain), [i, j], shift)
        if self.kind == "rate":
            rates = np.arange(d, 2 * d)
            return _scaled(moments, rates, np.full(d, self.rate), [], np.empty(0))
        columns = np.array(self.columns)
        gain = np.full(2 * len(columns), self.factor)
        shift = ((self.factor - 1) * units.mean[columns] + self.offset) / units.std[columns]
        return _scaled(moments, np.concatenate((columns, d + columns)), gain, columns, shift)


def _scaled(
    moments: np.ndarray, entries: Sequence[int] | np.ndarray, gain: np.ndarray, moved: Sequence[int] | np.ndarray,
    shift: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return moments of w with ``entries`` times ``gain``, then ``moved`` plus ``shift``."""
    a = moments.copy()
    a[entries] *= gain[:, None]
    a[:, entries] *= gain
    a[moved] += shift[:, None] * a[-1]
    a[:, moved] += a[:, -1:] * shift
    return a


def candidates(
    moments: np.ndarray, calibration: Calibration, distances: np.ndarray, columns: Sequence[Column]
) -> Iterator[Correction]:
    """Yield what might correct columns that have an unusual statistic."""
    units, which = calibration.units, calibration.which
    odd = np.unique(which.of_columns[distances > 1.0])
    odd = odd[units.varies[odd]]
    for n, i in enumerate(odd.tolist()):
        yield Correction("negated", (i,), -1.0)
        for factor, said in SCALES.items():
            yield Correction("units", (i,), factor, said=said)
        m = moments[i, -1] / moments[-1, -1]
        centre = calibration.centre[np.searchsorted(which.means, i)]
        yield Correction("shifted", (i,), offset=float((centre - m) * units.std[i]))
        for j in odd[n + 1 :].tolist():
            if "" in (columns[i].unit, columns[j].unit) or columns[i].unit == columns[j].unit:
                yield Correction("swapped", (i, j))
    moving = which.deviations >= which.dim
    values = which.groups[2]
    d = which.dim
    entries = which.deviations[moving]
    m = moments / moments[-1, -1]
    std = np.sqrt(np.maximum(m[entries, entries] - m[entries, -1] ** 2, 1e-300))
    usual = np.isfinite(calibration.reach[values][moving]) & (std > 1e-6)
    if usual.sum() > 1 and len(odd) > 0.5 * (entries[usual] >= d).sum():
        ratio = float(np.exp(np.median((calibration.centre[values][moving] - np.log(std))[usual])))
        yield Correction("rate", tuple((entries[usual] - d).tolist()), rate=ratio)


def unusual(distances: np.ndarray) -> np.ndarray:
    """Return how unusual each statistic is: the logarithm of its distance, 0 up to one reach."""
    return np.log(np.clip(distances, 1.0, FARTHEST))


@dataclass(frozen=True)
class Explained:
    """A correction that was believed.

    Attributes:
        correction: it.
        worst: the number of the statistic that was farthest off and is usual after it.
        before, after: distances of that statistic, in reaches.
    """

    correction: Correction
    worst: int
    before: float
    after: float


def explain(
    moments: np.ndarray, calibration: Calibration, columns: Sequence[Column]
) -> tuple[list[Explained], np.ndarray]:
    """Return the corrections that explain a log, found one after the other, and its distances after all of them."""
    found: list[Explained] = []
    which, counted = calibration.which, np.ones(len(calibration.centre), bool)
    while len(found) < MOST:
        distances = calibration.distances(moments) * counted
        if distances.max(initial=0.0) <= 1.0:
            break
        before = unusual(distances)
        best, gained, made = None, 0.0, moments
        for each in candidates(moments, calibration, distances, columns):
            corrected = each.applied(moments, calibration.units)
            kept = counted & which.mended if each.kind == "rate" else counted
            lost = (before - unusual(calibration.distances(corrected) * kept))[kept]
            mine = kept & np.isin(which.of_columns, each.columns).any(1)
            gain = float(lost.sum())
            if (distances[mine] <= 1.0).all() or gain < BELIEVED * before[mine].sum():
                continue
            if gain / FREE[each.kind] > gained:
                best, gained, made = each, gain / FREE[each.kind], corrected
        if best is None:
            break
        if best.kind == "rate":
            counted &= which.mended
        after = calibration.distances(made) * counted
        worst = int(np.where(counted, before - unusual(after), -np.inf).argmax())
        found.append(Explained(best, worst, float(distances[worst]), float(after[worst])))
        moments = made
    return found, calibration.distances(moments) * counted
