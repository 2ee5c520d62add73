"""Table IV of the KDP paper: keyed drifting with one piece taken away at a time, in both of its forms."""

from __future__ import annotations

from onestride.reports.table import Column
from onestride.studies.kdp import LOCOMOTION, POINT_MAZES, ablated, study
from onestride.studies.kdp_table1 import SCORE

SPREAD = Column("action_spread", "spread of first actions", digits=3)
FAMILIES = {"locomotion": LOCOMOTION, "point mazes": POINT_MAZES, "all": LOCOMOTION + POINT_MAZES}
STUDY = study(
    "kdp-table4", "keyed drifting with one piece taken away", FAMILIES, ablated, methods=("kdp", "kdp-paper"),
    columns=(SCORE,), means=(SPREAD,), against="",
)  # fmt: skip
