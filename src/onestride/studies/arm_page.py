"""The page of an evaluation of the arm, or of another robot in scenes: its pictures, tables and first numbers.

Its text is ``arm_page.html.j2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onestride.evaluation.variant import Variant
from onestride.reports import page
from onestride.reports.figures import frames_figure, latency_figure, pca_figure, read_latency
from onestride.reports.figures_arm import Candidates, candidates_figure
from onestride.reports.films import film_arm
from onestride.reports.motions import ArmMotion
from onestride.reports.style import save
from onestride.reports.table import variants
from onestride.studies.dnk_table2 import DURATION, INFERENCE, RATE, SPEED_UP, SUCCESS, candidates_table, table
from onestride.tasks import TASKS

HEADLINE = {
    SPEED_UP: ("faster decisions", INFERENCE),
    SUCCESS: ("success", SUCCESS),
    DURATION: ("to the goal", DURATION),
    RATE: ("measured rate", RATE),
}


def write(folder: Path, run: Path, pictures: bool = True, out: Path | None = None) -> Path:
    """Make the pictures, the film and the page of an evaluation of the arm; see ``reports.page.write``.

    With ``pictures=False`` those already there are used.
    """
    comparison = page.read_comparison(folder)
    found, task = variants(comparison["rows"]), comparison["experiment"]
    made = makers(folder, found, TASKS[task]().control.control_dt, task) if pictures else None
    return page.write(folder, run, Path(__file__).with_suffix(".html.j2"), values(comparison, found), made, out)


def makers(folder: Path, found: Mapping[str, Variant], control_dt: float, task: str = "kinova") -> page.Makers:
    """Return what makes the pictures and the film of these variants, by their rows."""

    def draw_candidates() -> dict[str, str]:
        candidates = Candidates.load(folder / "candidates.safetensors", found)
        scaled = {v: 100 * paths / np.sqrt(paths.shape[2]) for v, paths in candidates.paths.items()}  # rms [cm]
        names = [f"scene {scene}" for scene in candidates.scenes]
        save(pca_figure(scaled, names, "cm", candidates.scores), folder / "pca.png")
        s = candidates.widest()
        save(candidates_figure(candidates, s), folder / "candidates.png")
        return {"candidates.png": f"Shown is {names[s]}, in which the teacher's candidates differ most."}

    def draw_latency() -> None:
        times = read_latency(folder / "episodes.jsonl")
        latency = {variant: times[row] for row, variant in found.items() if row in times}
        save(latency_figure(latency, 1e3 * control_dt), folder / "latency.png")

    def film() -> dict[str, str]:
        motion = ArmMotion.load(folder / "motion.safetensors", found, task)
        strip, speed, drawn_because = film_arm(motion, folder / "arms.mp4", folder / "arms.gif")
        save(frames_figure(strip), folder / "frames.png")
        played = f"Played {f'{speed} times faster than it happened' if speed > 1 else 'in real time'}."
        drawn = f" The arm is drawn as sticks: OpenGL does not work here ({drawn_because})."
        return {"arms.mp4": played + drawn * (drawn_because is not None)}

    return {
        ("candidates.png", "pca.png"): draw_candidates,
        ("latency.png",): draw_latency,
        ("arms.mp4", "frames.png"): film,
    }


def values(comparison: dict[str, Any], found: Mapping[str, Variant]) -> dict[str, Any]:
    """Return what the template names."""
    rows = comparison["rows"]
    counts = ", ".join(f"{v.label} {n}" for row, v in found.items() if (n := rows[row].get("success", {}).get("n")))
    seeds = len(comparison["seeds"].get("training", []))
    trained = f" Each student was trained {seeds} times, from different seeds." if seeds > 1 else ""
    same = "The same scenes, the same robot, the same clock for every method: what differs is the planner."
    return {
        "title": f"{comparison['experiment']}: {', '.join(v.label for v in found.values())}",
        "lead": f"{same} Trials: {counts}.{trained}",
        "headline": page.headline(rows, HEADLINE),
        "numbers": table(comparison, paper=comparison["experiment"] == "kinova"),
        "generators": candidates_table(comparison),
    }
