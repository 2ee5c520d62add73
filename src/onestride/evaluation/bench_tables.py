"""What ``bench`` measured, as tables: whole records, one number of candidates, or medians by that number."""

from __future__ import annotations

from typing import Any

from onestride.evaluation.report import UNDEFINED

#: As they are shown: a heading, the metric, its format.
COLUMNS = (
    ("p50 [ms]", "decision_ms_p50", "{:.3f}"), ("p95", "decision_ms_p95", "{:.3f}"),
    ("p99", "decision_ms_p99", "{:.3f}"), ("max", "decision_ms_max", "{:.3f}"),
    ("after a pause", "after_pause_ms_p50", "{:.3f}"), ("planning p50", "planning_ms_p50", "{:.3f}"),
    ("per s", "decisions_per_s", "{:.0f}"), ("NFE", "nfe", "{:.0f}"),
    ("forwards", "batch_forwards", "{:.2f}"), ("GFLOP", "gflop", "{:.3f}"), ("MB", "mb", "{:.1f}"),
    ("of ceiling", "share_of_ceiling", "{:.0%}"), ("x teacher", "speed_up_over_teacher", "{:.1f}"),
    ("x student", "speed_up_over_student", "{:.2f}"), ("x student, p99", "speed_up_over_student_p99", "{:.2f}"),
    ("pairs per s", "pairs_per_s", "{:.0f}"),
)  # fmt: skip


def cells(record: dict[str, Any], candidates: int | None = None) -> list[list[str]]:
    """A header, then a line per row; of all numbers of candidates, or of one. Columns that no row has are left out."""
    rows = {n: r for n, r in record["rows"].items() if candidates is None or n.endswith(f"@{candidates}")}
    columns = [column for column in COLUMNS if any(column[1] in row for row in rows.values())]

    def cell(row: dict[str, Any], metric: str, form: str) -> str:
        return form.format(row[metric]["mean"]) if metric in row else UNDEFINED

    lines = [[n, *(cell(row, metric, form) for _, metric, form in columns)] for n, row in rows.items()]
    return [["", *(title for title, _, _ in columns)], *lines]


def by_candidates(record: dict[str, Any]) -> list[list[str]]:
    """Median decisions [ms]: a header, then a line per contender and a column per number of candidates."""
    medians = {n: f"{r['decision_ms_p50']['mean']:.2f}" for n, r in record["rows"].items() if "decision_ms_p50" in r}
    contenders = dict.fromkeys(name.split("@")[0] for name in medians)
    numbers = record["config"]["candidates"]
    return [
        ["p50 [ms]", *(f"{n} candidates" for n in numbers)],
        *([name, *(medians.get(f"{name}@{n}", UNDEFINED) for n in numbers)] for name in contenders),
    ]


def lines(record: dict[str, Any]) -> list[str]:
    """The record for the terminal."""
    return [f"{line[0]:25s}" + "".join(f"{cell:>13s}" for cell in line[1:]) for line in cells(record)]
