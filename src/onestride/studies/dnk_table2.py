"""Table II of the DNK paper: the arm moves to a goal past obstacles, by teacher and students."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import table as rich

from onestride.evaluation.metrics import TRIAL
from onestride.evaluation.result import read_experiment
from onestride.reports.captions import DEVIATION, PAPER
from onestride.reports.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    columns,
    labelled,
    paper_rows,
    terminal,
    with_speed_up,
)
from onestride.tasks.kinova.measures import METRICS

SHOWN = columns((*TRIAL, *METRICS))
SUCCESS, DURATION, INFERENCE = (SHOWN[name] for name in ("success", "completion_time_s", "decision_ms_mean"))
ERROR, RATE = SHOWN["terminal_error_mm"], SHOWN["control_hz"]
SPEED_UP = Column("speed_up", "speed-up", digits=1, kind="times")
COLUMNS = (
    SHOWN["completion"], SUCCESS, DURATION, SHOWN["executed_steps"], INFERENCE, SHOWN["decision_ms_p95"], SPEED_UP,
    ERROR, SHOWN["min_clearance_mm"], SHOWN["min_clearance_arm_mm"], RATE, SHOWN["overrun_ratio"],
)  # fmt: skip
CANDIDATES = (
    replace(SHOWN["nfe"], spread=False), SHOWN["candidate_spread_mm"], SHOWN["teacher_distance_mm"],
    SHOWN["candidates_free"], SHOWN["both_sides_used"], SHOWN["side_distance_from_teacher"],
    Column("sides", "left / right / over"), Column("by_seed", "success by training seed"),
)  # fmt: skip
TERMINAL = (SUCCESS, DURATION, INFERENCE, SHOWN["decision_ms_p95"], SPEED_UP, ERROR)


def table(comparison: dict[str, Any], paper: bool = False) -> Table:
    """Return mean ± standard deviation over trials; ``paper``: with the paper's rows below."""
    made = labelled(with_speed_up(comparison["rows"]))
    caption = _over(comparison, "all trials of all training seeds", "success")
    said = (f"{caption}; students have {len(comparison['seeds']['training'])} seeds.",)
    if paper:
        theirs = labelled(with_speed_up(paper_rows("dnk-table2")))
        made |= {f"{name} (paper, its own robot and machine)": row for name, row in theirs.items()}
        said = (*said, PAPER)
    measured = {name for row in made.values() for name in row}
    is_arm = comparison["experiment"] == "kinova"  # another robot has no clearance of an arm
    return Table(tuple(column for column in COLUMNS if is_arm or column.metric in measured), made, said)


def candidates_table(comparison: dict[str, Any]) -> Table:
    """Return what the generators make: how varied candidates are, and success by training seed."""
    rows = comparison["rows"]
    made = {name: {**row, "sides": _sides(row), "by_seed": _by_seed(row)} for name, row in labelled(rows).items()}
    open_on_both = max((row["side_left"]["n"] for row in rows.values() if "side_left" in row), default=0)
    caption = _over(comparison, "the starts of all scenes and training seeds", "candidate_spread_mm")
    said = f"{caption}; of sides, over those that are open on both (at most {open_on_both})."
    return Table(CANDIDATES, made, (said,))


def terminal_table(comparison: dict[str, Any]) -> rich.Table:
    """Return the main numbers for the end of a program."""
    rows = labelled(with_speed_up(comparison["rows"]))
    return terminal(Table(TERMINAL, rows), f"{comparison['experiment']}: means over trials")


def _over(comparison: dict[str, Any], what: str, metric: str) -> str:
    rows = labelled(comparison["rows"])
    counts = ", ".join(f"{name} {row[metric]['n']}" for name, row in rows.items() if metric in row)
    return f"{DEVIATION} over {what} ({counts})"


def _sides(row: Row) -> dict[str, str]:
    shares = [row.get(f"side_{side}", {}).get("mean") for side in ("left", "right", "over")]
    known = [f"{100 * share:.0f}" for share in shares if share is not None]
    return {"text": f"{' / '.join(known)} %" if len(known) == 3 else UNDEFINED}


def _by_seed(row: Row) -> dict[str, str]:
    shares = row.get("success", {}).get("per_seed") or []
    shown = (UNDEFINED if share is None else f"{100 * share:.1f}" for share in shares)
    return {"text": f"{' / '.join(shown)} %" if shares else UNDEFINED}


def tables(results: Path) -> dict[str, Table]:
    """Return the tables of the committed evaluations, on the charged clock and on wall time."""
    charged, real = (read_experiment(results / name / "comparison.json") for name in ("kinova", "kinova-real"))
    return {
        "kinova": table(charged, paper=True),
        "kinova-candidates": candidates_table(charged),
        "kinova-real": table(real),
    }
