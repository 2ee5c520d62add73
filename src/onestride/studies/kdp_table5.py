"""Table V of the KDP paper: hands. Scores as D4RL prints them."""

from __future__ import annotations

from onestride.reports.table import Column
from onestride.studies.kdp import HANDS, compared, study
from onestride.studies.kdp_table1 import SCORE

COLUMNS = (
    SCORE,
    Column("success", "success", digits=0, kind="percent", spread=False),
    Column("decision_ms_mean", "latency", "ms", 1, spread=False),
)
MEANS = (Column("nfe", "network calls", digits=0),)
STUDY = study("kdp-table5", "hands", {"hands": HANDS}, compared, columns=COLUMNS, means=MEANS)
