"""What an evaluation's numbers were made of: data, pairs, checkpoints, and what of the task decided what was learnt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onestride.checkpoint import CONFIG, load_config
from onestride.data.minari import read_dataset
from onestride.evaluation.metrics import over_seeds
from onestride.files import read_json
from onestride.runs.made_with import PRESET, learns_nothing
from onestride.runs.pairs import MANIFEST
from onestride.runs.run import DATA, RETURNS, data_report, without_history
from onestride.tasks.task import Benchmark, Task


def provenance(run: Path, task: Task, folders: Iterable[str]) -> dict[str, Any]:
    """Return the part of a record's ``config`` that says what the run's planners were made of.

    Args:
        folders: of checkpoints and selectors, below ``run``.
    """
    early, times = task.early_oversampling
    return {
        "data": data_report(run),
        "task": {
            "horizon": task.control.horizon,
            "control_dt_s": task.control.control_dt,
            "early": {"steps": early, "times": times},
        },
        "pairs": pairs_report(run),
        **{name: without_history(load_config(run / name)) for name in sorted(folders)},
    }


def pairs_report(run: Path) -> dict[str, Any]:
    """Return the settings of all pairs below ``run``, by folder, and what they were made from."""
    found = {}
    for path in sorted(run.rglob(MANIFEST)):
        manifest = read_json(path)
        found[str(path.parent.relative_to(run))] = {key: manifest.get(key) for key in ("settings", "identity")}
    return found


def training_cost(folders: Iterable[Path]) -> dict[str, Any]:
    """Return what a row's planners were trained for, by checkpoint: updates, and how long they took [s].

    Without what they learn from: a student's teacher has a row of its own.
    """
    said = [load_config(folder)["training"] for folder in dict.fromkeys(folders)]
    known = {
        "training_steps": [each.get("steps") for each in said],
        "training_s": [each.get("seconds") for each in said],
    }
    return {name: over_seeds(values) for name, values in known.items() if None not in values}


def data_returns(run: Path, benchmark: Benchmark) -> str:
    """Return what the episodes earn that the run's planners learnt from, in a sentence."""
    earned = [benchmark.normalised(float(episode.rewards.sum(dtype=float))) for episode in read_dataset(run / DATA)]
    return (
        f"The data's {len(earned):,} episodes return {sum(earned) / len(earned):.4g} on average, from "
        f"{min(earned):.4g} to {max(earned):.4g}."
    )


def preset_notes(config: dict[str, Any]) -> list[str]:
    """Return what the planners' presets do to the numbers, in sentences: none where one preset made all, to learn.

    Args:
        config: of an evaluation's record. Checkpoints of earlier versions, and those with settings of their own, do
            not say a preset.
    """
    made: dict[str, list[str]] = {}
    for name, said in sorted(config.items()):
        training = said.get("training") if isinstance(said, dict) else None
        if isinstance(training, dict) and PRESET in training:
            made.setdefault(str(training[PRESET]), []).append(name)
    notes = [
        f"Preset '{preset}' is there to try commands: {', '.join(names)} learnt nothing in its few steps, and what is "
        "measured of them is useless."
        for preset, names in made.items()
        if learns_nothing(preset)
    ]
    if len(made) > 1:
        trained = "; ".join(f"{', '.join(names)} by '{preset}'" for preset, names in made.items())
        notes.append(f"Trained by different presets: {trained}. Rows differ by that too, not by their methods alone.")
    return notes


def training_notes(run: Path, task: Task) -> list[str]:
    """Return what of the training a reader of the numbers has to know, in sentences."""
    early, times = task.early_oversampling
    notes = [f"Training learns {times} times over from what begins in an episode's first {early} steps."]
    if times <= 1:
        notes = ["Training learns from every step of an episode equally often."]
    if (run / RETURNS / CONFIG).is_file():
        discount = load_config(run / RETURNS)["selector"]["discount"]
        notes.append(
            f"The return model tells the rewards of a plan and of all that follows to the episode's end, discounted by "
            f"{discount:g} per step: a horizon of about {1 / (1 - discount):.0f} steps."
        )
    return notes
