"""Table I of the KDP paper: returns on six locomotion data sets, as D4RL prints them."""

from __future__ import annotations

from onestride.reports.table import Column
from onestride.studies.kdp import LOCOMOTION, compared, study

SCORE = Column("return_normalised", "return x 100", digits=1, kind="score")
MEANS = (Column("nfe", "network calls", digits=0), Column("decision_ms_mean", "latency", "ms", spread=False))
STUDY = study(
    "kdp-table1", "returns on locomotion data", {"locomotion": LOCOMOTION}, compared, columns=(SCORE,), means=MEANS
)
