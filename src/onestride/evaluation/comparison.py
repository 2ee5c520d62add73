"""A run's teacher and students on the same problems, trial by trial: the arm's comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from onestride.evaluation.metrics import TRIAL_METRICS, summarize
from onestride.evaluation.provenance import provenance, training_notes
from onestride.evaluation.result import Experiment
from onestride.evaluation.rollouts import EPISODES, Contender, candidate_clouds, evaluate
from onestride.files import CheckpointError, exclusive
from onestride.policy.policy import Policy
from onestride.runs.run import task_of, trained_methods
from onestride.runs.settings import EvaluateConfig
from onestride.seals import seal
from onestride.tasks.kinova import demonstrations


def compare(run: Path, config: EvaluateConfig, command: str, device: str = "cpu") -> Path:
    """The run's teacher and students on the same scenes; writes ``comparison.json`` into the folder it returns.

    That is ``run/evaluation``, and ``run/evaluation-real`` on wall time: the two stand side by side.
    """
    folder = run / ("evaluation" if config.clock == "charged" else "evaluation-real")
    task, names = task_of(run), trained_methods(run)
    experiment = Experiment(task.name, command, spent=folder)
    if "teacher" not in names or len(names) < 2:
        raise CheckpointError(f"{run} needs a teacher and a student to compare, found: {', '.join(names) or 'nothing'}")
    contenders = [
        Contender(row, seed, Policy.from_pretrained(run / name, task=task.name, device=device))
        for name, (row, seed) in names.items()
    ]
    contenders.sort(key=lambda c: (c.row != "teacher", c.row != "dnk", c.row, c.seed))
    scenes = task.scenes(config.trials, config.scene_seed)
    both_open = demonstrations.open_on_both_sides(scenes)
    with exclusive(folder):
        experiment.resume(begun=(folder / EPISODES).exists())
        records = evaluate(
            contenders, scenes, folder, timeout=config.timeout, real_clock=config.clock == "real",
            filmed=both_open[0] if both_open else 0, experiment=experiment,
        )  # fmt: skip
        clouds = candidate_clouds(contenders, scenes, both_open, folder)
    rows = {name: _summary(records, clouds, name) for name in dict.fromkeys(c.row for c in contenders)}
    report = experiment.record(
        config={"evaluate": asdict(config), **provenance(run, task, names)},
        seeds={"scenes": config.scene_seed, "training": sorted({c.seed for c in contenders})},
        rows=rows,
        notes=[*_notes(config, len(both_open)), *training_notes(run, task)],
    )
    beside = (EPISODES, "candidates.safetensors", "motion.safetensors")
    seal(folder / "comparison.json", report, [name for name in beside if (folder / name).exists()])
    return folder


def _summary(records: Sequence[dict[str, Any]], clouds: Sequence[dict[str, Any]], row: str) -> dict[str, Any]:
    mine = [r for r in records if r["row"] == row]
    seeds = [r["seed"] for r in mine]
    summary = {name: summarize([r[name] for r in mine], seeds) for name in TRIAL_METRICS}
    cloud = [c for c in clouds if c["row"] == row]
    for name in ("candidate_spread_mm", "teacher_distance_mm", "candidates_free"):
        summary[name] = summarize([c[name] for c in cloud], [c["seed"] for c in cloud])
    sided = [c for c in cloud if "sides" in c]
    if sided:
        seeds = [c["seed"] for c in sided]
        teacher = {c["scene"]: np.array(c["sides"]) for c in clouds if c["row"] == "teacher" and "sides" in c}
        for i, side in enumerate(("left", "right", "over")):
            summary[f"side_{side}"] = summarize([c["sides"][i] for c in sided], seeds)
        # Both sides are used where each has at least one candidate in twenty.
        summary["both_sides_used"] = summarize([float(min(c["sides"][:2]) >= 0.05) for c in sided], seeds)
        distance = [0.5 * float(np.abs(np.array(c["sides"]) - teacher[c["scene"]]).sum()) for c in sided]
        summary["side_distance_from_teacher"] = summarize(distance, seeds)
    return summary


def _notes(config: EvaluateConfig, both_open: int) -> list[str]:
    clock = {
        "charged": "Simulated time advanced by each decision's measured wall time (charged clock).",
        "real": "Wall time (real clock).",
    }[config.clock]
    return [
        clock,
        "Methods took turns scene by scene (one that joined an evaluation later, by itself); the first 50 decisions of "
        "each were thrown away.",
        f"Sides are counted at the start of the {both_open} scenes in which the planner found a way on the left and on "
        "the right of the blocking obstacle; side_distance_from_teacher is the total variation distance of the shares "
        "left, right and over.",
        "teacher_distance_mm is between each candidate and the teacher's from the same noise, root mean square over "
        "candidates and rows, at every scene's start: no selector has a say in it.",
        "candidates_free is the share of all candidates, not only the chosen one, whose path keeps the tool (3 cm) off "
        "every obstacle: the rest is what the selector has to throw away.",
        "Standard deviations are over all trials of all training seeds; per_seed holds each training seed's mean.",
        "completion_time_s is over successful trials.",
    ]
