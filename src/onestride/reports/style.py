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

from onestride.evaluation.variant import method_of, place
from onestride.files import write_atomically
from onestride.methods import METHODS

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
    """Return what a reader calls a method: the name itself, if it is none of ``METHODS``."""
    known = method_of(method)
    return method if known is None else known.label


def colour(method: str) -> str:
    """Return the colour of a method: grey, if it has none of its own."""
    known = method_of(method)
    return GREY if known is None or known.colour is None else known.colour


def method_colours() -> list[str]:
    """Return the colours that methods have, each once, in the order of ``METHODS``."""
    shades = (each().colour for each in METHODS.values())
    return list(dict.fromkeys(shade for shade in shades if shade is not None))


def ordered(methods: Iterable[str]) -> list[str]:
    """Return methods in the order of ``METHODS``, then the others by name."""
    return sorted(methods, key=lambda method: (place(method), method))


def dot(marker: str, shade: str, name: str, hollow: bool = False) -> Line2D:
    """Return a legend's entry for points."""
    face = "white" if hollow else shade
    return Line2D([], [], marker=marker, color=shade, markerfacecolor=face, linestyle="none", markersize=6, label=name)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, 200 px per inch."""
    write_atomically(path, lambda p: figure.savefig(p, format="png", facecolor="white"))
