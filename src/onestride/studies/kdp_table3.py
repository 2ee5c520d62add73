"""Table III of the KDP paper: goals in mazes, by a point and by an ant."""

from __future__ import annotations

from dataclasses import replace

from onestride.evaluation.variant import Variant
from onestride.reports.table import Column
from onestride.runs.run import task_of
from onestride.studies.kdp import ANT_MAZES, POINT_MAZES, by_actions, study
from onestride.studies.study import Job, Outcome, Study

SUCCESS = Column("success", "reached the goal", digits=1, kind="percent", spread=False)
COLUMNS = (
    SUCCESS,
    Column("steps_to_goal", "steps to the goal", digits=0, spread=False),
    Column("other_way", "of several ways, not the shortest", digits=1, kind="percent", spread=False),
    Column("maze2d_score", "Maze2D's score x 100", digits=1, kind="score", spread=False),
)
MEANS = (Column("decision_ms_mean", "latency", "ms", 1), Column("nfe", "network calls", digits=0))


def replanned(study: Study, job: Job) -> Outcome:
    """Evaluate planners that plan anew at every step, and after an eighth of each plan."""
    return by_actions(study, job, (1, max(task_of(job.run).control.horizon // 8, 2)))


def by_part(variant: Variant) -> Variant:
    """Return a row that all mazes share: after an eighth of a plan, which is another number of actions in each."""
    return variant if variant.actions in (None, 1) else replace(variant, actions=None, setting="an eighth of its plan")


STUDY = study(
    "kdp-table3", "goals in mazes", {"point mazes": POINT_MAZES, "ant mazes": ANT_MAZES}, replanned,
    columns=COLUMNS, means=MEANS, as_row=by_part,
)  # fmt: skip
