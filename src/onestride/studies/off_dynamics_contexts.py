"""Figure 2 of the off-dynamics paper: what each context adds to a planner that is asked for a return alone."""

from __future__ import annotations

from onestride.studies.off_dynamics import FAMILIES, compared, study

ROWS = (
    "joint-diffuser", "labelled-diffuser", "off-dynamics-score", "off-dynamics-inverse-action", "off-dynamics",
)  # fmt: skip
STUDY = study(
    "off-dynamics-contexts", "what each context adds: return, label or score, inverse error or action", FAMILIES,
    compared(ROWS), methods=ROWS,
)  # fmt: skip
