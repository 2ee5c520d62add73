"""Table VI of the KDP paper: one or eight actions of a plan are carried out before the next plan is made."""

from __future__ import annotations

from onestride.studies.kdp import HANDS, by_actions, study
from onestride.studies.kdp_table1 import SCORE
from onestride.studies.kdp_table3 import SUCCESS

CHUNKED = {"hands": tuple(name for name in HANDS if name != "adroit-door")}
STUDY = study(
    "kdp-table6", "one or eight actions of a plan", CHUNKED, by_actions, methods=("kdp",), columns=(SUCCESS, SCORE)
)
