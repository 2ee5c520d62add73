"""One table of a study's data sets: a line per planner, averages over each family, the paper's lines below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onestride.evaluation.variant import Variant
from onestride.reports.captions import DEVIATION
from onestride.reports.table import UNDEFINED, Column, Row, Table, paper
from onestride.studies.study import Study

OF_DIFFUSER = "of Diffuser's by the same selector (episodes)"
#: variant -> data set -> its row there
Rows = Mapping[Variant, Mapping[str, Row]]


def table(study: Study, found: Mapping[str, dict[str, Any]], *, beside: bool = True) -> Table:
    """Return the table of the data sets of which there are results; ``beside``: with the paper's lines.

    A cell's metric is "data set: metric" or "family: metric", as in ``results/paper``. Averages are over those data
    sets of a family that there are; one row has to have all of them.
    """
    ours: dict[Variant, dict[str, Row]] = {}
    for dataset, comparison in found.items():
        for row in comparison["rows"].values():
            ours.setdefault(study.as_row(Variant.of(row)), {})[dataset] = row
    shown = {family: [each for each in sets if each in found] for family, sets in study.families.items()}
    shown = {family: sets for family, sets in shown.items() if sets}
    if len(found) == 1:  # an average says nothing more, of whichever family
        shown = dict([next(iter(shown.items()))])
    made = {name_of(v): cells(study, v, ours, shown) for v in sorted(ours, key=lambda v: v.order)}
    theirs = paper(study.name) if beside else {}
    cut = {family for family, sets in shown.items() if len(sets) < len(study.families[family])}
    for name, row in theirs.get("rows", {}).items():
        made[f"{name} (paper)"] = {metric: m for metric, m in row.items() if metric.partition(": ")[0] not in cut}
    columns = [column for family, sets in shown.items() for column in columns_of(study, family, sets)]
    if len(found) == 1:
        columns = [replace(column, heading=column.heading.rpartition(": ")[2]) for column in columns]
    if not any(": " in metric for row in theirs.get("rows", {}).values() for metric in row):
        columns += [replace(column, heading=f"paper: {column.heading}") for column in study.columns]
    return Table(
        tuple(dict.fromkeys(columns)), made, caption(study, found, theirs), next(iter(found)) if len(found) == 1 else ""
    ).known()


def name_of(variant: Variant) -> str:
    """Return what a reader calls a row; the teacher goes by its own name, since nobody need be taught by it here."""
    name = variant.label
    return f"Diffuser{name.removeprefix('Teacher')}" if variant.method == "teacher" else name


def columns_of(study: Study, family: str, sets: Sequence[str]) -> list[Column]:
    """Return the columns of a family, of which these data sets are shown."""
    made = [
        replace(column, metric=f"{dataset}: {column.metric}", heading=f"{dataset}: {column.heading}")
        for dataset in sets
        for column in study.columns
    ]
    of = "" if len(sets) == len(study.families[family]) else f"{len(sets)} of {len(study.families[family])} "
    averaged = [study.columns[0]] * (len(sets) > 1) + list(study.means)
    for column in averaged:
        heading = f"{of}{family}, average: {column.heading}"
        made.append(replace(column, metric=f"{family}: {column.metric}", heading=heading, spread=False))
    if study.against:
        made.append(Column(f"{family}: ratio", f"{of}{family}: {OF_DIFFUSER}"))
    return made


def cells(study: Study, variant: Variant, ours: Rows, shown: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a line's cells."""
    mine = ours[variant]
    made: dict[str, Any] = {
        f"{dataset}: {column.metric}": row[column.metric]
        for dataset, row in mine.items()
        for column in study.columns
        if column.metric in row
    }
    same = replace(variant, method=study.against, backend="torch", steps=None)
    beside = ours.get(same) or ours.get(replace(same, setting=""), {})  # without an ablation's setting, if it is one
    for family, sets in shown.items():
        for column in (study.columns[0], *study.means):
            made[f"{family}: {column.metric}"] = {"mean": average(mine, sets, column.metric)}
        metric = study.columns[0].metric
        made[f"{family}: ratio"] = {"text": UNDEFINED}
        above, below = average(mine, sets, metric), average(beside, sets, metric)
        if mine is not beside and above is not None and below is not None and below > 0:  # a cost has no multiples
            episodes = " / ".join(count(each, sets, metric) for each in (mine, beside))
            made[f"{family}: ratio"] = {"text": f"{above / below:.3f} ({episodes})"}
    return made


def average(rows: Mapping[str, Row], sets: Sequence[str], metric: str) -> float | None:
    """Return the mean of a metric's means over these data sets; None where one of them has none."""
    values = [rows.get(dataset, {}).get(metric, {}).get("mean") for dataset in sets]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def count(rows: Mapping[str, Row], sets: Sequence[str], metric: str) -> str:
    """Return how many episodes a row's average is of, in all."""
    return f"{sum(rows[each].get('episodes', {}).get('mean') or rows[each][metric]['n'] for each in sets):.0f}"


def caption(study: Study, found: Mapping[str, dict[str, Any]], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what stands below: over what a ± is, and what is to be known of the paper's numbers."""
    seeds = sorted({len(each["seeds"].get("training", [0])) for each in found.values()})
    said = f"{DEVIATION} over training seeds of each seed's mean ({' or '.join(map(str, seeds))} of them)."
    if study.against:
        said += " Ratios are of averages; in brackets: episodes of the row / of Diffuser, in all."
    if not theirs:
        return (said,)
    return said, f"(paper): {theirs['source']} {' '.join(theirs['notes'])}"
