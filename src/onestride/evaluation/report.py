"""An evaluation as tables: Markdown for documents, cells for the page, a narrow one for the terminal.

Every number comes from ``comparison.json``; none is typed. The paper's own numbers, for comparison, stand in
rows of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from onestride.reports.style import label, ordered

UNDEFINED = "–"  # noqa: RUF001 - an en dash: this metric has no value here
PAPER = "paper, its own robot and machine"

Row = Mapping[str, Mapping[str, Any]]  # metric -> {"mean", "std", "n", "per_seed"}

#: Table II of the DNK paper (mean, std), from its own robot and computer, at its own control period.
PAPER_ROWS: dict[str, dict[str, dict[str, float]]] = {
    row: {metric: {"mean": mean, "std": std} for metric, (mean, std) in values.items()}
    for row, values in {
        "teacher": {
            "completion": (1.0, 0.0),
            "success": (1.0, 0.0),
            "completion_time_s": (314.95, 3.54),
            "executed_steps": (25195.62, 283.24),
            "decision_ms_mean": (151.00, 3.73),
            "decision_ms_p95": (158.27, 3.78),
            "terminal_error_mm": (3.09, 1.42),
            "min_clearance_mm": (46.29, 12.91),
            "control_hz": (80.005, 0.025),
            "overrun_ratio": (0.5013, 0.0251),
        },
        "dnk": {
            "completion": (1.0, 0.0),
            "success": (1.0, 0.0),
            "completion_time_s": (85.43, 2.53),
            "executed_steps": (6834.24, 202.67),
            "decision_ms_mean": (4.08, 0.20),
            "decision_ms_p95": (4.73, 0.23),
            "terminal_error_mm": (3.46, 1.75),
            "min_clearance_mm": (48.95, 12.12),
            "control_hz": (79.999, 0.019),
            "overrun_ratio": (0.5020, 0.0245),
        },
    }.items()
}


# --- cells -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A metric as it is shown: its heading, and its value as text."""

    metric: str
    heading: str
    digits: int = 2
    percent: bool = False
    yes_or_no: bool = False  # of each trial: a standard deviation would say nothing that the mean does not

    def cell(self, row: Row) -> str:
        """Return 'mean ± std'; of one value there is no spread: 'mean ± –'."""
        found = row.get(self.metric, {})
        mean, std = found.get("mean"), found.get("std")
        if mean is None:
            return UNDEFINED
        scale, unit = (100, " %") if self.percent else (1, "")
        numbers = [mean] if std is None or self.yes_or_no else [mean, std]
        shown = [f"{scale * number:.{self.digits}f}" for number in numbers]
        if len(shown) > 1 and found.get("n") == 1:
            shown[1] = UNDEFINED
        return " ± ".join(shown) + unit


COMPLETION = Column("completion", "completion", digits=1, percent=True)
SUCCESS = Column("success", "success", digits=1, percent=True, yes_or_no=True)
DURATION = Column("completion_time_s", "completion time [s]")
INFERENCE = Column("decision_ms_mean", "inference [ms]")
INFERENCE_P95 = Column("decision_ms_p95", "p95 [ms]")
TERMINAL = Column("terminal_error_mm", "terminal error [mm]")
CLEARANCE = Column("min_clearance_mm", "clearance, path [mm]")
CLEARANCE_ARM = Column("min_clearance_arm_mm", "clearance, arm [mm]")
RATE = Column("control_hz", "measured rate [Hz]", digits=3)
OVERRUNS = Column("overrun_ratio", "overrun ratio", digits=4)
SPREAD = Column("candidate_spread_mm", "candidate spread [mm]", digits=1)
DISTANCE = Column("teacher_distance_mm", "distance from the teacher's path [mm]", digits=1)
SIDES = Column("side_distance_from_teacher", "sides' distance from the teacher's")
FREE = Column("candidates_free", "candidates free of collision", digits=0, percent=True)
BOTH_SIDES = Column("both_sides_used", "both sides used", digits=0, percent=True, yes_or_no=True)
OUTCOME = (COMPLETION, SUCCESS, DURATION, Column("executed_steps", "executed steps"))
CONTROL = (TERMINAL, CLEARANCE, CLEARANCE_ARM, RATE, OVERRUNS)


def means(row: Row) -> Row:
    return {metric: {"mean": value.get("mean")} for metric, value in row.items()}


def speed_up(row: Row, teacher: Row) -> float | None:
    """How many times faster than the teacher a decision is, on average; None where either was not measured."""
    ours, theirs = (r.get("decision_ms_mean", {}).get("mean") for r in (row, teacher))
    return theirs / ours if ours and theirs else None


def _speed_up_cell(row: Row, teacher: Row) -> str:
    ratio = speed_up(row, teacher)
    return UNDEFINED if ratio is None else f"{ratio:.1f}x"


def _method_cells(name: str, row: Row, teacher: Row) -> list[str]:
    timing = [INFERENCE.cell(row), INFERENCE_P95.cell(row), _speed_up_cell(row, teacher)]
    return [name, *(c.cell(row) for c in OUTCOME), *timing, *(c.cell(row) for c in CONTROL)]


def table_cells(comparison: dict[str, Any], paper: bool) -> list[list[str]]:
    rows = comparison["rows"]
    heading = [
        "",
        *(c.heading for c in (*OUTCOME, INFERENCE, INFERENCE_P95)),
        "speed-up",
        *(c.heading for c in CONTROL),
    ]
    lines = [_method_cells(label(name), rows[name], rows.get("teacher", {})) for name in ordered(rows)]
    if paper:
        theirs = PAPER_ROWS["teacher"]
        lines += [_method_cells(f"{label(name)} ({PAPER})", row, theirs) for name, row in PAPER_ROWS.items()]
    return [heading, *lines]


def _shares(row: Row) -> str:
    """Left / right / over, in percent."""
    known = [m for side in ("left", "right", "over") if (m := row.get(f"side_{side}", {}).get("mean")) is not None]
    return " / ".join(f"{100 * share:.0f}" for share in known) + " %" if len(known) == 3 else UNDEFINED


def generation_cells(comparison: dict[str, Any]) -> list[list[str]]:
    rows = comparison["rows"]
    columns = (Column("nfe", "network calls", digits=0), SPREAD, DISTANCE, FREE, BOTH_SIDES, SIDES)
    lines = []
    for name in ordered(rows):
        shares = rows[name].get("success", {}).get("per_seed") or []
        by_seed = " / ".join(UNDEFINED if share is None else f"{100 * share:.1f}" for share in shares)
        cells = [columns[0].cell(means(rows[name])), *(c.cell(rows[name]) for c in columns[1:])]
        lines.append([label(name), *cells, _shares(rows[name]), f"{by_seed} %" if by_seed else UNDEFINED])
    return [["", *(c.heading for c in columns), "left / right / over", "success by training seed"], *lines]


# --- tables ------------------------------------------------------------------------------------------------------


def table(comparison: dict[str, Any], paper: bool = False) -> str:
    """The main table as Markdown: mean ± standard deviation over trials. ``paper``: with the paper's rows below."""
    return markdown(table_cells(comparison, paper))


def generation_table(comparison: dict[str, Any]) -> str:
    """What the generators make, as Markdown: how varied the candidates are, and success by training seed."""
    return markdown(generation_cells(comparison))


def terminal_table(comparison: dict[str, Any]) -> Table:
    """The main numbers for the end of a program: means, one narrow row per method."""
    rows = comparison["rows"]
    made = Table(title=f"{comparison['experiment']}: means over trials", title_justify="left")
    made.add_column("")
    for heading in ("success", "time [s]", "inference [ms]", "p95 [ms]", "speed-up", "error [mm]", "rate [Hz]"):
        made.add_column(Text(heading), justify="right")  # not markup: [s] is a unit
    for name in ordered(rows):
        row = means(rows[name])
        timing = [INFERENCE.cell(row), INFERENCE_P95.cell(row), _speed_up_cell(row, rows.get("teacher", {}))]
        made.add_row(label(name), SUCCESS.cell(row), DURATION.cell(row), *timing, TERMINAL.cell(row), RATE.cell(row))
    return made


def markdown(cells: list[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([lines[0], "| --- |" + " ---: |" * (len(cells[0]) - 1), *lines[1:]])


def insert_tables(markdown_text: str, tables: dict[str, str]) -> str:
    """Replace what stands between ``<!-- table: NAME -->`` and ``<!-- /table -->`` for every name of ``tables``.

    Raises:
        ValueError: a name has no pair of markers.
    """
    missing = []
    for name, made in tables.items():
        opening, closing = f"<!-- table: {name} -->", "<!-- /table -->"
        pattern = re.compile(f"{re.escape(opening)}(?:(?!<!-- table:).)*?{re.escape(closing)}", re.DOTALL)
        block = f"{opening}\n{made.strip()}\n{closing}"
        markdown_text, count = pattern.subn(lambda _, block=block: block, markdown_text)
        if not count:
            missing.append(name)
    if missing:
        raise ValueError(
            f"no place for the tables {missing}: put '<!-- table: {missing[0]} -->' and '<!-- /table -->' where it goes"
        )
    return markdown_text
