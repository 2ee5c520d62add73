"""The page of a benchmark's evaluation: its pictures, films, tables and first numbers.

Its text is ``locomotion_page.html.j2``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onestride.evaluation.records import EPISODES, MOTION, SHOWN, TIMES, read_records
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.reports import page
from onestride.reports.figures import frames_figure, latency_figure, pca_figure
from onestride.reports.figures_returns import NORMALISED, pareto_figure, returns_figure
from onestride.reports.films import film_bodies
from onestride.reports.motions import body_motion, read_arrays
from onestride.reports.style import label, save
from onestride.reports.table import variants
from onestride.runs.settings import ReturnsConfig
from onestride.seals import read_result
from onestride.studies import dnk_table1 as table1
from onestride.studies.dnk_table1 import LATENCY, PAPER, RETURN, SPEED_UP, UNSELECTED, WORST, paper_of, selected
from onestride.tasks import TASKS

FILMED = ("teacher", "dnk", "kdm", "kdm-f")  # the paper's rollout videos; the first two side by side
FILM = "film-{}.mp4"
HEADLINE = {
    WORST: ("return of its worst seed", WORST),
    UNSELECTED: ("return unselected", UNSELECTED),
    SPEED_UP: ("times faster", LATENCY),
}


def write(folder: Path, run: Path, pictures: bool = True, out: Path | None = None, device: str = "cpu") -> Path:
    """Make the pictures, the films and the page of a benchmark's evaluation; see ``reports.page.write``.

    With ``pictures=False`` those already there are used.

    Args:
        run: holds the planners that are filmed; they are not needed where ``folder`` holds their motion already.
    """
    comparison = page.read_comparison(folder)
    made = makers(folder, run, comparison, device) if pictures else None
    return page.write(folder, run, Path(__file__).with_suffix(".html.j2"), values(comparison), made, out)


def makers(
    folder: Path, run: Path, comparison: dict[str, Any], device: str, films: Sequence[str] = FILMED
) -> page.Makers:
    """Return what makes the pictures and the films, these of methods as they are usually ranked."""
    rows, found = comparison["rows"], variants(comparison["rows"])
    filmed = {row: found[row] for row in films if row in found}
    files = {row: FILM.format(row) for row in films} | {"replay": "replay.mp4", "gif": "replay.gif"}
    usual: dict[str, tuple[str, Variant]] = {}  # of each method the first row that is ranked, by the policy itself
    for row, v in found.items():
        if v.backend == "torch" and (v.selector != "none" or v.row == v.generator):
            usual.setdefault(v.generator, (row, v))

    def draw_pareto() -> None:
        ours, paper = ({v: each[row] for row, v in variants(each).items()} for each in (rows, paper_of(comparison)))
        save(pareto_figure(ours, paper, PAPER, _worth(comparison)), folder / "pareto.png")

    def draw_returns() -> None:
        records = read_records(folder / EPISODES)
        episodes = {v: [r for r in records if r["row"] == row] for row, v in found.items()}
        played = {v: each for v, each in episodes.items() if each}
        save(returns_figure(played, _worth(comparison)), folder / "returns.png")

    def draw_components() -> None:
        plans = read_arrays(folder / SHOWN, found, (), ("plans",))[1]["plans"]  # (S, N, H, D)
        scaled = {v: each / np.sqrt(np.prod(each.shape[2:])) for v, each in plans.items()}  # rms
        states = [f"state {s + 1}" for s in range(len(next(iter(plans.values()))))]
        save(pca_figure(scaled, states), folder / "pca.png")

    def draw_latency() -> None:
        measured = read_result(folder / TIMES, dict[str, list[float]])
        latency = {v: 1e3 * np.array(measured[row]) for row, v in usual.values() if row in measured}
        save(latency_figure(latency, 1e3 * _control_dt(comparison)), folder / "latency.png")

    def film() -> None:
        if not filmed:
            raise CheckpointError(f"films show the planners of the paper's table; here are {', '.join(found)}")
        config = ReturnsConfig(**comparison["config"]["evaluate"])
        motion = body_motion(run, filmed, config, folder / MOTION, device)
        strip = film_bodies(motion, filmed, _latency_s(comparison), folder, files)
        save(frames_figure(strip), folder / "frames.png")

    return {
        ("pareto.png",): draw_pareto,
        ("returns.png",): draw_returns,
        ("pca.png",): draw_components,
        ("latency.png",): draw_latency,
        (*files.values(), "frames.png"): film,
    }


def values(comparison: dict[str, Any]) -> dict[str, Any]:
    """Return what the template names."""
    rows, found = comparison["rows"], variants(comparison["rows"])
    return {
        "title": f"{_data(comparison)}: {_names(found.values())}",
        "lead": _lead(comparison),
        "headline": page.headline(selected(rows), {RETURN: (_worth(comparison), RETURN)} | HEADLINE),
        "worth": _worth(comparison),
        "numbers": table1.table(comparison),
        "details": table1.detail_table(comparison),
        "generators": table1.generators_table(comparison),
        "films": {FILM.format(row): label(row) for row in FILMED if row in rows},
        "side_by_side": " and ".join(map(label, FILMED[:2])),
        "pace": _pace(comparison),
        "paper": bool(paper_of(comparison)),
    }


def _data(comparison: dict[str, Any]) -> str:
    """Return the data set that planners learnt from, where it has a name, with its environment."""
    dataset = comparison["config"].get("data", {}).get("dataset")
    return f"{dataset} ({comparison['experiment']})" if dataset else comparison["experiment"]


def _names(found: Iterable[Variant]) -> str:
    return ", ".join(dict.fromkeys(label(variant.generator) for variant in found))


def _lead(comparison: dict[str, Any]) -> str:
    rows = selected(comparison["rows"])
    counts: dict[float, list[Variant]] = {}
    for row, variant in variants(rows).items():
        if "episodes" in rows[row]:
            counts.setdefault(rows[row]["episodes"]["mean"], []).append(variant)
    played = "; ".join(f"{count:g} of {_names(found)}" for count, found in counts.items())
    seeds = len(comparison["seeds"].get("training", []))
    trained = f" Each student was trained {seeds} times, from different seeds." if seeds > 1 else ""
    return (
        "The same starts for every planner, in an environment that waits while it decides: what differs is the "
        f"planner and who selects among its candidates. Episodes with each selector: {played}.{trained}"
    )


def _pace(comparison: dict[str, Any]) -> str:
    """Return how each body of the replay is slowed."""
    period, latency = _control_dt(comparison), _latency_s(comparison)
    said = []
    for row in (row for row in FILMED[:2] if row in latency):
        slower = max(1.0, latency[row] / period)
        pace = "full speed" if slower == 1 else f"{slower:.3g} times slower"
        said.append(f"{label(row)}: {1e3 * latency[row]:.3g} ms a decision, {pace}")
    return f"The control period is {1e3 * period:g} ms. {'; '.join(said)}."


def _latency_s(comparison: dict[str, Any]) -> dict[str, float]:
    """Return the mean time of a decision by row [s], where it was measured."""
    means_ms = {row: m.get("decision_ms_mean", {}).get("mean") for row, m in comparison["rows"].items()}
    return {row: ms / 1e3 for row, ms in means_ms.items() if ms is not None}


def _worth(comparison: dict[str, Any]) -> str:
    """Return what the returns of a task are: normalised, where it has references to do so by."""
    benchmark = TASKS[comparison["experiment"]]().benchmark
    return NORMALISED if benchmark is None or benchmark.referenced else "return"


def _control_dt(comparison: dict[str, Any]) -> float:
    return TASKS[comparison["experiment"]]().control.control_dt
