"""A preset's stages in their order, the evaluation of what they made, and what of it is published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

from onestride.data.minari import read_metadata
from onestride.evaluation import evaluate as evaluation
from onestride.evaluation.result import read_experiment
from onestride.files import all_or_nothing, ensure_writable, read_json, write_atomically, write_json
from onestride.reports.style import save
from onestride.runs import stages
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.runs.stage import Preset
from onestride.studies import ablations as ablation
from onestride.studies import arm_page, dnk_table1, dnk_table2, locomotion_page
from onestride.tasks.task import Task


@dataclass(frozen=True)
class Outcome:
    """Where the results are, the page made of them (if one was), and the table for the terminal."""

    folder: Path
    page: Path | None
    table: Table


def make(run: Path, preset: Preset, task: Task, behaviours: Sequence[Path], device: str) -> None:
    """Every stage of a preset up to its students."""
    given = imported(run) or ((run / "data").exists() and (task.needs_actor or not task.has_demonstrator))
    if given and not behaviours:
        pass  # it is taken as it is
    elif task.has_demonstrator:
        stages.plan_stage(run, task, preset.amount, preset.data_seed, behaviours)
    else:
        stages.behaviour_stage(run, task, behaviours, preset.amount, preset.data_seed, preset.data)
    for stage in preset.stages:
        stages.run_stage(run, stage, device)


def imported(run: Path) -> bool:
    """Whether the run's data is somebody's, which no preset could make again."""
    return (run / "data").exists() and "source" in read_metadata(run / "data")


def evaluate(run: Path, config: EvaluateConfig | ReturnsConfig, command: str, device: str, pictures: bool) -> Outcome:
    """The run's planners compared as its task is: trials of the arm, returns of a benchmark."""
    folder = evaluation.evaluate(run, config, command, device)
    comparison, page = read_experiment(folder / "comparison.json"), run / "report.html"
    if isinstance(config, ReturnsConfig):
        locomotion_page.write(folder, run, pictures, page, device)
        return Outcome(folder, page, dnk_table1.terminal_table(comparison))
    arm_page.write(folder, run, pictures, page)
    return Outcome(folder, page, dnk_table2.terminal_table(comparison))


def ablations(run: Path, preset: Preset, command: str, device: str) -> Outcome:
    """DNK with one piece taken away at a time, beside the run's table."""
    folder = ablation.ablate(run, preset, command, device)
    comparison = read_experiment(folder / "comparison.json")
    save(ablation.figure(comparison), folder / "ablations.png")
    return Outcome(folder, None, ablation.terminal_table(comparison))


# ---------------------------------------------------------------- publishing

ARM = ("comparison.json", "episodes.jsonl", "candidates.png", "pca.png", "latency.png", "frames.png", "arms.gif")
RECORDS = ("comparison.json", "episodes.jsonl", "candidates.jsonl", "latency.json")
PICTURES = ("pareto.png", "returns.png", "pca.png", "latency.png", "frames.png", "replay.gif", "ablations.png")


def published(to: Path, name: str | None) -> dict[str, Path]:
    """What an evaluation leaves -> where it goes, checked before any work.

    name: of a benchmark's dataset, whose ``comparison.json`` becomes ``<name>.json`` and everything else
    ``<name>.<what>``; None keeps the arm's names.

    Raises:
        FileExistsError: one of them is there already; OSError: the folder cannot be written.
    """
    ensure_writable(to)
    if name is None:
        files = {f: to / f for f in ARM}
    else:
        files = {f: to / (f"{name}.json" if f == "comparison.json" else f"{name}.{f}") for f in (*RECORDS, *PICTURES)}
    begun = _begun(to, files)
    there = [target.name for target in files.values() if target.exists() and target.name not in begun]
    if there:
        raise FileExistsError(f"{to} holds {', '.join(there)} already; name another folder, or remove them first")
    return files


def publish(folder: Path, files: dict[str, Path]) -> None:
    """Copy what is there: all of it, or nothing where the disk is full.

    A note of what is being copied lies beside it meanwhile, so that the same command finishes what a kill has cut.
    """
    if not files:
        return
    note = _note(next(iter(files.values())).parent, files)
    with all_or_nothing((*files.values(), note)):
        write_json(note, sorted(target.name for source, target in files.items() if (folder / source).exists()))
        for source, target in files.items():
            if (folder / source).exists():
                write_atomically(target, partial(shutil.copyfile, folder / source))
    note.unlink()


def _note(to: Path, files: dict[str, Path]) -> Path:
    return to / f".{files['comparison.json'].name}.publishing"


def _begun(to: Path, files: dict[str, Path]) -> list[str]:
    """What a killed command was publishing under these names."""
    note = _note(to, files)
    return read_json(note, list[str]) if note.exists() else []
