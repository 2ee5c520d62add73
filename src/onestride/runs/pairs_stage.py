"""The stage that makes pairs of a run: by this process, or shard by shard on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onestride.checkpoint import load_config, plain, settings_of
from onestride.engine.cuda_graph import in_one_graph
from onestride.files import CheckpointError
from onestride.methods.settings import solver
from onestride.policy.policy import Policy, unselected
from onestride.runs.pairs import Cut, PairsConfig, Shard, make_pairs, make_shards, write_shard
from onestride.runs.run import PAIRS, SOURCE, data_identity, material_of, task_of
from onestride.scale.cluster import Cluster
from onestride.scale.place import current
from onestride.scale.units import UNITS, Result, Unit
from onestride.tasks.task import Task
from onestride.training.datasets import Rows

SHARD = "onestride.runs.pairs_stage:make_shard"


def pairs_stage(run: Path, config: PairsConfig, device: str = "cpu", name: str = PAIRS) -> Path:
    """Make teacher-target pairs of a planner of the run, its teacher by default, in ``run/<name>``."""
    folder, task, made_by = run / name, task_of(run), run / config.teacher
    config_of = load_config(made_by)
    if task.score is None and "ranked_by" not in config_of and not config_of["plan"]["conditions"]:
        raise CheckpointError(
            f"{made_by} has no selector, and pairs weigh by their score; repeat the command that trained it, "
            "which is quick, with --selector returns"
        )
    identity = {"data": data_identity(run), "teacher": config_of["training"]["id"]}
    identity |= {key: config_of[key] for key in ("guidance", "ranked_by", "asked") if key in config_of}
    if (run / SOURCE).exists():
        identity["source"] = data_identity(run, SOURCE)
    if (cluster := current()) is not None:
        make_shards(partial(_on_cluster, cluster, run, config, device, folder, identity), config, folder, identity)
    else:
        teacher = teacher_of_pairs(run, config, device)
        make_pairs(teacher, starts_of(run, task), config, folder, identity)
    return folder


def teacher_of_pairs(run: Path, config: PairsConfig, device: str) -> Policy:
    """Return the planner of a run that makes pairs, ready to make blocks of them."""
    task, folder = task_of(run), run / config.teacher
    selector = unselected if task.score is None and "ranked_by" not in load_config(folder) else None
    teacher = Policy.from_pretrained(
        folder, task=task.name, device=device, precision=config.precision, selector=selector
    )
    teacher = teacher.with_settings(solver(config.solver))
    if teacher.device.type == "cuda":
        teacher.generator = in_one_graph(teacher.generator)  # blocks are all of one size
    return teacher


def starts_of(run: Path, task: Task) -> Rows:
    """Return where pairs' plans start: what is observed where the run's windows begin, and its source's beside them."""
    own = material_of(run, task).decision_observations()
    if not (run / SOURCE).exists() or not isinstance(own, Tensor):
        return own
    other = material_of(run, task, SOURCE).decision_observations()
    assert isinstance(other, Tensor)
    times = max(1, len(other) // len(own))  # as many of each, nearly
    return torch.cat((own.repeat(times, 1), other))


# ---------------------------------------------------------------- on a cluster


def _on_cluster(
    cluster: Cluster, run: Path, config: PairsConfig, device: str, folder: Path, identity: dict[str, Any],
    missing: Sequence[Cut], report: Callable[[int, str], None],
) -> Iterator[tuple[Cut, Shard]]:  # fmt: skip
    """Yield shards as they come from a cluster, each written by a process of it."""
    del report  # a shard that is done is all that is known
    said = {
        "run": str(run.resolve()), "folder": str(folder.resolve()), "config": plain(asdict(config)), "device": device,
        "identity": identity,
    }  # fmt: skip
    of = {cut.name.partition(".")[0]: cut for cut in missing}
    units = [Unit(name, SHARD, said | {"cut": list(cut)}) for name, cut in of.items()]
    for unit, result in cluster.run(units, folder / UNITS, gpu=device.startswith("cuda")):
        yield of[unit.name], result.said
        unit.path(folder / UNITS).unlink(missing_ok=True)  # it is in the manifest now
    shutil.rmtree(folder / UNITS, ignore_errors=True)


def make_shard(arguments: Mapping[str, Any]) -> Result:
    """Make a unit's shard in this process."""
    config = settings_of(PairsConfig, arguments["config"], "a unit of work")
    run = Path(arguments["run"])
    teacher, starts, more = _ready(run, config, arguments["device"], str(arguments["identity"]))
    name, first, last = arguments["cut"]
    return Result(write_shard(teacher, starts, config, Path(arguments["folder"]), Cut(name, first, last), more))


@lru_cache(1)
def _ready(run: Path, config: PairsConfig, device: str, _identity: str) -> tuple[Policy, Rows, torch.Generator]:
    """What makes a run's blocks; the last one is kept, since loading takes longer than a shard may."""
    teacher = teacher_of_pairs(run, config, device)
    return teacher, starts_of(run, task_of(run)), torch.Generator(teacher.device)
