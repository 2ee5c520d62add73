"""A preset's stages in their order, a study's data sets, and what of their results is published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from onestride.checkpoint import CONFIG
from onestride.data.minari import read_metadata
from onestride.files import all_or_nothing, ensure_writable, read_json, write_atomically, write_json
from onestride.runs import collecting
from onestride.runs.ingest import import_dataset
from onestride.runs.presets import unknown
from onestride.runs.seeds import run_stages
from onestride.runs.stage import Preset
from onestride.studies.dnk import ablations, evaluate
from onestride.studies.study import Job, Outcome, Study
from onestride.tasks import TASKS
from onestride.tasks.bodies import BODIES
from onestride.tasks.task import Task

__all__ = ["Outcome", "ablations", "evaluate", "imported", "make", "preset_for", "publish", "published", "reproduce"]

#: Standard deviation of what is added to an expert's actions before it is cloned, in the actions' units.
CLONED_NOISE = 0.05
LEVELS = ("expert", "medium")  # of behaviours that a data set's name may have; without one it is both


def make(run: Path, preset: Preset, task: Task, behaviours: Sequence[Path], device: str) -> None:
    """Every stage of a preset up to its students."""
    given = imported(run) or ((run / "data").exists() and (task.needs_actor or not task.has_demonstrator))
    if given and not behaviours:
        pass  # it is taken as it is
    elif task.has_demonstrator:
        collecting.plan_stage(run, task, preset.amount, preset.data_seed, behaviours, preset.name)
    else:
        amount, seed = preset.amount, preset.data_seed
        collecting.behaviour_stage(run, task, behaviours, amount, seed, preset.data, preset.name)
    run_stages(run, preset.stages, device)


def imported(run: Path) -> bool:
    """Whether the run's data is somebody's, which no preset could make again."""
    return (run / "data").exists() and "source" in read_metadata(run / "data")


# ---------------------------------------------------------------- a study


def preset_for(study: Study, dataset: str, budget: str) -> Preset:
    """Return what a study trains for one of its data sets.

    Raises:
        ValueError: it has no such data set, or no such budget for it.
    """
    body = dataset.split("-")[0]
    if dataset not in study.datasets and not (body in BODIES and any(body in each for each in study.datasets)):
        raise unknown("dataset", dataset, study.datasets)
    preset = study.preset(dataset, budget)
    return preset if study.methods is None else preset.only(study.methods)


def reproduce(study: Study, job: Job, data: Path | None = None) -> Outcome:
    """Make one data set of a study: its data, what is trained, its evaluation, its page.

    Args:
        study: which.
        job: where and how; one folder as its behaviours holds them by the names of ``behaviours_in``.
        data: a file or folder to import instead of collecting.

    Raises:
        ValueError: there is no data yet, and nothing that it could be made of.
    """
    task, job = TASKS[TASKS.resolve(job.preset.task)](), replace(job, home=study.home)
    if len(job.behaviours) == 1 and job.behaviours[0].is_dir() and not (job.behaviours[0] / CONFIG).exists():
        job = replace(job, behaviours=behaviours_in(job.behaviours[0], job, task))
    if not (job.run / "data").exists():
        if data is not None:
            import_dataset(job.run, task, data, preset=job.preset.name)
        elif not job.behaviours and not task.has_demonstrator:
            raise ValueError(
                f"{job.run} has no data yet: give --behaviours EXPERT MEDIUM (.npz, or .zip of RL-Zoo agents) or the "
                "folder that they are in, or --data with a file recorded in the v5 environment"
            )
    if study.make is not None:
        study.make(job)
    elif study.methods != ():
        make(job.run, job.preset, task, job.behaviours, job.device)
    return study.evaluate(study, job)


def behaviours_in(folder: Path, job: Job, task: Task) -> tuple[Path, ...]:
    """Return the behaviour policies of a data set in a folder: none for a task that makes its own episodes by itself.

    They are called <body>-expert.npz and <body>-medium.npz, <family>-goal.npz, or <task>-expert.npz, to which its noise
    and its clone are added.
    """
    body, *levels = job.dataset.split("-")
    levels = [level for level in levels if level in LEVELS] or list(LEVELS)
    if task.needs_actor:
        names = [f"{body}-goal"]
    elif task.has_demonstrator:
        names = []
    else:
        names = [f"{body}-{level}" for level in sorted(levels)] if body in BODIES else [f"{job.dataset}-expert"]
    found = tuple(path for name in names if (path := folder / f"{name}.npz").is_file())
    return found if body in BODIES or task.has_demonstrator or not found else with_clone(found[0], job, task)


def with_clone(expert: Path, job: Job, task: Task) -> tuple[Path, ...]:
    """Return an expert with noise and its clone, which is trained first, as D4RL's -cloned data are made of.

    Where there is data already nothing is made, and there are none.
    """
    if (job.run / "data").exists():
        return ()
    noisy, run = (expert, Path(f"noise={CLONED_NOISE:g}")), job.run_of(f"{job.dataset}-demonstrations")
    collecting.behaviour_stage(run, task, noisy, job.preset.amount, job.preset.data_seed)
    (clone,) = run_stages(run, [job.preset.stage("bc")], job.device, seeds=(0,))
    return *noisy, clone


# ---------------------------------------------------------------- publishing

FILES = (
    "comparison.json", "episodes.jsonl", "candidates.jsonl", "latency.json", "candidates.png", "pareto.png",
    "returns.png", "pca.png", "latency.png", "frames.png", "replay.gif", "ablations.png", "arms.gif",
    "routes.png", "contexts.png", "masses.png",
)  # fmt: skip


def published(to: Path, name: str | None) -> dict[str, Path]:
    """What an evaluation leaves -> where it goes, checked before any work.

    name: of a benchmark's dataset, whose ``comparison.json`` becomes ``<name>.json`` and everything else
    ``<name>.<what>``; None keeps the arm's names.

    Raises:
        FileExistsError: one of them is there already; OSError: the folder cannot be written.
    """
    ensure_writable(to)
    files = {f: to / f for f in FILES}
    if name is not None:
        files = {f: to / (f"{name}.json" if f == "comparison.json" else f"{name}.{f}") for f in FILES}
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
