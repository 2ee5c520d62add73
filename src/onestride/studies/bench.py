"""What ``onestride bench`` measured: decisions by number of candidates, whole records, or medians by that number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onestride.reports.captions import BANK
from onestride.reports.documents import records
from onestride.reports.table import Column, Table, cells

SHOWN = 64  # candidates of the rows that documents show
COLUMNS = tuple(
    Column(metric, heading, unit, digits, kind, spread=False)
    for metric, heading, unit, digits, kind in (
        ("decision_ms_p50", "p50", "ms", 3, "number"),
        ("decision_ms_p95", "p95", "", 3, "number"),
        ("decision_ms_p99", "p99", "", 3, "number"),
        ("decision_ms_max", "max", "", 3, "number"),
        ("after_pause_ms_p50", "after a pause", "", 3, "number"),
        ("planning_ms_p50", "planning p50", "", 3, "number"),
        ("decisions_per_s", "per s", "", 0, "number"),
        ("nfe", "NFE", "", 0, "number"),
        ("batch_forwards", "forwards", "", 2, "number"),
        ("gflop", "GFLOP", "", 3, "number"),
        ("mb", "MB", "", 1, "number"),
        ("share_of_ceiling", "of ceiling", "", 0, "fraction"),
        ("speed_up_over_teacher", "x teacher", "", 1, "number"),
        ("speed_up_over_student", "x student", "", 2, "number"),
        ("speed_up_over_student_p99", "x student, p99", "", 2, "number"),
        ("pairs_per_s", "pairs per s", "", 0, "number"),
    )
)


def table(record: dict[str, Any], candidates: int | None = None) -> Table:
    """Return a line per row; of all numbers of candidates, or of one. Columns that no row has are left out."""
    rows = {n: row for n, row in record["rows"].items() if candidates is None or n.endswith(f"@{candidates}")}
    config = record["config"]
    others = "teacher and student draw theirs anew, which is part of their time."
    said = f"{config['rounds'] * config['burst']} decisions each. {BANK.format(draws=config['draws'], others=others)}"
    columns = tuple(column for column in COLUMNS if any(column.metric in row for row in rows.values()))
    return Table(columns, rows, (said,))


def by_candidates(record: dict[str, Any]) -> Table:
    """Return median decisions [ms]: a line per subject, a column per number of candidates."""
    rows: dict[str, dict[str, Any]] = {}
    for name, row in record["rows"].items():
        if COLUMNS[0].metric in row:
            subject, _, number = name.partition("@")
            rows.setdefault(subject, {})[number] = row[COLUMNS[0].metric]
    columns = (Column(f"{n}", f"{n} candidates", spread=False) for n in record["config"]["candidates"])
    return Table(tuple(columns), rows, corner=COLUMNS[0].title)


def lines(record: dict[str, Any]) -> list[str]:
    """Return the record for the terminal, however narrow it is."""
    return [f"{line[0]:25s}" + "".join(f"{cell:>13s}" for cell in line[1:]) for line in cells(table(record))]


def tables(results: Path) -> dict[str, Table]:
    """Return the tables of every committed record."""
    made = {}
    for name, record in records(results / "bench").items():
        made[f"bench-{name}"] = table(record, SHOWN)
        if len(record["config"]["candidates"]) > 1:
            made[f"bench-{name}-candidates"] = by_candidates(record)
    return made
