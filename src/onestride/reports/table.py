"""Tables as data: columns that say how a metric is shown, rows by their names; one renderer for each medium.

Every number comes from a result's record or from ``results/paper``; none is typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich import table as rich
from rich.text import Text

from onestride.evaluation.variant import Variant
from onestride.files import read_json
from onestride.tasks.metric import Metric

UNDEFINED = "–"  # noqa: RUF001 - an en dash: this metric has no value here

#: A mean of fewer episodes than this is shown with no more than ``ROUGH`` decimals: more would be chance.
FEW, ROUGH = 10, 2

#: Metric -> {"mean", "std", "n", "per_seed"}, of returns with "episodes" too, or {"text"}; and the row's variant.
Row = Mapping[str, Mapping[str, Any]]
Kind = Literal["number", "change", "times", "percent", "share", "fraction", "score"]

#: Kind -> factor, sign, and what follows a number.
KINDS: dict[Kind, tuple[float, str, str]] = {
    "number": (1, "", ""),
    "change": (1, "+", ""),
    "times": (1, "", "x"),
    "percent": (100, "", " %"),
    "share": (100, "", " %"),  # with the number that it is a share of
    "fraction": (100, "", "%"),
    "score": (100, "", ""),  # as D4RL prints normalised returns
}


@dataclass(frozen=True)
class Column:
    """A metric as it is shown; ``spread``: with its standard deviation, where it has one."""

    metric: str
    heading: str
    unit: str = ""
    digits: int = 2
    kind: Kind = "number"
    spread: bool = True

    @property
    def title(self) -> str:
        """Return the heading with its unit."""
        return f"{self.heading} [{self.unit}]" if self.unit else self.heading

    def cell(self, row: Row) -> str:
        """Return "mean ± std" of the row's metric; of one value there is no spread: "mean ± –"."""
        found = row.get(self.metric, {})
        if "text" in found:
            return found["text"]
        mean, std, n = found.get("mean"), found.get("std"), found.get("n")
        if mean is None:
            return UNDEFINED
        factor, sign, end = KINDS[self.kind]
        digits = min(self.digits, ROUGH) if found.get("episodes", FEW) < FEW else self.digits
        shown = [f"{factor * number:{sign}.{digits}f}" for number in (mean, std) if number is not None]
        if n == 1:
            shown[1:] = [UNDEFINED for _ in shown[1:]]
        counted = f" of {n}" if self.kind == "share" and n is not None else ""
        return " ± ".join(shown if self.spread else shown[:1]) + end + counted

    def mean(self, row: Row) -> str:
        """Return the mean alone."""
        return replace(self, spread=False).cell(row)


def columns(metrics: Iterable[Metric]) -> dict[str, Column]:
    """Return the columns of what a task or an evaluation measures, by their metrics; shares are in percent."""
    kinds: dict[str, Kind] = {"share": "percent", "percent": "percent", "number": "number"}
    return {m.name: Column(m.name, m.heading, m.unit, m.digits, kinds[m.kind], m.spread) for m in metrics}


@dataclass(frozen=True)
class Table:
    """Lines by what they are called, a cell of each for every column.

    caption: paragraphs that stand below. corner: above the names. spread: with deviations, where a column has them.
    """

    columns: tuple[Column, ...]
    rows: Mapping[str, Row]
    caption: tuple[str, ...] = ()
    corner: str = ""
    spread: bool = True

    def known(self) -> Table:
        """Return the table without the columns that no row has."""
        known = (column for column in self.columns if any(column.metric in row for row in self.rows.values()))
        return replace(self, columns=tuple(known))


def cells(table: Table) -> list[list[str]]:
    """Return a heading, then a line for every row; the first cell of each is its name."""
    shown = [column.cell if table.spread else column.mean for column in table.columns]
    lines = [[name, *(cell(row) for cell in shown)] for name, row in table.rows.items()]
    return [[table.corner, *(column.title for column in table.columns)], *lines]


def markdown(table: Table) -> str:
    """Return the table as Markdown, its caption below."""
    heading, *lines = ("| " + " | ".join(line) + " |" for line in cells(table))
    ruled = [heading, "| --- |" + " ---: |" * len(table.columns), *lines]
    return "\n\n".join(("\n".join(ruled), *table.caption))


def terminal(table: Table, title: str) -> rich.Table:
    """Return the table for a terminal, narrow: means alone, of what any row has.

    Headings and names wrap, numbers do not.
    """
    (corner, *headings), *lines = cells(replace(table.known(), spread=False))
    made = rich.Table(corner, title=title, title_justify="left")
    for heading, *shown in zip(headings, *(line[1:] for line in lines), strict=True):
        width = max(map(len, (*heading.split(), *shown)))
        made.add_column(Text(heading), justify="right", width=width)  # not markup: [ms] is a unit
    for line in lines:
        made.add_row(*line)
    return made


def variants(rows: Mapping[str, Row]) -> dict[str, Variant]:
    """Return each row's variant, in the order of every table."""
    found = {name: Variant.of(row) for name, row in rows.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: found[name].order)}


def labelled(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the rows by what a reader calls them, in the order of every table."""
    return {variant.label: rows[name] for name, variant in variants(rows).items()}


def with_speed_up(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the rows with how many times faster than the teacher each one decides, on average, where it is known."""
    times = {name: row.get("decision_ms_mean", {}).get("mean") for name, row in rows.items()}
    teacher = times.get("teacher")
    ratios = {name: teacher / time if teacher and time else None for name, time in times.items()}
    return {name: {**row, "speed_up": {"mean": ratios[name]}} for name, row in rows.items()}


def paper_rows(study: str) -> dict[str, Row]:
    """Return what a paper reports for a study such as "dnk-table2"; nothing where it does not have it."""
    return paper(study).get("rows", {})


def paper(study: str) -> dict[str, Any]:
    """Return a paper's table, {"source", "notes", "rows"}; nothing where it does not have it."""
    package = Path(__file__).parents[1]
    folders = (package / "paper", package.parents[1] / "results" / "paper")  # installed; in the repository
    found = next((file for folder in folders if (file := folder / f"{study}.json").is_file()), None)
    return {} if found is None else read_json(found)
