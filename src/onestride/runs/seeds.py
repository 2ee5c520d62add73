"""Stages one after another; on a cluster their training seeds, and stages that do not need each other, side by side."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onestride.checkpoint import plain, settings_of, typed
from onestride.methods import METHODS
from onestride.methods.dynamics import ContextsConfig
from onestride.networks.vision import VisionConfig
from onestride.progress import track
from onestride.runs.run import CONTEXTS, PAIRS, RETURNS
from onestride.runs.stage import Stage
from onestride.runs.stages import run_stage
from onestride.scale.cluster import Cluster
from onestride.scale.place import current
from onestride.scale.units import UNITS, Result, Unit
from onestride.training.config import TrainConfig

TRAIN = "onestride.runs.seeds:train_seed"
WHERE = "a unit of work"


def run_stages(
    run: Path, stages: Sequence[Stage], device: str = "cpu", seeds: Sequence[int] | None = None
) -> list[Path]:
    """Do stages of a preset, on a cluster where there is one; returns the folders that were made.

    seeds: of training, in place of the stages'.
    """
    cluster = current()
    if cluster is None:
        return [folder for stage in stages for folder in run_stage(run, stage, device, seeds)]
    made: list[Path] = []
    for wave in waves(stages):
        if wave[0].role == "pairs":  # its shards are units of their own
            made += run_stage(run, wave[0], device)
        else:
            made += _trained(cluster, run, wave, seeds)
    return made


def waves(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Return stages in their order, those together of which none needs what another of them makes."""
    made: list[list[Stage]] = []
    for stage in (each.complete() for each in stages):
        alone = stage.role == "pairs" or (made and made[-1][0].role == "pairs")
        if not made or alone or needed(stage) & {makes(other) for other in made[-1]}:
            made.append([])
        made[-1].append(stage)
    return made


def makes(stage: Stage) -> str:
    """Return the folder in the run that a stage makes, without its seed."""
    method = METHODS[stage.what]() if stage.role == "method" else None
    return stage.what if method is None else method.folder or method.name


def needed(stage: Stage) -> set[str]:
    """Return the folders in the run that a stage learns from or is ranked by, without their seeds."""
    if stage.role != "method":
        return set()
    method = METHODS[stage.what]()
    folders = {stage.selector, method.critic, method.begins_from, RETURNS if stage.guidance else None}
    folders |= {PAIRS} if method.needs == "pairs" else set()
    folders |= {CONTEXTS} if method.contexts else set()
    if method.taught_by is not None:
        teacher = method.taught_by(stage.config)
        folders |= {teacher, teacher.rpartition("-")[0]}
    elif method.teacher is not None:
        folders.add(METHODS[method.teacher]().folder or method.teacher)
    return {folder for folder in folders if folder}


# ---------------------------------------------------------------- units of work


def _trained(cluster: Cluster, run: Path, stages: Sequence[Stage], seeds: Sequence[int] | None) -> list[Path]:
    units = [unit for stage in stages for unit in seed_units(run, stage, seeds)]
    order = {unit.name: i for i, unit in enumerate(units)}
    folders: dict[str, str] = {}
    with track("trainings", len(units)) as bar:
        # What is trained already, its folder knows better than a unit: its data may be others now.
        for unit, result in cluster.run(units, run / UNITS, gpu=cluster.has_gpu, again=True):
            folders[unit.name] = result.said
            unit.path(run / UNITS).unlink(missing_ok=True)
            bar.update(len(folders), unit.name)
    shutil.rmtree(run / UNITS, ignore_errors=True)
    return [run / folders[name] for name in sorted(folders, key=order.__getitem__)]


def seed_units(run: Path, stage: Stage, seeds: Sequence[int] | None = None) -> list[Unit]:
    """Return a stage's trainings as units of work, one for each seed where it has several."""
    each = stage.seeds if seeds is None else seeds
    if stage.role != "method" or METHODS[stage.what]().folder is not None:
        each = each[:1]  # it is trained once
    said = {"run": str(run.resolve()), "stage": plain(asdict(stage))}
    return [Unit(f"{stage.name}-{seed}", TRAIN, said | {"seed": seed}) for seed in each]


def train_seed(arguments: Mapping[str, Any]) -> Result:
    """Train a unit's stage with its seed in this process; it goes on where one that was killed has stopped."""
    (folder,) = run_stage(Path(arguments["run"]), stage_of(arguments["stage"]), seeds=(arguments["seed"],))
    return Result(folder.name)


def stage_of(said: Mapping[str, Any]) -> Stage:
    """Return a stage from what JSON says of it."""
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    plain_stage = Stage(name=made["name"], role=made["role"], of=made["of"]).complete()
    kinds = {
        "config": ContextsConfig if plain_stage.role == "contexts" else type(plain_stage.config),
        "training": TrainConfig, "vision": VisionConfig, "options": type(plain_stage.options),
    }  # fmt: skip
    for name, kind in kinds.items():
        if made[name] is not None:
            # A training may have more steps than ``settings_of`` lets a network have.
            value = made[name]
            made[name] = typed(value, kind, WHERE) if kind is TrainConfig else settings_of(kind, value, WHERE)
    return Stage(**made)
