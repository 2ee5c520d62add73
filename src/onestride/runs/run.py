"""A run's folder: what is where in it, of which task it is, and what its parts were made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from onestride.checkpoint import CONFIG, load_config
from onestride.data.episode import Episode
from onestride.data.minari import SEAL, read_dataset, read_metadata
from onestride.files import METADATA, CheckpointError
from onestride.methods import METHODS
from onestride.methods.method import Domain
from onestride.networks.normalizer import Normalizer
from onestride.runs.made_with import PRESET
from onestride.runs.trainable import UntrainedError
from onestride.seals import check_files, check_seal
from onestride.tasks import TASKS
from onestride.tasks.bodies import BODIES
from onestride.tasks.task import Task
from onestride.training.material import Material

RETURNS, CRITIC, TEACHER, PAIRS = "returns", "iql", "teacher", "pairs"
#: The run's own episodes, and those of another body beside them.
DATA, SOURCE = "data", "source"
CONTEXTS = "contexts"  # which body every window of both is like
#: What of a dataset's metadata decides what is learnt from it.
PROVENANCE_KEYS = (
    "seed",
    "episodes",
    "steps",
    "generator_version",
    "planner",
    "behaviours",
    "dataset",
    "source",
    "content",
    "total_steps",
)


def task_of(run: Path) -> Task:
    """The task of a run's data."""
    name = str(metadata_of(run).get("task"))
    if name not in TASKS:
        raise CheckpointError(f"{run / 'data'} is a dataset of another task: {TASKS.unknown(name)}")
    return TASKS[name]()


def trained_methods(run: Path) -> dict[str, tuple[str, int]]:
    """Folders of the run that hold planners -> row of the table and training seed: ``dnk-0`` is ("dnk", 0)."""
    found = {}
    for path in sorted(run.glob(f"*/{CONFIG}")):
        name = path.parent.name
        kind = str(load_config(path.parent)["kind"])
        if kind in METHODS and METHODS[kind]().compared:
            row, _, seed = name.rpartition("-")
            found[name] = (row, int(seed)) if seed.isdigit() else (name, 0)
    return found


def data_report(run: Path) -> dict[str, Any]:
    """What the run's data is: counts, where from, seed."""
    metadata = metadata_of(run)
    keys = (*PROVENANCE_KEYS, "counts", "episodes_per_s", "steps_per_s", "generator", "task")
    return {k: metadata[k] for k in keys if k in metadata}


def without_history(config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's config without its loss curve, which stays with the checkpoint."""
    return {**config, "training": {k: v for k, v in config["training"].items() if k != "history"}}


# ---------------------------------------------------------------- what is learnt from


class Sealed(TypedDict):
    """What a dataset's seal says."""

    files: dict[str, str]


def metadata_of(run: Path, of: str = DATA) -> dict[str, Any]:
    """Return the metadata of a run's data, or of its source, held against its digest.

    Raises:
        FileNotFoundError: there is no data.
        CheckpointError: it was altered, or is from before there were digests.
    """
    read_metadata(run / of)  # that there is none comes first
    _check_data(run / of, str(METADATA))
    return read_metadata(run / of)


def episodes_of(run: Path, of: str = DATA) -> Iterator[Episode]:
    """Return the episodes of a run's data, or of its source, all files of which are held against their digests first.

    Raises:
        FileNotFoundError: there is no data.
        CheckpointError: it was altered, or is from before there were digests.
    """
    read_metadata(run / of)
    _check_data(run / of)
    return read_dataset(run / of)


def _check_data(folder: Path, *names: str) -> None:
    """names: of the files that are looked at; all of them by default."""
    path = folder / SEAL
    again = f"delete {folder}, and collect or import it again"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no digest ({SEAL}): it is of an earlier version; {again}")
    files = check_seal(path, Sealed, advice=again)["files"]
    check_files(path, {name: files.get(name, "nothing of it") for name in names or files}, advice=again)


def material_of(run: Path, task: Task, of: str = DATA) -> Material:
    """Return what the run's data, or its source, gives to learn from."""
    return Material(task, partial(episodes_of, run, of), run / of)


def wants_source(run: Path) -> None:
    """Raise CheckpointError unless the run has a source."""
    if not (run / SOURCE).exists():
        raise CheckpointError(
            f"{run} has no source, whose episodes this learns from: `onestride source OTHER_RUN --run {run}`"
        )


def materials_of(run: Path, task: Task, domain: Domain) -> list[Material]:
    """Return what there is to learn from of the run's own episodes, its source's, or both, normalised alike.

    Raises:
        CheckpointError: there is no source.
    """
    wanted = {"own": (DATA,), "source": (SOURCE,), "both": (DATA, SOURCE)}[domain]
    if SOURCE in wanted:
        wants_source(run)
    parts = [material_of(run, task, of) for of in wanted]
    if len(parts) == 1:
        return parts
    shared = Normalizer.fit_chunks((chunk for part in parts for chunk in part.chunks()), task.scaling)
    return [replace(part, given=shared) for part in parts]


def preset_of(task: Task, dataset: str = "") -> str:
    """A preset for such a task, or for a data set of it, to be named in advice."""
    from onestride.runs.presets import PRESETS  # which need everything that a run is made of

    names = (f"{name}-small" for name in (dataset, task.name, _body(task.name)))
    return next((name for name in names if name in PRESETS), "demo" if task.benchmark is None else "gym-small")


def _body(task: str) -> str:
    """What presets are made for: a task, of the bodies of locomotion without its version."""
    body = task.split("-")[0]
    return body if body in BODIES else task


def check_preset_matches_task(run: Path, preset: str, of: str, dataset: str = "") -> None:
    """Whether a preset of task ``of`` ("": of any environment) fits the run's data, if there is any, in any version.

    dataset: the name of the data set that the preset is of, if it is of a certain one.

    Raises:
        ValueError: it is of another.
    """
    if not (run / "data").exists():
        return
    task, said = task_of(run), metadata_of(run)
    if not of and task.benchmark is not None:
        return  # of any environment
    found = str(said.get("dataset", ""))
    advice = _advice(task, said)
    if not fits(task, of):
        raise ValueError(f"{run} is of task '{task.name}', and preset '{preset}' of '{of}'; {advice}")
    made_by = [str(each["name"]) for each in said.get("behaviours", ())]
    if found != dataset and (found or len(made_by) > 1):
        raise ValueError(
            f"{run / 'data'} is {found or 'data'} by {', '.join(made_by)}, and preset '{preset}' is of "
            f"{dataset or 'other data'}; {advice}"
        )


def fits(task: Task, of: str) -> bool:
    """Return whether a preset of task ``of`` ("": of any environment) is for this task, in any version of it."""
    return task.benchmark is not None if not of else _body(task.name) == _body(of)


def _advice(task: Task, metadata: dict[str, Any]) -> str:
    if PRESET in metadata:
        return f"leave --preset away: the run's is '{metadata[PRESET]}'"
    near = preset_of(task, str(metadata.get("dataset", "")))
    other = "gym-tiny, as the run was made" if near == "gym-small" else "another of its body"
    return f"give --preset {near}, or {other}"  # the run does not say with which it was made


# ---------------------------------------------------------------- what made it


def checkpoint_id(folder: Path) -> str:
    """Return which training made the checkpoint there.

    Raises:
        CheckpointError: none has yet.
    """
    if not (folder / CONFIG).is_file():
        run = folder.parent
        said = metadata_of(run)
        raise UntrainedError(folder, said.get(PRESET) or preset_of(task_of(run), str(said.get("dataset", ""))))
    return load_config(folder)["training"]["id"]


def data_identity(run: Path, of: str = DATA) -> dict[str, Any]:
    """Return what of a run's data, or of its source, decides what is learnt from it."""
    metadata, early = metadata_of(run, of), task_of(run).early_oversampling
    return {k: metadata[k] for k in PROVENANCE_KEYS if k in metadata} | ({"early": list(early)} if early[1] > 1 else {})
