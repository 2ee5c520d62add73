"""The diagnosis: what is wrong with a log of observations, with evidence, and what could not have been seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onestride.doctor import timing
from onestride.doctor.calibration import Calibration
from onestride.doctor.faults import Correction, Explained, explain
from onestride.doctor.log import Log
from onestride.doctor.moments import statistics
from onestride.doctor.reference import Reference
from onestride.robot.control_spec import ControlSpec
from onestride.robot.fields import Column, columns_of

#: Values beyond what the data have by this share of their range are outside of it, if so many of the rows are. Of
#: columns that stay the same for whole episodes few values were seen.
BEYOND, BEYOND_FIXED, OFTEN = 0.25, 1.0, 0.02
ADVICE = {
    "swapped": "put them in the order of the policy's columns",
    "negated": "turn its sign: an axis or an encoder points the other way",
    "units": "convert it before it goes to the policy",
    "shifted": "take the offset away: another origin, frame or zero of an encoder",
    "rate": "give observations once per control period, with the times at which they were sampled",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: such as "swapped" or "rate".
        columns: the names of those at fault; none: all.
        evidence: in numbers.
        advice: what to do.
    """

    kind: str
    columns: tuple[str, ...]
    evidence: str
    advice: str

    def __str__(self) -> str:
        about = f"{self.kind}: {', '.join(self.columns)}" if self.columns else self.kind
        return f"{about}\n    {self.evidence}\n    -> {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a log.

    Attributes:
        findings: that are wrong.
        checked: what was looked at, a line each.
        blind: faults that this log would not have shown, as it is; empty where something was found.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    blind: tuple[str, ...] = ()


def diagnose(log: Log, reference: Reference, spec: ControlSpec, *, blind: bool = True) -> Diagnosis:
    """Return what is wrong with a log, compared with episodes that the policy learnt from.

    Args:
        log: of a robot that moves as in these episodes.
        reference: the episodes.
        spec: of the task.
        blind: whether to look for the faults that would not have been noticed, where nothing is found.

    Raises:
        ValueError: the log has no episode of two rows.
    """
    columns, findings = columns_of(spec), []
    names = [column.name for column in columns]
    bad = np.argwhere(~np.isfinite(log.observations))
    if len(bad):
        which = sorted(set(bad[:, 1].tolist()))
        said = f"{len(bad)} numbers are not finite, the first in row {bad[0][0]}"
        advice = "look at the sensor and its driver; the control loop refuses such observations"
        return Diagnosis((Finding("not finite", tuple(names[i] for i in which), said, advice),), ("finite numbers",))
    pieces = _split(log, reference)
    if not pieces:
        raise ValueError("no episode of the log has two rows or more")
    as_read, period, as_learnt = pieces, timing.period_of(pieces), reference
    times_said = f"times: period {period:.4g} s, control period {reference.control_dt:g} s; gaps; repeated values"
    if timing.is_other_rate(period, reference.control_dt):
        pieces, reference = timing.at_one_rate(pieces, reference)
        times_said += f"; all else as if both had a row every {reference.control_dt:.4g} s"
    rows = int(np.median([len(values) for _, values in pieces]))
    calibration = Calibration.of(reference, len(pieces), rows)
    units, which = calibration.units, calibration.which
    findings += _times(as_read, as_learnt, calibration, names)
    still = _still(pieces, calibration, names)
    findings += still
    late = timing.late(pieces, reference.episodes, calibration)
    findings += [_late(each, reference.control_dt, names) for each in late]
    moments = np.sum([units.moments(times, values) for times, values in pieces], axis=0)
    explained, left = explain(moments, calibration, columns)
    findings += [_explained(each, moments, calibration, names) for each in explained]
    told = {i for each in explained for i in each.correction.columns} | {i for each in late for i in each.pair}
    told |= {names.index(name) for finding in findings for name in finding.columns}
    findings += _unlike(moments, left, calibration, names, told)
    findings += _outside(np.concatenate([values for _, values in pieces]), reference, calibration, names, told)
    checked = (
        f"{len(log.times)} observations in {len(pieces)} episodes, {sum(t[-1] - t[0] for t, _ in pieces):.1f} s, "
        f"against {len(reference.episodes)} episodes of {spec.name}",
        times_said,
        f"{len(calibration.centre)} statistics of {int(units.varies.sum())} columns and their rates; "
        f"{len(which.slopes)} pairs of a column and another one's rate, in which delays of 2 periods or more are seen",
        "ranges, and columns that do not change",
    )
    unseen = tuple(_blind(moments, calibration, columns)) if blind and not findings else ()
    return Diagnosis(tuple(findings), (*log.notes, *checked), unseen)


def _split(log: Log, reference: Reference) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the log's episodes, cut also where a column changes that never does within an episode of the reference."""
    rows = np.concatenate(reference.episodes)
    fixed = ~np.any([np.abs(np.diff(e, axis=0)).max(0) > 0 for e in reference.episodes], axis=0) & (np.ptp(rows, 0) > 0)
    jumps = np.r_[0, (np.abs(np.diff(log.observations[:, fixed], axis=0)) > 0).any(1)]
    if jumps.mean() > 0.2:  # they are not what they should be; other checks say so
        return log.pieces()
    marks = np.r_[0, np.diff(log.episodes) != 0] + jumps > 0
    return Log(log.times, log.observations, marks.cumsum()).pieces()


def _times(
    pieces: timing.Pieces, reference: Reference, calibration: Calibration, names: Sequence[str]
) -> list[Finding]:
    found, period = [], timing.period_of(pieces)
    if timing.is_other_rate(period, reference.control_dt):
        said = f"an observation every {period:.4g} s; the policy learnt with one every {reference.control_dt:g} s"
        found.append(Finding("rate", (), said, ADVICE["rate"]))
    if (share := timing.gaps(pieces)) > timing.GAPS:
        said = (
            f"{share:.0%} of the periods are more than {timing.GAP} times the usual one, up to {timing.GAPS:.0%} pass"
        )
        found.append(Finding("gaps", (), said, "look for what is dropped: the bus, the network, a busy processor"))
    most = np.max([timing.repeated([episode]) for episode in reference.episodes], axis=0)
    now = timing.repeated([values for _, values in pieces])
    often = calibration.units.moves & (now > most + timing.REPEATED) & (now < 1.0)
    if often.any():
        which = tuple(names[i] for i in np.flatnonzero(often).tolist())
        said = (
            f"{now[often].min():.0%} or more of the values repeat the row before, in the data {most[often].max():.0%}"
        )
        found.append(
            Finding("repeated", which, said, "the sensor is slower than the log: read it at its rate, or faster")
        )
    return found


def _still(pieces: timing.Pieces, calibration: Calibration, names: Sequence[str]) -> list[Finding]:
    rows = np.concatenate([values for _, values in pieces])
    still = calibration.always_varies & (np.ptp(rows, 0) <= 1e-3 * calibration.units.std)
    return [
        Finding(
            "constant", (names[i],),
            f"it is {rows[0, i]:.4g} all the time; in logs of the data it varies by {calibration.units.std[i]:.3g}",
            "look whether it is connected and read; or log a longer motion that moves it",
        )
        for i in np.flatnonzero(still).tolist()
    ]  # fmt: skip


def _late(late: timing.Late, dt: float, names: Sequence[str]) -> Finding:
    first, second = late.pair
    order = "later" if late.periods > 0 else "earlier"
    said = (
        f"{names[second]} follows the changes of {names[first]} {abs(late.periods)} periods "
        f"({abs(late.periods) * dt:.3g} s) {order} than in the data"
    )
    return Finding(
        "delayed", (names[first], names[second]), said, "one of the two is delayed or filtered: read them together"
    )


def _explained(each: Explained, moments: np.ndarray, calibration: Calibration, names: Sequence[str]) -> Finding:
    c = each.correction
    said = _evidence(each.worst, moments, calibration, names)
    extra = {
        "units": f"in {c.said}",
        "shifted": f"off by {-c.offset:.3g}",
        "rate": f"everything changes {1 / c.rate:.3g} times as fast as in the data",
    }.get(c.kind)
    reach = f"{each.before:.3g} times what healthy logs reach, {each.after:.2g} when mended"
    said = "; ".join(filter(None, (extra, said, reach)))
    columns = () if c.kind == "rate" else tuple(names[i] for i in c.columns)
    return Finding(c.kind, columns, said, ADVICE[c.kind])


def _evidence(number: int, moments: np.ndarray, calibration: Calibration, names: Sequence[str]) -> str:
    which, units = calibration.which, calibration.units
    now = which.value(number, float(statistics(moments, which)[number]), units)
    usual = which.value(number, float(calibration.centre[number]), units)
    return f"{which.words(number, names)} is {now:.3g}, in the data {usual:.3g}"


def _unlike(
    moments: np.ndarray, left: np.ndarray, calibration: Calibration, names: Sequence[str], told: set[int]
) -> list[Finding]:
    """Return the columns that are unusual and that nothing explains, those with most unusual statistics first."""
    found, left, of = [], left.copy(), calibration.which.of_columns
    left[np.isin(of, list(told)).any(1)] = 0.0
    while left.max(initial=0.0) > 1.0:
        odd = of[left > 1.0]
        column = int(np.bincount(np.concatenate((odd[:, 0], odd[odd[:, 0] != odd[:, 1], 1]))).argmax())
        mine = (of == column).any(1)
        worst = int(np.where(mine, left, 0.0).argmax())
        said = f"{_evidence(worst, moments, calibration, names)}; {left[worst]:.3g} times what healthy logs reach"
        advice = (
            "no single fault explains it: the robot moved unlike the data, or the sensor is noisy, filtered or delayed"
        )
        found.append(Finding("unlike the data", (names[column],), said, advice))
        left[mine] = 0.0
    return found


def _outside(
    rows: np.ndarray, reference: Reference, calibration: Calibration, names: Sequence[str], told: set[int]
) -> list[Finding]:
    seen = np.concatenate(reference.episodes)
    low, high = seen.min(0), seen.max(0)
    room = np.maximum(
        np.where(calibration.units.moves, BEYOND, BEYOND_FIXED) * (high - low),
        1e-4 * np.maximum(1.0, np.abs(seen).max(0)),
    )
    share = ((rows < low - room) | (rows > high + room)).mean(0)
    return [
        Finding(
            "outside of what was seen", (names[i],),
            f"{share[i]:.0%} of the values lie outside of [{low[i]:.4g}, {high[i]:.4g}], from "
            f"{rows[:, i].min():.4g} to {rows[:, i].max():.4g}",
            "the policy has learnt nothing there: check frame and unit, or do not go there",
        )
        for i in np.flatnonzero(share > OFTEN).tolist()
        if i not in told
    ]  # fmt: skip


def _blind(moments: np.ndarray, calibration: Calibration, columns: Sequence[Column]) -> list[str]:
    """Return the single faults that would not have been noticed in this log."""
    units = calibration.units
    names, varies = [column.name for column in columns], np.flatnonzero(units.varies).tolist()

    def unseen(fault: Correction) -> bool:
        return calibration.distances(fault.applied(moments, units)).max(initial=0.0) <= 1.0

    found = [f"{names[i]} negated" for i in varies if unseen(Correction("negated", (i,), -1.0))]
    found += [f"{names[i]} in degrees" for i in varies if unseen(Correction("units", (i,), float(180 / np.pi)))]
    for n, i in enumerate(varies):
        found += [
            f"{names[i]} and {names[j]} swapped" for j in varies[n + 1 :] if unseen(Correction("swapped", (i, j)))
        ]
    still = [names[i] for i in np.flatnonzero(~units.varies).tolist()]
    return found + [f"anything about {name}, which is constant in the data, within its range" for name in still]
