"""What ``onestride bench`` measured: decisions by number of candidates, whole records, or medians by that number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onestride.reports.captions import BANK
from onestride.reports.documents import records
from onestride.reports.table import Column, Table, cells

SHOWN = 64  # candidates of the rows that documents show
COLUMNS = (
    Column("decision_ms_p50", "p50", "ms", 3), Column("decision_ms_p95", "p95", digits=3),
    Column("decision_ms_p99", "p99", digits=3), Column("decision_ms_max", "max", digits=3),
    Column("after_pause_ms_p50", "after a pause", digits=3), Column("planning_ms_p50", "planning p50", digits=3),
    Column("decisions_per_s", "per s", digits=0), Column("nfe", "NFE", digits=0), Column("batch_forwards", "forwards"),
    Column("gflop", "GFLOP", digits=3), Column("mb", "MB", digits=1),
    Column("share_of_ceiling", "of ceiling", digits=0, kind="fraction"),
    Column("speed_up_over_teacher", "x teacher", digits=1), Column("speed_up_over_student", "x student"),
    Column("speed_up_over_student_p99", "x student, p99"), Column("pairs_per_s", "pairs per s", digits=0),
)  # fmt: skip


def table(record: dict[str, Any], candidates: int | None = None) -> Table:
    """Return a line per row; of all numbers of candidates, or of one. Columns that no row has are left out."""
    rows = {n: row for n, row in record["rows"].items() if candidates is None or n.endswith(f"@{candidates}")}
    config = record["config"]
    others = "teacher and student draw theirs anew, which is part of their time."
    said = f"{config['rounds'] * config['burst']} decisions each. {BANK.format(draws=config['draws'], others=others)}"
    return Table(COLUMNS, rows, (said,), spread=False).known()


def by_candidates(record: dict[str, Any]) -> Table:
    """Return median decisions [ms]: a line per subject, a column per number of candidates."""
    rows: dict[str, dict[str, Any]] = {}
    for name, row in record["rows"].items():
        if COLUMNS[0].metric in row:
            subject, _, number = name.partition("@")
            rows.setdefault(subject, {})[number] = row[COLUMNS[0].metric]
    columns = (Column(f"{n}", f"{n} candidates") for n in record["config"]["candidates"])
    return Table(tuple(columns), rows, corner=COLUMNS[0].title, spread=False)


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
