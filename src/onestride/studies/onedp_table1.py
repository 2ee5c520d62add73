"""Table 1 of the OneDP paper: Diffusion Policy by 100, 10 and 1 steps, and one-step policies distilled of it."""

from __future__ import annotations

from onestride.studies.onedp import CHUNKS, COLUMNS, MEANS, compared, study

#: Beside OneDP: DNK from the teacher's pairs; Consistency Policy, from an EDM teacher; and three without a teacher.
METHODS = ("onedp-s", "onedp-d", "dnk", "edm", "cp", "kdp", "meanflow", "mip")
STUDY = study(
    "onedp-table1", "Diffusion Policy and what is distilled of it", {"chunks": CHUNKS}, compared, methods=METHODS,
    columns=COLUMNS, means=MEANS,
)  # fmt: skip
