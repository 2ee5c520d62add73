"""Table I of the DNK paper: returns and latency of planners on locomotion benchmarks, each by who selects.

The paper's own numbers stand in columns of their own, since they are of another dataset and another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import table as rich

from onestride.evaluation.variant import RANKINGS, Variant
from onestride.reports.captions import ALONE, BANK, DEVIATION, counts, generators
from onestride.reports.documents import records
from onestride.reports.style import label
from onestride.reports.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    labelled,
    paper_rows,
    terminal,
    variants,
    with_speed_up,
)

PAPER = "paper, D4RL's own data, RTX 5090"
RETURN = Column("return_normalised", "return", digits=4)
SIGMA = Column("sigma_ep", "sigma_ep", digits=4, spread=False)  # itself a spread
WORST = Column("worst_seed_return", "worst seed", digits=4)
UNSELECTED = Column("unselected_return", "unselected return", digits=4)
SPREAD = Column("action_spread", "candidates' spread", digits=3)
DISTANCE = Column("teacher_distance", "distance from the teacher's", digits=3)
LATENCY = Column("decision_ms_mean", "latency", "ms")
P50, P95, P99 = (Column(f"decision_ms_{name}", name, "ms") for name in ("p50", "p95", "p99"))
SPEED_UP = Column("speed_up", "speed-up, times", digits=1)
NFE = Column("nfe", "network calls", digits=0)
OF_TEACHER = Column("of_teacher", "of its teacher's by the same selector (episodes)")
COLUMNS = (RETURN, SIGMA, WORST, LATENCY, SPEED_UP)
DETAILS = (
    NFE, UNSELECTED, SPREAD, Column("fell", "fell", digits=0, kind="share", spread=False), LATENCY, P50, P95, P99,
    Column("control_hz", "decisions per second", digits=1),
)  # fmt: skip
GENERATORS = (
    UNSELECTED, SPREAD, DISTANCE,
    Column("plan_spread", "whole plans' spread", digits=3), Column("plan_dimensions", "directions of it", digits=1),
    Column("own_action_spread", "spread, own states", digits=3),
    Column("own_teacher_distance", "distance, own states", digits=3),
)  # fmt: skip
TERMINAL = (RETURN, WORST, UNSELECTED, LATENCY, P95, SPEED_UP)
RATIOS = {"dnk": "both by IQL", "dnk-engine": "by IQL, DNK in the engine", "dnk-classifier": "both by the return model"}
#: Rankings that choose among candidates, without engines.
CHOOSING = ("iql", "mixture", "first", "classifier")
#: Planners of single actions: an argmax over their candidates finds where the critic is wrong.
ACTION_LEVEL = ("ct", "cd")


def table(comparison: dict[str, Any], paper: bool = True) -> Table:
    """Return Table I, mean ± standard deviation over seeds; ``paper``: with the paper's numbers beside it."""
    rows = comparison["rows"]
    theirs = selected(with_speed_up(paper_of(comparison))) if paper else {}
    ours = selected(with_speed_up(rows)) | {name: rows[name] for name in best_unselected(rows)}
    made = {}
    for name, variant in variants(theirs | ours).items():
        beside = {f"paper {metric}": value for metric, value in theirs.get(name, {}).items()}
        made[variant.label] = {**ours.get(name, {}), **beside, OF_TEACHER.metric: of_teacher(rows, variant)}
    columns = (*COLUMNS, OF_TEACHER)
    for i, column in enumerate(COLUMNS if theirs else ()):
        heading = f"{'paper' if i else PAPER}: {column.heading}"
        columns += (replace(column, metric=f"paper {column.metric}", heading=heading),)
    return Table(columns, made, (_caption(comparison),))


def detail_table(comparison: dict[str, Any]) -> Table:
    """Return what else every row is: its worth unselected, its spread, its latency's percentiles."""
    return Table(DETAILS, labelled(selected(comparison["rows"])))


def generators_table(comparison: dict[str, Any]) -> Table:
    """Return a line per generator: its return by who selects, and its candidates before anybody does."""
    rows = comparison["rows"]
    found = variants(rows)
    choosing = [ranking for ranking in CHOOSING if ranking in {variant.ranking for variant in found.values()}]
    lines: dict[str, Row] = {label(variant.method): {} for variant in found.values()}
    for name, row in rows.items():
        line = lines[label(found[name].method)] or row  # other metrics are the generator's, in all its rows
        lines[label(found[name].method)] = {**line, f"by {found[name].ranking}": row.get(RETURN.metric, {})}
    ranked = (replace(RETURN, metric=f"by {who}", heading=f"return by {RANKINGS[who]}") for who in choosing)
    return Table((*ranked, *GENERATORS), lines, (generators(comparison),))


def terminal_table(comparison: dict[str, Any]) -> rich.Table:
    """Return the main numbers for the end of a program."""
    rows = labelled(selected(with_speed_up(comparison["rows"])))
    return terminal(Table(TERMINAL, rows), f"{comparison['experiment']}: means over seeds")


def ratio_table(comparisons: Mapping[str, dict[str, Any]]) -> Table:
    """Return DNK against its teacher by who selects, a line per dataset: like with like."""
    rows = {}
    for name, comparison in comparisons.items():
        found = variants(comparison["rows"])
        rows[name] = {row: of_teacher(comparison["rows"], found[row]) for row in RATIOS if row in found}
    episodes = " or ".join(map(str, sorted({c["config"]["evaluate"]["episodes"] for c in comparisons.values()})))
    said = f"Ratios of mean returns. In brackets: episodes of DNK / of its teacher, {episodes} of each training seed."
    return Table(tuple(Column(row, heading) for row, heading in RATIOS.items()), rows, (said,))


# --- rows --------------------------------------------------------------------------------------------------------


def paper_of(comparison: dict[str, Any]) -> dict[str, Row]:
    """Return the paper's rows for this body; none for a body or a data set that it does not have."""
    if comparison["config"].get("data", {}).get("dataset"):
        return {}  # the paper's are of medium-expert
    return paper_rows(f"dnk-table1/{comparison['experiment'].split('-')[0]}")


def selected(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the rows in which somebody selects, in order; where nobody does, all of them."""
    return {name: rows[name] for name, variant in variants(rows).items() if variant.selector != "none"} or dict(rows)


def best_unselected(rows: Mapping[str, Row]) -> list[str]:
    """Return the action-level planners' rows in which nobody selects, where these earn more than the ranked ones."""

    def earned(row: str) -> float:
        return rows.get(row, {}).get(RETURN.metric, {}).get("mean", float("-inf"))

    alone = {name: v for name, v in variants(rows).items() if v.method in ACTION_LEVEL and v.selector == "none"}
    return [name for name, v in alone.items() if v.method in rows and earned(name) > earned(v.method)]


def of_teacher(rows: Mapping[str, Row], variant: Variant) -> dict[str, str]:
    """Return a row's return as a multiple of the teacher's by the same selector, with the episodes of both.

    A teacher that earned nothing, or less, has no multiples.
    """
    mine, theirs = (rows.get(v.row, {}) for v in (variant, replace(variant, method="teacher", backend="torch")))
    if RETURN.metric not in mine or not theirs.get(RETURN.metric, {}).get("mean", 0.0) > 0 or mine is theirs:
        return {"text": UNDEFINED}
    ratio = mine[RETURN.metric]["mean"] / theirs[RETURN.metric]["mean"]
    episodes = (f"{each['episodes']['mean']:.0f}" for each in (mine, theirs))
    return {"text": f"{ratio:.3f} ({' / '.join(episodes)})"}


def _caption(comparison: dict[str, Any]) -> str:
    rows, config = comparison["rows"], comparison["config"]
    seeds, decisions = (counts(rows.values(), metric) for metric in (RETURN.metric, LATENCY.metric))
    said = [
        f"{DEVIATION} over training seeds of each seed's mean ({seeds}; {ALONE}), {config['evaluate']['episodes']} "
        f"episodes of each seed; of latency, over {decisions} single decisions. sigma_ep: that over a seed's episodes, "
        "averaged over seeds."
    ]
    found = variants(rows)
    if "engine" in config and any(variant.backend == "engine" for variant in found.values()):
        said.append(BANK.format(draws=config["engine"]["draws"], others="the others draw theirs anew."))
    if names := " and ".join(found[name].label for name in found if name in ACTION_LEVEL):
        better = ", ".join(found[name].label for name in best_unselected(rows)) or "nowhere here"
        said.append(
            f"{names} ranked by Q: an argmax over candidates of one action rewards the critic's errors; where they "
            f"earn more without anybody who selects, that stands beside it ({better})."
        )
    return " ".join(said)


def tables(results: Path) -> dict[str, Table]:
    """Return the tables of every committed dataset."""
    bodies = {name: each for name, each in records(results / "locomotion").items() if not name.endswith("-ablations")}
    made = {"of-the-teacher": ratio_table(bodies)}
    for name, comparison in bodies.items():
        made[name] = table(comparison)
        made[f"{name}-detail"] = detail_table(comparison)
        made[f"{name}-generators"] = generators_table(comparison)
    return made
