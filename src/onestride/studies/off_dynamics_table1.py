"""Table I of the off-dynamics paper: nine bodies with one property changed, and 10,000 steps of each."""

from __future__ import annotations

from onestride.studies.off_dynamics import FAMILIES, compared, study

ROWS = ("source-diffuser", "return-diffuser", "finetuned-diffuser", "joint-diffuser", "off-dynamics")
STUDY = study(
    "off-dynamics-table1", "one property of a body changed, 10,000 steps of it", FAMILIES, compared(ROWS),
    methods=ROWS[1:],
)  # fmt: skip
