"""The knob at run time: returns over the dynamics that are asked for, at three masses, of planner and student.

What is asked for beside it: a return of 1, and the inverse error that goes with the knob (``off_dynamics_masses.py``).
"""

from __future__ import annotations

from onestride.runs.contexts import columns_of
from onestride.studies.off_dynamics import RAW, asking, elsewhere, planners, study
from onestride.studies.off_dynamics_masses import HOME, task_of_mass
from onestride.studies.study import Job, Outcome, Study

MASSES = (7, 10, 14)  # [kg]
SETTINGS = (-1.0, 0.0, 1.0)
ROWS = ("off-dynamics", "dnk", "onedp-s")
EPISODES = 20


def evaluated(study: Study, job: Job) -> Outcome:
    """Evaluate both, asked for each setting, in a body of the data set's mass."""
    run = job.run_of(HOME)
    of_source = float(columns_of(run)["source.inverse"].mean())
    entries = [
        asking(entry, dynamics=setting, inverse=(1 - setting) / 2 * of_source)
        for entry in planners(run, ROWS)
        for setting in SETTINGS
    ]
    return elsewhere(study, job, entries, EPISODES)


STUDY = study(
    "off-dynamics-knob", "the dynamics that are asked for, at three masses",
    {"masses": tuple(map(task_of_mass, MASSES))},
    evaluated, methods=ROWS, home=HOME, columns=(RAW,),
)  # fmt: skip
