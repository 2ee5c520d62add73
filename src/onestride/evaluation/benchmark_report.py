"""A benchmark's evaluation as tables in the manner of the DNK paper's Table I.

Every number comes from ``comparison.json``; none is typed. The paper's own stand in columns of their own, since they
are of another dataset and another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from onestride.evaluation.benchmark_figures import label, ordered
from onestride.evaluation.lineup import RANKING, SELECTORS, parts
from onestride.evaluation.report import UNDEFINED, Column, Row, markdown, means, speed_up

PAPER = "paper, D4RL's own data, RTX 5090"

#: Table I of the DNK paper: return (mean, std), latency (mean, std) [ms], sigma_ep, worst case. Five seeds of 500
#: episodes; network calls from its project page.
TABLE_I: dict[str, dict[str, tuple[tuple[float, float], tuple[float, float], float, float]]] = {
    "halfcheetah": {
        "teacher": ((0.8518, 0.0032), (116.51, 2.39), 0.0114, 0.8229),
        "dnk": ((0.8885, 0.0042), (0.82, 0.47), 0.0134, 0.8488),
        "dnk-classifier": ((0.8599, 0.0010), (1.83, 0.80), 0.0081, 0.8417),
        "kdm": ((0.6618, 0.0045), (0.34, 0.03), 0.0349, 0.6571),
        "kdm-f": ((0.4852, 0.0098), (0.86, 0.03), 0.0216, 0.4659),
        "cd": ((0.4027, 0.0109), (1.08, 2.32), 0.0277, 0.3217),
        "ct": ((0.4089, 0.0047), (1.08, 2.31), 0.0198, 0.3663),
    },
    "walker2d": {
        "teacher": ((1.0295, 0.0051), (301.22, 2.41), 0.0193, 0.9759),
        "dnk": ((1.0973, 0.0002), (1.75, 0.36), 0.0004, 1.0963),
        "dnk-classifier": ((1.0285, 0.0022), (4.57, 0.87), 0.0242, 0.9677),
        "kdm": ((0.6057, 0.0156), (0.35, 0.04), 0.0333, 0.5925),
        "kdm-f": ((0.3386, 0.0070), (0.87, 0.03), 0.0380, 0.3267),
        "cd": ((0.6144, 0.0176), (1.09, 2.33), 0.0577, 0.4808),
        "ct": ((0.4404, 0.0096), (1.09, 2.37), 0.0659, 0.2591),
    },
}

#: Body -> row -> metrics, in the form of a comparison's rows.
PAPER_ROWS: dict[str, dict[str, Row]] = {
    body: {
        row: {
            "return_normalised": {"mean": score[0], "std": score[1]},
            "decision_ms_mean": {"mean": ms[0], "std": ms[1]},
            "sigma_ep": {"mean": sigma},
            "worst_seed_return": {"mean": worst},
            "nfe": {"mean": 20 if row == "teacher" else 1},
        }
        for row, (score, ms, sigma, worst) in rows.items()
    }
    for body, rows in TABLE_I.items()
}


@dataclass(frozen=True)
class Counted(Column):
    """A share with the number that it is a share of."""

    def cell(self, row: Row) -> str:
        """Return '3 % of 30'."""
        share, of = super().cell(row), row.get(self.metric, {}).get("n")
        return share if share == UNDEFINED or of is None else f"{share} of {of}"


RETURN = Column("return_normalised", "return", digits=4)
SIGMA = Column("sigma_ep", "sigma_ep", digits=4, yes_or_no=True)  # itself a spread
WORST = Column("worst_seed_return", "worst seed", digits=4)
FELL = Counted("fell", "fell", digits=0, percent=True, yes_or_no=True)
UNSELECTED = Column("unselected_return", "unselected return", digits=4)
SPREAD = Column("action_spread", "candidates' spread", digits=3)
LATENCY = Column("decision_ms_mean", "latency [ms]")
PERCENTILES = tuple(Column(f"decision_ms_{name}", f"{name} [ms]") for name in ("p50", "p95", "p99"))
SPEED_UP = Column("speed_up", "speed-up, times", digits=1)
NFE = Column("nfe", "network calls", digits=0)
TABLE_I_COLUMNS = (RETURN, SIGMA, WORST, LATENCY, SPEED_UP)
DETAILS = (NFE, UNSELECTED, SPREAD, FELL, LATENCY, *PERCENTILES, Column("control_hz", "decisions per second", digits=1))
GENERATOR = (
    UNSELECTED,
    SPREAD,
    Column("teacher_distance", "distance from the teacher's", digits=3),
    Column("plan_spread", "whole plans' spread", digits=3),
    Column("plan_dimensions", "directions of it", digits=1),
    Column("own_action_spread", "spread, own states", digits=3),
    Column("own_teacher_distance", "distance, own states", digits=3),
)
TERMINAL = {
    "return": RETURN,
    "worst seed": WORST,
    "nobody selects": UNSELECTED,
    "latency [ms]": LATENCY,
    "p95 [ms]": PERCENTILES[1],
    "times faster": SPEED_UP,
}


def paper_rows(comparison: dict[str, Any]) -> dict[str, Row]:
    """The paper's rows for this body; none for a body that it does not have."""
    return PAPER_ROWS.get(comparison["experiment"].split("-")[0], {})


def with_speed_up(rows: dict[str, Row]) -> dict[str, Row]:
    """The rows, and how many times faster than the teacher each one decides."""
    teacher = rows.get("teacher", {})
    return {name: {**row, SPEED_UP.metric: {"mean": speed_up(row, teacher)}} for name, row in rows.items()}


#: Planners of single actions: an argmax over their candidates finds where the critic is wrong.
ACTION_LEVEL = ("ct", "cd")
OF_TEACHER = "of its teacher's by the same selector (episodes)"


def best_unselected(rows: Mapping[str, Row]) -> list[str]:
    """The action-level planners' rows in which nobody selects, where these earn more than the ranked ones."""

    def earned(row: str) -> float:
        return rows.get(row, {}).get(RETURN.metric, {}).get("mean", float("-inf"))

    pairs = ((f"{row}-unselected", row) for row in ACTION_LEVEL if row in rows)
    return ordered(alone for alone, ranked in pairs if earned(alone) > earned(ranked))


def of_teacher(rows: Mapping[str, Row], row: str) -> str:
    """Return the row's return as a multiple of the teacher's by the same selector, with the episodes of both."""
    same = {"classifier": "teacher", "engine": "teacher-iql", "int8": "teacher-iql"}
    selector = parts(row)[1]
    mine, theirs = rows.get(row, {}), rows.get(same.get(selector, f"teacher-{selector}"), {})
    if RETURN.metric not in mine or RETURN.metric not in theirs or mine is theirs:
        return UNDEFINED
    ratio = mine[RETURN.metric]["mean"] / theirs[RETURN.metric]["mean"]
    episodes = (f"{each['episodes']['mean']:.0f}" for each in (mine, theirs))
    return f"{ratio:.3f} ({' / '.join(episodes)})"


def ratio_table(comparisons: Mapping[str, dict[str, Any]]) -> str:
    """DNK against its teacher by who selects, a line per body, as Markdown: like with like."""
    rows = {
        "dnk": "both by IQL",
        "dnk-engine": "by IQL, DNK in the engine",
        "dnk-classifier": "both by the return model",
    }
    lines = [[name, *(of_teacher(c["rows"], row) for row in rows)] for name, c in comparisons.items()]
    return markdown([["", *rows.values()], *lines])


def selected(rows: dict[str, Row]) -> dict[str, Row]:
    """The rows in which somebody selects, in order."""
    return {row: rows[row] for row in ordered(rows) if parts(row)[1] != "unselected"}


def table_cells(comparison: dict[str, Any], paper: bool) -> list[list[str]]:
    """Ours, and the paper's in columns of their own on the right, which say whose they are."""
    columns, rows = TABLE_I_COLUMNS, comparison["rows"]
    ours, theirs = (selected(with_speed_up(made)) for made in (rows, paper_rows(comparison)))
    ours |= {name: rows[name] for name in best_unselected(rows)}
    names = ordered({*ours, *theirs})
    lines = [[label(name), *(c.cell(ours.get(name, {})) for c in columns), of_teacher(rows, name)] for name in names]
    heading = ["", *(c.heading for c in columns), OF_TEACHER]
    if paper and theirs:
        for name, line in zip(names, lines, strict=True):
            line += [c.cell(theirs.get(name, {})) for c in columns]
        heading += [f"{PAPER if i == 0 else 'paper'}: {c.heading}" for i, c in enumerate(columns)]
    return [heading, *lines]


def detail_cells(comparison: dict[str, Any]) -> list[list[str]]:
    lines = [[label(name), *(c.cell(row) for c in DETAILS)] for name, row in selected(comparison["rows"]).items()]
    return [["", *(c.heading for c in DETAILS)], *lines]


def generation_cells(comparison: dict[str, Any]) -> list[list[str]]:
    """A line per generator: its return by who selects, and its candidates before anybody does."""
    rows = comparison["rows"]
    ranking = [selector for selector in RANKING if selector in {parts(row)[1] for row in rows}]
    lines = []
    for generator in dict.fromkeys(parts(row)[0] for row in ordered(rows)):
        by_selector = {parts(row)[1]: rows[row] for row in rows if parts(row)[0] == generator}
        ranked = [RETURN.cell(by_selector.get(selector, {})) for selector in ranking]
        any_row = next(iter(by_selector.values()))  # these metrics are the generator's, in all its rows
        lines.append([label(generator), *ranked, *(column.cell(any_row) for column in GENERATOR)])
    ranked = [f"return by {SELECTORS[selector]}" for selector in ranking]
    return [["", *ranked, *(column.heading for column in GENERATOR)], *lines]


def table(comparison: dict[str, Any], paper: bool = True) -> str:
    """Table I as Markdown: mean ± standard deviation over seeds. ``paper``: with the paper's numbers beside it."""
    return markdown(table_cells(comparison, paper))


def detail_table(comparison: dict[str, Any]) -> str:
    """What else every row is, as Markdown: what it is worth unselected, its spread, its latency's percentiles."""
    return markdown(detail_cells(comparison))


def generation_table(comparison: dict[str, Any]) -> str:
    """What the generators are worth by themselves, as Markdown."""
    return markdown(generation_cells(comparison))


def terminal_table(comparison: dict[str, Any]) -> Table:
    """The main numbers for the end of a program: means, one narrow line per row."""
    rows = selected(with_speed_up(comparison["rows"]))
    lines = {label(name): row for name, row in rows.items()}
    return narrow_table(f"{comparison['experiment']}: means over seeds", lines, TERMINAL)


def narrow_table(title: str, lines: Mapping[str, Row], columns: Mapping[str, Column]) -> Table:
    """A line per row by its name, means alone, under these headings."""
    made = Table(title=title, title_justify="left")
    cells = {name: [column.cell(means(row)) for column in columns.values()] for name, row in lines.items()}
    made.add_column("")
    for heading, *numbers in zip(columns, *cells.values(), strict=True):  # headings and names wrap, numbers do not
        width = max(map(len, (*heading.split(), *numbers)))
        made.add_column(Text(heading), justify="right", width=width)  # not markup: [ms] is a unit
    for name, numbers in cells.items():
        made.add_row(name, *numbers)
    return made
