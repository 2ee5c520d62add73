"""A soak test as a figure: decision times, jitter and memory over time, with the stalls that were injected."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onestride.latency.soak import Record, SoakConfig
from onestride.reports.style import FAILED, STYLE, colour


def soak_figure(record: Record, config: SoakConfig, title: str) -> Figure:
    """Return every decision and every tick as a point; beside them, how they are distributed (logarithmic counts)."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 6.2), layout="constrained")
        grid = figure.subplots(3, 2, width_ratios=(4, 1), sharex="col")
        figure.suptitle(f"{title}: {record.ticks} ticks at {config.rate:g} Hz", fontsize=11, fontweight="bold")
        period = 1e3 / config.rate
        when, took = record.decision_times.rows.T
        _points(grid[0, 0], grid[0, 1], when, 1e3 * took, colour("dnk"), "decision [ms]", period)
        when, lateness = record.tick_jitter.rows.T
        _points(grid[1, 0], grid[1, 1], when, 1e3 * np.abs(lateness), colour("teacher"), "jitter [ms]", period)
        when, resident = record.memory.rows.T
        grid[2, 0].plot(when, resident, color=colour("kdm"), linewidth=1.3)
        grid[2, 0].set_ylabel("memory [MB]")
        known = resident[np.isfinite(resident)]
        if len(known):  # a scale on which one percent is seen, and noise is not
            middle = float(np.median(known))
            grid[2, 0].set_ylim(min(0.98 * middle, known.min()), max(1.02 * middle, known.max()))
        grid[2, 0].set_xlabel("time [s]")
        grid[2, 1].set_axis_off()
        grid[1, 1].tick_params(labelbottom=True)
        grid[1, 1].set_xlabel("count")
        for panel in grid[:, 0]:
            for k, moment in enumerate(record.stalls):
                panel.axvline(moment, color=FAILED, linewidth=0.6, alpha=0.35, label=None if k else "stall injected")
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _points(panel: Axes, beside: Axes, when: np.ndarray, ms: np.ndarray, colour: str, name: str, period: float) -> None:
    """Values over time on a logarithmic axis, their histogram beside, and the control period as a line."""
    shown = np.maximum(ms, 1e-3)  # a microsecond: below it no clock is believed
    panel.plot(when, shown, ".", color=colour, markersize=1.5, alpha=0.5, rasterized=True)
    panel.set_yscale("log")
    panel.set_ylabel(name)
    panel.axhline(period, color="black", linewidth=1.0, label="control period")
    low, high = min(shown.min(initial=period), period) / 1.4, max(shown.max(initial=period), period) * 1.4
    panel.set_ylim(low, high)
    bins = np.geomspace(low, high, 60)
    beside.hist(shown, bins=bins, orientation="horizontal", color=colour, alpha=0.75)
    beside.set(yscale="log", xscale="log", ylim=(low, high))
    beside.axhline(period, color="black", linewidth=1.0)
    beside.tick_params(labelleft=False)
