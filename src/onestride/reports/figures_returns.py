"""Returns as figures: latency against return, and every single episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter
from matplotlib.transforms import Bbox

from onestride.evaluation.variant import RANKINGS, Variant
from onestride.files import CheckpointError
from onestride.reports.style import GREY, GRID, PAPER_GREY, STYLE, colour, dot
from onestride.reports.table import Row

#: ``Variant.ranking`` -> marker. The legend explains some of them.
MARKERS = {"iql": "o", "engine": "P", "int8": "X", "mixture": "p", "first": "D", "classifier": "s", "unselected": "v"}
NORMALISED = "normalised return"
EXPLAINED = ("iql", "mixture", "first", "classifier")


def pareto_figure(
    rows: Mapping[Variant, Row], paper: Mapping[Variant, Row], paper_label: str, worth: str = NORMALISED
) -> Figure:
    """Return mean decision latency [ms] against return, its bar the standard deviation over seeds.

    The line joins the rows that no other row beats in both. ``paper``: its own points, hollow and in grey. ``worth``:
    what the return is.
    """
    ours, theirs = _points(rows), _points(paper)
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 5.2), layout="constrained")
        panel = figure.subplots()
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(LogFormatter())
        panel.set_xlabel("time of one decision, mean [ms]")
        panel.set_ylabel(worth)
        panel.grid(axis="y", color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        for variant, (x, y, std) in theirs.items():
            bar: dict[str, Any] = {"color": PAPER_GREY, "markerfacecolor": "white", "markersize": 6, "linewidth": 0.8}
            panel.errorbar(x, y, std, fmt=_marker(variant), zorder=2, **bar)
        for variant, (x, y, std) in ours.items():
            bar = {"color": colour(variant.method), "markersize": 7.5, "linewidth": 1.3, "capsize": 2.5}
            bar["markeredgecolor"] = "white"
            panel.errorbar(x, y, std, fmt=_marker(variant), markeredgewidth=0.6, zorder=4, **bar)
        front = _front([(x, y) for x, y, _ in ours.values()])
        panel.plot(*zip(*front, strict=True), color="#444", linewidth=0.9, linestyle=":", zorder=1)
        panel.margins(x=0.16, y=0.1)
        drawn = [r for r in EXPLAINED if r in {variant.ranking for variant in (*ours, *theirs)}]
        handles = [dot(MARKERS[ranking], GREY, f"ranked by {RANKINGS[ranking]}") for ranking in drawn]
        handles.append(Line2D([], [], color="#444", linewidth=0.9, linestyle=":", label="not beaten in both"))
        if theirs:
            handles.append(dot("o", PAPER_GREY, paper_label, hollow=True))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
        named = [(point, v.label, colour(v.method), 8.5) for v, point in ours.items()]
        named += [(point, f"{v.label}, paper", PAPER_GREY, 7.5) for v, point in theirs.items()]
        _annotate(panel, named)
    return figure


def _marker(variant: Variant) -> str:
    return MARKERS.get(variant.ranking, "o")


def _points(rows: Mapping[Variant, Row]) -> dict[Variant, tuple[float, float, float]]:
    """Return latency [ms], return and its standard deviation, of the variants that have both."""
    found = {}
    for variant, row in rows.items():
        x, y = (row.get(metric, {}) for metric in ("decision_ms_mean", "return_normalised"))
        if x.get("mean") is not None and y.get("mean") is not None:
            found[variant] = (x["mean"], y["mean"], y.get("std") or 0.0)
    return found


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the steps between points that no other is faster and better than."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if not corners or y > corners[-1][1]:
            corners += [(x, corners[-1][1])] if corners else []
            corners.append((x, y))
    return corners


def _annotate(panel: Axes, named: Sequence[tuple[tuple[float, float, float], str, str, float]]) -> None:
    """A name beside every point ((x, y, std), name, colour, size), at the nearest place where nothing else stands.

    Where there is none, where least else stands.
    """
    figure = panel.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles the layout
    unit = figure.dpi / 72  # px per point
    taken: list[Bbox] = []
    for (x, y, std), *_ in named:
        (u, low), (_, middle), (_, high) = panel.transData.transform([(x, y - std), (x, y), (x, y + std)])
        taken.append(Bbox.from_extents(u - 5 * unit, middle - 5 * unit, u + 5 * unit, middle + 5 * unit))
        taken.append(Bbox.from_extents(u - 2 * unit, low, u + 2 * unit, high))
    around = [(np.cos(a), np.sin(a)) for a in np.deg2rad([0, 180, 25, -25, 155, -155, 50, -50, 130, -130, 90, -90])]
    for (x, y, _), name, shade, size in named:
        look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "left", "zorder": 5}
        text, tried = panel.annotate(name, (x, y), (8, 0), color=shade, fontsize=size, **look), []
        right = text.get_window_extent()  # as it lies right of its point; a box elsewhere is this one moved
        for distance, (dx, dy) in ((d, way) for d in (8, 15, 25, 36, 50, 66, 84, 104, 126) for way in around):
            side = "left" if dx > 0.1 else "right" if dx < -0.1 else "center"
            moved = unit * (distance * dx - 8) - right.width * {"left": 0, "center": 0.5, "right": 1}[side]
            box = right.translated(moved, unit * distance * dy)
            if panel.bbox.contains(box.x0, box.y0) and panel.bbox.contains(box.x1, box.y1):
                shared = _shared(box, taken)
                tried.append((shared, distance, (distance * dx, distance * dy), side, box))
                if not shared:
                    break
        if not tried:
            continue
        _, distance, at, side, box = min(tried, key=lambda each: each[:2])
        text.set(position=at, horizontalalignment=side)
        taken.append(box)
        if distance > 10:  # a line says whose name it is
            line = {"arrowstyle": "-", "color": shade, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            panel.annotate("", (x, y), at, textcoords="offset points", arrowprops=line)


def _shared(box: Bbox, others: Sequence[Bbox]) -> float:
    """Return the area that a box shares with others [px^2]."""
    low, high = (np.array([getattr(other, corner) for other in others]) for corner in ("min", "max"))  # (N, 2)
    sides = np.minimum(high, box.max) - np.maximum(low, box.min)
    return float(np.maximum(sides, 0).prod(1).sum())


def returns_figure(episodes: Mapping[Variant, Sequence[Mapping[str, Any]]], worth: str = NORMALISED) -> Figure:
    """Return every episode as a dot, a lane per seed: falls and bad seeds that a mean hides.

    episodes: their records, as in ``episodes.jsonl``. worth: what their return is.

    Raises:
        CheckpointError: there is no episode.
    """
    if not episodes:
        raise CheckpointError("there is no episode in episodes.jsonl: evaluate again")
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 0.31 * len(episodes) + 1.1), layout="constrained")
        panel = figure.subplots()
        for place, (variant, records) in enumerate(episodes.items()):
            seeds = sorted({r["seed"] for r in records})
            for lane, seed in enumerate(seeds):
                y = place + 0.62 * ((lane + 0.5) / len(seeds) - 0.5)
                mine = [r for r in records if r["seed"] == seed]
                values, fell = np.array([r["return_normalised"] for r in mine]), np.array([r["fell"] for r in mine])
                for chosen, look in ((~fell, {"marker": "o", "s": 13}), (fell, {"marker": "x", "s": 15})):
                    look |= {"linewidths": 0 if look["marker"] == "o" else 0.9, "color": colour(variant.method)}
                    panel.scatter(values[chosen], np.full(chosen.sum(), y), alpha=0.65, zorder=3, **look)
                panel.vlines(values.mean(), y - 0.13, y + 0.13, color="black", linewidth=1.2, zorder=4)
            if place % 2:
                panel.axhspan(place - 0.5, place + 0.5, color="#F5F6F8", linewidth=0, zorder=0)
        panel.set_ylim(len(episodes) - 0.5, -0.5)
        panel.set_yticks(range(len(episodes)), [variant.label for variant in episodes])
        for text, variant in zip(panel.get_yticklabels(), episodes, strict=True):
            usual = variant.row == variant.generator
            text.set(color=colour(variant.method), fontweight="bold" if usual else "normal")
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color=GRID, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.set_xlabel(f"{worth} of one episode; a lane per seed, its mean the black stroke")
        if any(r["fell"] for records in episodes.values() for r in records):
            handles = [dot("o", GREY, "all the way"), dot("x", GREY, "fell")]
            figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
