"""Table II of the KDP paper: what one decision costs, by method and number of candidates."""

from __future__ import annotations

from onestride.reports.table import Column
from onestride.studies.kdp import study, timed

COLUMNS = (
    Column("planning_ms_p50", "planning p50", "ms", 3, spread=False),
    Column("end_to_end_ms_p50", "end to end p50", "ms", 3, spread=False),
    Column("speed_up_over_teacher", "times faster than Diffuser", digits=1, spread=False),
    Column("nfe", "network calls", digits=0, spread=False),
    Column("batch_equivalent", "forwards of one candidate", digits=1, spread=False),
    Column("decision_ms_p50", "decision p50", "ms", 3, spread=False),
)
TIMED = {"a body": ("halfcheetah-medium-expert", "hopper-medium-expert"), "a maze": ("pointmaze-large",)}
STUDY = study("kdp-table2", "what a decision costs", TIMED, timed, methods=("kdp",), columns=COLUMNS, against="")
