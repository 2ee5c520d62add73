"""What a method learns from in a run: whose windows, which conditions, whose plans, whose weights it begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from onestride.checkpoint import CONFIG, load_config, settings_of
from onestride.files import CheckpointError
from onestride.methods import METHODS
from onestride.methods.method import Domain, Method
from onestride.networks.conditions import COLUMN
from onestride.networks.normalizer import Normalizer
from onestride.plans.asking import Asking, Condition
from onestride.policy.policy import Policy
from onestride.runs.contexts import columns_of, of_set
from onestride.runs.pairs import MANIFEST, load_manifest, load_pairs
from onestride.runs.run import (
    CONTEXTS,
    SOURCE,
    TEACHER,
    checkpoint_id,
    data_identity,
    material_of,
    materials_of,
    task_of,
    wants_source,
)
from onestride.runs.sight import Sight
from onestride.selectors.store import load_selector
from onestride.tasks.task import Task
from onestride.training.datasets import Dataset, Resident, Stratified
from onestride.training.material import Material
from onestride.training.neighbours import with_neighbours


def task_for(
    run: Path, method: Method, config: Any, horizon: int | None, prefix: int | None, pairs: str
) -> Task:  # fmt: skip
    """Return the run's task as a method plans in it: rows, the longest prefix, and what its plans may be asked for.

    Raises:
        ValueError: its teacher's plans have another longest prefix.
    """
    task, taught = task_of(run), _plan_of_teacher(run, method, config, pairs)
    rows = task.shortest if method.shortest else taught.get("horizon", task.control.horizon)
    theirs = taught.get("prefix", 0)
    if taught and prefix not in (None, theirs):
        raise ValueError(
            f"prefix is {prefix}, and that of the plans which {method.label} learns from is {theirs}: leave --prefix "
            "away, or train the teacher with it"
        )
    task = replace(task.with_control(horizon=horizon or rows), prefix=prefix or theirs)
    return replace(task, conditions=_conditions_of(run, task, method, config, pairs))


def _plan_of_teacher(run: Path, method: Method, config: Any, pairs: str) -> dict[str, Any]:
    """Return the shape of the plans of the planner that a method learns from, who may be adopted; {}: of none."""
    folder = taught_by(run, method, config, pairs)
    if folder is None or not (folder / CONFIG).is_file():
        return {}
    return load_config(folder).get("plan", {})  # of no planner: refused later, in words


def _conditions_of(run: Path, task: Task, method: Method, config: Any, pairs: str) -> tuple[Condition, ...]:
    """Return what a method's plans may be asked for; of a student: what its teacher's may."""
    if method.conditional:
        return (*task.conditions, *method.conditions)
    said = _plan_of_teacher(run, method, config, pairs).get("conditions", ())
    return tuple(Condition(name, size) for name, size in said)


def asked_by_default(run: Path, method: Method, config: Any, pairs: str) -> dict[str, Any]:
    """Return what decisions ask for where nobody says anything; those of a student ask as its teacher's."""
    teacher = taught_by(run, method, config, pairs)
    if method.conditional or teacher is None:
        return dict(method.asked)
    return load_config(teacher).get("asked", {})


def ranges_of(run: Path, task: Task, method: Method, config: Any, pairs: str) -> dict[str, tuple[float, float]]:
    """Return between which numbers each condition may be asked for; of a student: as its teacher's."""
    teacher = taught_by(run, method, config, pairs)
    if method.conditional or teacher is None:
        return {each.name: (each.low, each.high) for each in task.conditions}
    asking, made, at = Asking.of(Policy.from_pretrained(teacher).generator), {}, 0
    for name, size in zip(asking.names, asking.sizes, strict=True):
        made[name] = (float(asking.low[at]), float(asking.high[at]))
        at += size
    return made


# ---------------------------------------------------------------- teachers


def teacher_of(run: Path, method: Method, config: Any) -> Path | None:
    """Return the folder of the checkpoint that a method learns from; None: of none."""
    if method.taught_by is not None:
        return run / method.taught_by(config)
    return None if method.teacher is None else run / (METHODS[method.teacher]().folder or method.teacher)


def taught_by(run: Path, method: Method, config: Any, pairs: str) -> Path | None:
    """Return the folder of the planner whose plans a method learns from, by pairs or beside it; None: of none."""
    return pairs_teacher(run, pairs) if method.needs == "pairs" else teacher_of(run, method, config)


def domain_of(run: Path, method: Method, config: Any) -> Domain:
    """Return whose episodes a method learns from; taught beside a planner, those that this one learnt from."""
    teacher = teacher_of(run, method, config)
    if method.taught_by is None or method.domain != "own" or teacher is None or not (teacher / CONFIG).is_file():
        return method.domain
    taught = load_config(teacher)["kind"]
    return METHODS[taught]().domain if taught in METHODS else "own"


def pairs_of(run: Path, pairs: str) -> dict[str, Any]:
    """Return the manifest of a run's pairs.

    Raises:
        CheckpointError: there are none.
    """
    if not (run / pairs / MANIFEST).is_file():
        raise CheckpointError(f"{run} holds no pairs to learn from; make them with `onestride pairs --run {run}`")
    return load_manifest(run / pairs)


def pairs_teacher(run: Path, pairs: str) -> Path:
    """Return the folder of the planner that made a run's pairs."""
    made = (run / pairs / MANIFEST).is_file()
    return run / (load_manifest(run / pairs)["settings"].get("teacher", TEACHER) if made else TEACHER)


def beginning(run: Path, method: Method, seed: int) -> Path | None:
    """Return the folder of the planner whose weights a method begins with; None: it begins with none.

    Raises:
        CheckpointError: it is not trained yet.
    """
    if method.begins_from is None:
        return None
    folder = run / f"{method.begins_from}-{seed}"
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} is not trained yet, and {method.label} begins with its weights: train {method.begins_from} "
            f"first, with --seeds {seed}, or take it along with `onestride source`"
        )
    return folder


def begun(folder: Path, config: Any) -> tuple[Any, Policy]:
    """Return the settings and the planner of a folder that a method begins with."""
    return settings_of(type(config), load_config(folder)["generator"], folder / CONFIG), Policy.from_pretrained(folder)


# ---------------------------------------------------------------- data


def identity_of(run: Path, method: Method, config: Any) -> dict[str, Any]:
    """Return what of a run's episodes decides what a method learns from windows or transitions."""
    said: dict[str, Any] = {}
    domain = domain_of(run, method, config)
    if domain != "source":
        said["data"] = data_identity(run)
    if domain != "own":
        wants_source(run)
        said["source"] = data_identity(run, SOURCE)
    if method.contexts:
        said["contexts"] = checkpoint_id(run / CONTEXTS)
    return said


def data_of(
    run: Path, task: Task, method: Method, config: Any, pairs: str, sight: Sight | None, begins: Policy | None
) -> tuple[Dataset, Normalizer]:
    """Return what a method learns from, normalised, and the normaliser of its plans."""
    if method.needs == "pairs":
        teacher = Policy.from_pretrained(pairs_teacher(run, pairs), task=task.name)
        return Resident(load_pairs(run / pairs)), teacher.normalizer
    domain = domain_of(run, method, config)
    if domain != method.domain:  # what it asks for is drawn, and no column
        teacher = teacher_of(run, method, config)
        assert teacher is not None
        return _of_domains(run, replace(task, conditions=()), method, domain, Policy.from_pretrained(teacher))
    if domain != "own" or begins is not None:
        return _of_domains(run, task, method, "both" if begins is not None else domain, begins)
    material = material_of(run, task)
    if (teacher := teacher_of(run, method, config)) is not None:  # it may be adopted, and normalises as it was taught
        material = replace(material, given=Policy.from_pretrained(teacher).normalizer)
    if method.needs == "transitions":
        return Resident(material.steps()), material.normalizer
    (asked,) = _asked([material], task if method.conditional else replace(task, conditions=()))
    if method.columns is not None:
        beside = None if method.critic is None else load_selector(run / method.critic, task_of(run))
        asked |= method.columns(material, beside)
    data, (count, reach) = material.plans(**asked), method.neighbours(config)
    data = data if sight is None else sight.of(data)
    source = material.window_source
    return with_neighbours(data, task.plans, source.start, source.first, count, reach, run), material.normalizer


def _of_domains(
    run: Path, task: Task, method: Method, domain: Domain, before: Policy | None
) -> tuple[Dataset, Normalizer]:
    """Windows of another body's episodes, of both in halves of every batch, or for a planner that began elsewhere.

    before: the planner that it begins from, or that teaches it: they are normalised as its windows were.
    """
    every = materials_of(run, task, domain)
    if before is not None:
        every = [replace(each, given=before.normalizer) for each in every]
    if method.contexts:
        kept = columns_of(run)
        every = [replace(each, scored=of_set(kept, each.source.name)) for each in every]
    columns = _asked(every, task)
    data = [material.plans(**asked) for material, asked in zip(every, columns, strict=True)]
    if len(data) == 2 and method.begins_from is None:
        return Stratified(data, (0.5, 0.5)), every[0].normalizer
    return data[0], every[0].normalizer


def _asked(materials: list[Material], task: Task) -> list[dict[str, Tensor]]:
    """What the windows of each had of every condition, as columns."""
    made: list[dict[str, Tensor]] = [{} for material in materials if len(material.window_source)]  # or it says why
    for each in task.conditions:
        for columns, values in zip(made, each.values(materials), strict=True):
            columns[f"{COLUMN}{each.name}"] = values
    return made
