"""One look for every figure, film and table: matplotlib's settings, and the label and colour of each method.

Colours are safe for colour-blind readers: one per method (Okabe-Ito), viridis for scores. A figure is 8 inches wide,
which ``save`` makes 1600 px.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from onestride.evaluation.variant import METHODS
from onestride.files import write_atomically

#: The methods, in the order of every table and figure, and what a reader calls them.
LABELS = METHODS
COLOURS = {
    "teacher": "#0072B2", "dnk": "#D55E00", "kdm": "#009E73", "kdm-f": "#CC79A7", "mlp": "#7F6000", "cd": "#E69F00",
    "ct": "#56B4E9", "bc": "#666666", "iql-policy": "#882255", "fql": "#44AA99",
}  # fmt: skip
GREY, GRID, PAPER_GREY = "#555", "#E6E8EC", "#8C939E"
CHOSEN, OBSTACLE, ARRIVED, FAILED = "#111111", "#B9BEC6", "#00694D", "#8A3B00"
SCORES = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.93, 256)))  # its last yellow is hard to see on white

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelcolor": "#333",
    "axes.edgecolor": "#888",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#555",
    "ytick.color": "#555",
    "legend.frameon": False,
    "figure.dpi": 200,
}


def label(method: str) -> str:
    """Return what a reader calls a method: the name itself, if it is none of ``LABELS``."""
    return LABELS.get(method, method)


def colour(method: str) -> str:
    """Return the colour of a method: grey, if it is none of ``COLOURS``."""
    return COLOURS.get(method, GREY)


def ordered(methods: Iterable[str]) -> list[str]:
    """Return methods in the order of ``LABELS``, then the others by name."""
    order = list(LABELS)
    return sorted(methods, key=lambda method: (order.index(method) if method in order else len(order), method))


def dot(marker: str, shade: str, name: str, hollow: bool = False) -> Line2D:
    """Return a legend's entry for points."""
    face = "white" if hollow else shade
    return Line2D([], [], marker=marker, color=shade, markerfacecolor=face, linestyle="none", markersize=6, label=name)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, 200 px per inch."""
    write_atomically(path, lambda p: figure.savefig(p, format="png", facecolor="white"))
