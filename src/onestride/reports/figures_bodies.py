"""Figures of a body that changed: how well two bodies are told apart, and returns over the mass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from onestride.reports.style import GREY, GRID, STYLE, colour, label
from onestride.runs.contexts import Steps, columns_of, load_contexts
from onestride.runs.run import CONTEXTS, DATA, SOURCE, material_of, task_of

OWN, OTHER = "#D55E00", "#0072B2"  # the target's, the source's
BINS = 10


def contexts_figure(run: Path) -> Figure:
    """Return how a run's windows were scored, and whether the classifiers' probabilities are true.

    Target transitions are scored by classifiers that have not seen them; both bodies weigh the same.
    """
    columns = columns_of(run)
    p, own = probabilities(run)
    said, found, error = reliability(p, own)
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 2.7), layout="constrained")
        scored, inverse, calibrated = figure.subplots(1, 3)
        for panel, name, bounds in ((scored, "dynamics", (-1, 1)), (inverse, "inverse", (0, 1))):
            for of, shade, text in ((SOURCE, OTHER, "source"), (DATA, OWN, "target")):
                values = columns[f"{of}.{name}"].numpy()
                panel.hist(values, 40, bounds, weights=np.full(len(values), 1 / len(values)), color=shade, alpha=0.6,
                           label=text)  # fmt: skip
            panel.set_yscale("log")
            panel.set_xlabel(f"{name} of a window")
        scored.set_ylabel("share of windows")
        scored.legend(fontsize=8)
        calibrated.plot((0, 1), (0, 1), color=GRID)
        calibrated.plot(said, found, marker="o", markersize=4, color=GREY)
        calibrated.set(xlabel="said: it is the target's", ylabel="it was", xlim=(0, 1), ylim=(0, 1))
        calibrated.set_title(f"calibration error {error:.3f}")
    return figure


@torch.inference_mode()
def probabilities(run: Path) -> tuple[Tensor, Tensor]:
    """Return every transition's probability of being the target's (M,), and whether it is (M,)."""
    model, task = load_contexts(run / CONTEXTS), task_of(run)
    found = []
    for of in (DATA, SOURCE):
        source = material_of(run, task, of).window_source
        steps = Steps.of(source, model, model.config.folds, of == DATA)
        found.append(model.log_odds(steps.inputs, steps.fold).sigmoid())
    own = torch.cat((torch.ones(len(found[0])), torch.zeros(len(found[1]))))
    return torch.cat(found), own.bool()


def reliability(p: Tensor, own: Tensor) -> tuple[np.ndarray, np.ndarray, float]:
    """Return, by bins of the probability p (M,) that was said, its mean and the share that was True, and their error.

    True and False rows weigh the same as wholes. The error is the mean distance of the two, over what was said.
    """
    weight = torch.where(own, 0.5 / own.sum().clamp(min=1), 0.5 / (~own).sum().clamp(min=1)).double()
    place = (p * BINS).long().clamp(max=BINS - 1)
    total = torch.zeros(BINS).double().index_add(0, place, weight)
    said = torch.zeros(BINS).double().index_add(0, place, weight * p.double())
    found = torch.zeros(BINS).double().index_add(0, place, weight * own.double())
    there = total > 0
    said, found, total = said[there] / total[there], found[there] / total[there], total[there]
    return said.numpy(), found.numpy(), float((total * (said - found).abs()).sum() / total.sum())


def masses_figure(returns: Mapping[str, Mapping[float, tuple[float, float]]], learnt: tuple[float, ...]) -> Figure:
    """Return returns over the mass of a body: a line per planner.

    Args:
        returns: by method and mass [kg], mean and standard deviation over episodes.
        learnt: masses of which there are data [kg].
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        panel = figure.subplots()
        for mass in learnt:
            panel.axvline(mass, color=GRID, zorder=0)
        for method, by_mass in returns.items():
            at = sorted(by_mass)
            mean, spread = (np.array([by_mass[mass][i] for mass in at]) for i in (0, 1))
            panel.plot(at, mean, marker="o", markersize=4, color=colour(method), label=label(method))
            panel.fill_between(at, mean - spread, mean + spread, color=colour(method), alpha=0.12, linewidth=0)
        panel.set(xlabel="mass of the body [kg]; lines: masses of the data", ylabel="return of an episode")
        panel.legend(fontsize=8)
    return figure
