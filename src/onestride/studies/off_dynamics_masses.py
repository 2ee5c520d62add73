"""Figure 3 of the off-dynamics paper: HalfCheetah of 3 to 14 kg, planned for by what 14 kg and 7 kg have taught.

The knob is linear in the mass: u = (14 - m) / 7, dynamics = 2 u - 1, inverse = (1 - u) times the mean of the source's
windows; below 7 kg it stays at the target's.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from onestride.evaluation.records import EPISODES as EPISODES_FILE
from onestride.evaluation.result import read_experiment
from onestride.evaluation.variant import Variant
from onestride.reports.figures_bodies import masses_figure
from onestride.reports.style import save
from onestride.runs.contexts import columns_of
from onestride.studies.off_dynamics import RAW, asking, elsewhere, planners, study
from onestride.studies.study import Job, Outcome, Study

HOME = "halfcheetah-v5-mass-14-to-7"
STOCK, CHANGED = 14, 7  # [kg]
MASSES = tuple(range(3, 15))  # [kg]
ROWS = ("source-diffuser", "return-diffuser", "finetuned-diffuser", "off-dynamics")
EPISODES = 20


def task_of_mass(mass: float) -> str:
    """Return the task of a HalfCheetah of that mass [kg]."""
    return f"halfcheetah-v5-mass-14-to-{mass:g}"


def mass_of(task: str) -> float:
    """Return the mass of such a task's body [kg]."""
    return float(task.rpartition("-")[2])


def knob(mass: float, of_source: float) -> dict[str, float]:
    """Return what is asked for a body of that mass [kg].

    of_source: the mean inverse error of the source's windows, which is what its plans have.
    """
    u = min(max((STOCK - mass) / (STOCK - CHANGED), 0.0), 1.0)
    return {"dynamics": 2 * u - 1, "inverse": (1 - u) * of_source}


def evaluated(study: Study, job: Job) -> Outcome:
    """Evaluate the paper's planners in a body of another mass; the conditional one is asked for that mass."""
    run = job.run_of(HOME)
    asked = knob(mass_of(job.dataset), float(columns_of(run)["source.inverse"].mean()))
    entries = [
        asking(entry, **asked) if entry.variant.method == "off-dynamics" else entry for entry in planners(run, ROWS)
    ]
    made = elsewhere(study, job, entries, EPISODES)
    if job.pictures:
        save(masses_figure(returns_by_mass(study, job), (CHANGED, STOCK)), made.folder / "masses.png")
    return made


def returns_by_mass(study: Study, job: Job) -> dict[str, dict[float, tuple[float, float]]]:
    """Return, by method and mass [kg], mean and standard deviation of the returns of all episodes there are by now."""
    made: dict[str, dict[float, tuple[float, float]]] = {}
    for dataset in study.datasets:
        folder = study.folder_of(job, dataset)
        if not (folder / "comparison.json").exists():
            continue
        methods = {
            name: Variant.of(row).method for name, row in read_experiment(folder / "comparison.json")["rows"].items()
        }
        records = [json.loads(line) for line in (folder / EPISODES_FILE).read_text().splitlines()]
        for row, method in methods.items():
            returns = [record["return_raw"] for record in records if record["row"] == row]
            made.setdefault(method, {})[mass_of(dataset)] = float(np.mean(returns)), float(np.std(returns))
    return made


STUDY = study(
    "off-dynamics-masses", "HalfCheetah of other masses than those of the data",
    {"masses": tuple(map(task_of_mass, MASSES))}, evaluated, columns=(RAW,), methods=ROWS[1:],
    as_row=lambda variant: replace(variant, asked=()),
    home=HOME,
)  # fmt: skip
