"""Table 2 of the OneDP paper: an EDM teacher by fewer and fewer calls, Consistency Policy at two budgets, and OneDP.

OneDP's students have a tenth of their teacher's updates, Consistency Policy as many and twenty times as many. All is in
the run of Table 1, whose students are of its DDPM teacher.
"""

from __future__ import annotations

from dataclasses import replace

from onestride.runs.presets.onedp import SHARE, STUDENTS, lasting
from onestride.studies.ablations import Setting, entries
from onestride.studies.onedp import CHUNKS, COLUMNS, COST, MEANS, evaluated, of_teacher, study
from onestride.studies.study import Job, Outcome, Study

EDM = "edm"
#: Of Heun's method: 35 network calls are the teacher's own 18 steps; these are 19 and 1.
STEPS = (10, 1)
#: Network calls of Consistency Policy beside its one.
CALLS = 3
TIMES = 20
OF_EDM = Setting("of-edm", "of the EDM teacher", lambda student: replace(student, teacher=EDM))
SHORT = Setting("short", "as long as OneDP", training=lambda training: lasting(training, SHARE))
LONG = Setting("long", "20 times as long", training=lambda training: lasting(training, TIMES * SHARE))


def compared(study: Study, job: Job) -> Outcome:
    """Train what the paper's rows are of, and evaluate it."""
    whole = study.preset(job.dataset, job.budget)
    own = whole.stage(EDM).complete().config.steps
    students = entries(job.run, (OF_EDM,), STUDENTS, whole)
    policy = entries(job.run, (SHORT, LONG), ("cp",), whole)
    longest = (each for each in policy if each.variant.setting == LONG.name)
    often = [replace(each, variant=replace(each.variant, steps=CALLS)) for each in longest]
    teacher = of_teacher(job, EDM, (None, *(steps for steps in STEPS if steps < own)))
    return evaluated(study, job, [*teacher, *policy, *often, *students])


STUDY = study(
    "onedp-table2", "an EDM teacher, Consistency Policy and OneDP", {"chunks": CHUNKS}, compared, methods=(EDM,),
    columns=(*COLUMNS, COST[0]), means=MEANS[:1], against=EDM,
)  # fmt: skip
