"""Figure 4 of the OneDP paper: how soon OneDP and Consistency Policy are as good as their EDM teacher.

Each point is a training of its own with its whole schedule, so that every planner that is evaluated is a final one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from onestride.evaluation.variant import Variant
from onestride.reports.style import GREY, GRID, STYLE, colour, label
from onestride.reports.table import variants
from onestride.runs.presets.onedp import SHARE, lasting
from onestride.studies.ablations import Setting, entries
from onestride.studies.onedp import CHUNKS, COLUMNS, COST, evaluated, of_teacher, study
from onestride.studies.onedp_table2 import EDM, OF_EDM, TIMES
from onestride.studies.study import Job, Outcome, Study

#: Of OneDP's usual number of updates.
ONEDP_TIMES, CP_TIMES = (0.25, 0.5, 1.0, 2.0), (1.0, 5.0, 10.0, float(TIMES))
FIGURE = "convergence.png"


def after(times: float, share: float = 1.0, name: str = "", **changes: Any) -> Setting:
    """Return a setting whose training is so many times as long as OneDP's usual one.

    share: of the method's own training that OneDP's is. changes: as ``Setting`` has them.
    """
    label = f"{times:g} times"
    return Setting(
        f"{name}{label.replace(' ', '-')}", label, training=lambda training: lasting(training, times * share), **changes
    )


def compared(study: Study, job: Job) -> Outcome:
    """Train OneDP-S and Consistency Policy for longer and longer, and evaluate each at its end."""
    onedp = [after(times, name=f"{OF_EDM.name}-", student=OF_EDM.student) for times in ONEDP_TIMES]
    whole = study.preset(job.dataset, job.budget)
    made = entries(job.run, onedp, ("onedp-s",), whole)
    made += entries(job.run, [after(times, SHARE) for times in CP_TIMES], ("cp",), whole)
    return evaluated(study, job, [*of_teacher(job, EDM, (None,)), *made], {FIGURE: figure})


def figure(comparison: dict[str, Any]) -> Figure:
    """Return what is earned over updates and over time, unranked; the teacher is a line. A dot is a training seed."""
    rows = comparison["rows"]
    metric = next(column.metric for column in COLUMNS if any(column.metric in row for row in rows.values()))
    unranked = {name: variant for name, variant in variants(rows).items() if variant.selector == "none"}
    with rc_context(STYLE):
        made = Figure(figsize=(8, 3), layout="constrained")
        for panel, cost in zip(made.subplots(1, 2, sharey=True), COST, strict=True):
            for method in ("onedp-s", "cp"):
                mine = sorted(
                    (rows[name] for name, v in unranked.items() if v.method == method and v.steps is None),
                    key=lambda row: row[cost.metric]["mean"],
                )
                for row in mine:
                    values = row[metric]["per_seed"]
                    panel.plot(
                        np.full(len(values), row[cost.metric]["mean"]), values, ".", color=colour(method), alpha=0.45,
                        markeredgewidth=0,
                    )  # fmt: skip
                panel.plot(
                    [row[cost.metric]["mean"] for row in mine], [row[metric]["mean"] for row in mine], "o-",
                    color=colour(method), markersize=4, label=label(method),
                )  # fmt: skip
            teacher = rows[Variant(method=EDM, selector="none").row][metric]["mean"]
            panel.axhline(teacher, color=GREY, linewidth=1, linestyle=":", label="EDM teacher")
            panel.set_xscale("log")
            panel.grid(axis="y", color=GRID, linewidth=0.6)
            panel.set_xlabel(cost.heading if not cost.unit else f"{cost.heading} [{cost.unit}]")
        made.axes[0].set_ylabel(metric.replace("_", " "))
        made.axes[0].legend(fontsize=8)
    return made


STUDY = study(
    "onedp-convergence", "how soon OneDP and Consistency Policy are as good as their teacher", {"chunks": CHUNKS},
    compared, methods=(EDM,), columns=(*COLUMNS, *COST), against=EDM,
)  # fmt: skip
