"""The ablations of the OneDP paper (Figure 10 and its t_init), and stochastic against deterministic students.

Rates are times those of the preset: the paper's own are of networks twenty times as large.
"""

from __future__ import annotations

from dataclasses import replace

from onestride.reports.table import Column
from onestride.runs.presets.onedp import STUDENTS
from onestride.studies.ablations import Setting, entries
from onestride.studies.onedp import CHUNKS, COLUMNS, evaluated, study
from onestride.studies.study import Job, Outcome, Study

T_INIT = (30, 50, 80, 95)  # beside 65, which is the preset's
RATES = (0.1, 10.0)
SPREAD = Column("action_spread", "spread of first actions", digits=3)


def changed(name: str, label: str, **times: float) -> Setting:
    """Return a setting that multiplies numbers of OneDP's configuration, by their names."""
    return Setting(name, label, lambda of: replace(of, **{key: by * getattr(of, key) for key, by in times.items()}))


SETTINGS = (
    Setting("", "OneDP, whole"),
    *(Setting(f"t-init-{t}", f"t_init {t}", lambda of, t=t: replace(of, t_init=t)) for t in T_INIT),
    *(changed(f"score-rate-{by:g}", f"score network's rate times {by:g}", score_learning_rate=by) for by in RATES),
    *(changed(f"rate-{by:g}", f"generator's rate times {by:g}", learning_rate=by) for by in RATES),
    Setting("beta1", "Adam with β₁ 0.9", lambda student: replace(student, beta1=0.9)),
)


def ablated(study: Study, job: Job) -> Outcome:
    """Train OneDP-S in every setting, OneDP-D in the preset's alone, and evaluate them."""
    stochastic, deterministic = STUDENTS
    made = entries(job.run, SETTINGS, (stochastic,), job.preset)
    return evaluated(study, job, [*made, *entries(job.run, SETTINGS[:1], (deterministic,), job.preset)])


STUDY = study(
    "onedp-ablations", "OneDP with one number changed at a time", {"chunks": CHUNKS}, ablated, methods=STUDENTS,
    columns=(*COLUMNS, SPREAD), against="",
)  # fmt: skip
