"""Table VII of the KDP paper: a quadrotor and an arm on wall time, which goes on while a planner decides."""

from __future__ import annotations

from onestride.reports.table import Column
from onestride.studies.kdp import on_wall_time, study
from onestride.studies.kdp_table3 import SUCCESS

COLUMNS = (
    SUCCESS,
    Column("completion_time_s_p50", "median time to success", "s", 1, spread=False),
    Column("control_hz", "replanned", "Hz", 1, spread=False),
    Column("decision_ms_p50", "planner p50", "ms", 1, spread=False),
    Column("end_to_end_ms_p50", "end to end p50", "ms", 1, spread=False),
)
FLOWN = 1.5  # hours that fifty trials of some twenty rows take on wall time
STUDY = study(
    "kdp-table7", "a quadrotor and an arm on wall time",
    {"quadrotor": ("quadrotor",), "arm": ("cube-single", "cube-double")}, on_wall_time, columns=COLUMNS,
    hours=lambda preset: preset.hours + FLOWN,
)  # fmt: skip
