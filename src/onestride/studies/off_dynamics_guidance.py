"""How strongly a planner is guided to what it is asked for, beside the best planner that is asked for a return alone.

The paper's weight is 0.9. Which others are worth a row was seen on other starts than these.
"""

from __future__ import annotations

from dataclasses import replace

from onestride.evaluation.evaluate import evaluate
from onestride.runs.settings import ReturnsConfig
from onestride.studies.kdp import outcome
from onestride.studies.off_dynamics import FAMILIES, planners, study
from onestride.studies.study import Job, Outcome, Study

WEIGHTS = (0.0, 0.9, 2.0, 4.0)
ROWS = ("finetuned-diffuser", "off-dynamics")


def evaluated(study: Study, job: Job) -> Outcome:
    """Evaluate both planners with every weight."""
    config = job.preset.evaluate
    assert isinstance(config, ReturnsConfig)
    entries = [
        replace(entry, variant=replace(entry.variant, weight=weight))
        for entry in planners(job.run, ROWS)
        for weight in WEIGHTS
    ]
    folder = evaluate(job.run, config, job.command, job.device, name=study.name, entries=entries)
    return outcome(study, job, folder)


STUDY = study(
    "off-dynamics-guidance", "the weight of guidance", FAMILIES, evaluated, methods=ROWS,
)  # fmt: skip
