"""The stages, from episodes to planners, on one run folder::

    <run>/data       Minari dataset          collect, or import (ingest.py)
    <run>/source     another body's          source (sources.py)
    <run>/contexts   scores of windows of both
    <run>/returns    return model            } selectors, of tasks that have none of their own
    <run>/iql        IQL critic              }
    <run>/teacher    checkpoint
    <run>/pairs      shards
    <run>/dnk-0 ...  checkpoints, one per method and training seed
    <run>/evaluation records and results     evaluate

Which task a run is of stands in its data. Each stage is finished or goes on where it was: running one again after a
kill, or after it is done, is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onestride.checkpoint import CONFIG, load_config, plain, seal_with
from onestride.folders import replace_folder
from onestride.methods import METHODS
from onestride.methods.asked import AskedLearner, AskedPlanner
from onestride.methods.method import Method
from onestride.methods.prefixed import PrefixedPlanner, refuse_prefix
from onestride.methods.wrapped import WrappedLearner
from onestride.networks.vision import VisionConfig
from onestride.policy.policy import Policy
from onestride.policy.store import GUIDE, SELECTOR, make_generator
from onestride.progress import console
from onestride.runs.contexts import train_contexts
from onestride.runs.finished import is_up_to_date, record
from onestride.runs.learning import (
    asked_by_default,
    beginning,
    begun,
    data_of,
    identity_of,
    pairs_of,
    ranges_of,
    task_for,
    teacher_of,
)
from onestride.runs.pairs_stage import pairs_stage
from onestride.runs.run import PAIRS, RETURNS, checkpoint_id, data_identity, material_of, task_of
from onestride.runs.sight import Sight, sight_of
from onestride.runs.stage import TRAINING, Stage
from onestride.seals import seal
from onestride.selectors import SELECTORS
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.store import load_selector, make_selector, make_selector_model, save_selector
from onestride.tasks.task import Task
from onestride.training.config import TrainConfig
from onestride.training.datasets import Dataset
from onestride.training.learner import as_learner
from onestride.training.loop import finish, train
from onestride.training.neighbours import Neighbours
from onestride.training.ranks import Ranks, wait_for_all

# ---------------------------------------------------------------- what is trained


def run_stage(run: Path, stage: Stage, device: str = "cpu", seeds: Sequence[int] | None = None) -> list[Path]:
    """Do one stage of a preset; returns the folders it made, one per training seed. seeds: in place of the stage's."""
    stage = stage.complete()
    training = stage.training or TRAINING
    if stage.role == "pairs":
        return [pairs_stage(run, stage.config, device)]
    if stage.role == "contexts":
        return [train_contexts(run, stage.config, training, stage.preset)]
    if stage.role == "selector":
        return [train_selector(run, stage.what, stage.config, training, stage.options, stage.preset)]
    method = METHODS[stage.what]()
    each = stage.seeds if seeds is None else seeds
    if method.folder is not None:
        each = each[:1]  # a teacher is trained once
    return [
        train_method(
            run, method, stage.config, replace(training, seed=seed), selector=stage.selector,
            guidance=stage.guidance, horizon=stage.horizon, prefix=stage.prefix, vision=stage.vision,
            preset=stage.preset,
        )
        for seed in each
    ]  # fmt: skip


def train_selector(
    run: Path, name: str, config: Any, training: TrainConfig, options: Any = None, preset: str = ""
) -> Path:
    """Train a selector of that kind into ``run/<name>``; other options later need no other training.

    preset: see ``train_method``.
    """
    folder, task, kind = run / name, task_of(run), SELECTORS[name]()
    if task.control.cameras and kind.learnt:
        raise ValueError(f"selector '{name}' looks at no image, and task '{task.name}' has cameras: rank by medoid")
    options = kind.options if options is None else options
    if not kind.learnt:
        if Ranks.here().first:
            made = kind.make(None, material_of(run, task).normalizer, task.control, options)
            save_selector(folder, made, task.name, {"id": name})
        return folder
    identity = {"data": data_identity(run), "selector": asdict(config)}
    if not is_up_to_date(folder, training, identity):
        assert kind.data is not None
        material = material_of(run, task)
        data, normalizer = kind.data(material, config), material.normalizer
        del material  # its windows are no longer needed
        torch.manual_seed(training.seed)
        model = make_selector_model(name, asdict(config), task)
        ema, log = train(model, data, training, folder, title=name, identity=identity)
        if Ranks.here().first:
            selector = make_selector(name, ema, normalizer, task.control, options)
            save_selector(folder, selector, task.name, record(training, identity, log, preset))
            finish(folder)
        wait_for_all()
    said = load_config(folder)
    if said["options"] != (wanted := plain(asdict(options))) and Ranks.here().first:
        seal(folder / CONFIG, said | {"options": wanted})
    return folder


def train_method(
    run: Path, method: Method, config: Any, training: TrainConfig, *, selector: str | None = None,
    guidance: float = 0.0, horizon: int | None = None, prefix: int | None = None, name: str | None = None,
    pairs: str = PAIRS, vision: VisionConfig | None = None, preset: str = "",
) -> Path:  # fmt: skip
    """Train a method's generator on the run's windows or pairs.

    Args:
        run: the run's folder.
        method: what is trained.
        config: its settings.
        training: how; its seed is part of a student's folder's name.
        selector: the kind, trained in the run, that ranks its candidates; it goes with the checkpoint. Where the task
            has a selector of its own it is that one. Another one later needs no other training.
        guidance: weight of the run's return model's gradient at every reverse step.
        horizon: rows of its plans, where they are not the task's.
        prefix: how many of its plans' first commands may be committed, where that is not as of those it learns from.
        name: of its folder in place of the method's.
        pairs: the folder of the pairs, where it learns from pairs.
        vision: how the task's cameras are encoded.
        preset: whose settings these are, for the record; "": nobody's.

    Raises:
        CheckpointError: what it learns from or is ranked by is not there, or the folder holds another training.
        ValueError: it cannot be trained with a prefix.
    """
    task = task_for(run, method, config, horizon, prefix, pairs)
    if task.prefix:
        refuse_prefix(
            method, config, cameras=bool(task.control.cameras), conditions=bool(task.conditions), guided=bool(guidance),
            columns=task.control.action_columns is not None,
        )  # fmt: skip
    folder = run / (name or method.folder or method.name)
    if name is not None or method.folder is None:
        folder = folder.with_name(f"{folder.name}-{training.seed}")
    ranked_by = selector if task.score is None else None
    if ranked_by is not None:
        checkpoint_id(run / ranked_by)  # that it is missing is said before hours of training, not after
    if method.scheduled is not None:
        config = method.scheduled(config, training.steps)
    teacher = teacher_of(run, method, config)
    if teacher is not None and method.fitted is not None:
        checkpoint_id(teacher)
        said = load_config(teacher)
        config = method.fitted(config, said["kind"], said.get("generator", {}))
    begins_from, begins = beginning(run, method, training.seed), None
    if begins_from is not None:
        config, begins = begun(begins_from, config)
    identity: dict[str, Any] = {"method": method.name, "generator": asdict(config), "plan": task.plans.as_json()}
    sampling = CandidateSampling(*method.temperatures) if method.temperatures else CandidateSampling()
    if method.needs == "pairs":
        manifest = pairs_of(run, pairs)
        identity["pairs"] = [manifest["settings"], manifest["identity"]]
        drawn = manifest["settings"]
        sampling = CandidateSampling(tuple(drawn["temperatures"]), tuple(drawn["probabilities"]))
    else:
        identity |= identity_of(run, method, config)
    if teacher is not None:
        identity["teacher"] = checkpoint_id(teacher)
    if begins_from is not None:
        identity["begins"] = checkpoint_id(begins_from)
    if method.critic is not None:
        identity["critic"] = checkpoint_id(run / method.critic)
    sight = sight_of(run, task, method, vision, teacher) if task.control.cameras else None
    identity |= {} if sight is None else sight.identity
    if not is_up_to_date(folder, training, identity):
        data, normalizer = data_of(run, task, method, config, pairs, sight, begins)
        ema, log = _train(run, folder, task, method, config, data, training, identity, sight, pairs, begins)
        asked = asked_by_default(run, method, config, pairs)
        if Ranks.here().first:
            made = Policy(task, ema, normalizer, sampling=sampling, conditions=asked)
            made.save(folder, record(training, identity, log, preset))
    if Ranks.here().first:
        if ranked_by is not None:
            _attach_selector(folder, run, task, ranked_by, guidance)
        finish(folder)
    wait_for_all()
    return folder


def _train(
    run: Path, folder: Path, task: Task, method: Method, config: Any, data: Dataset, training: TrainConfig,
    identity: dict[str, Any], sight: Sight | None, pairs: str, begins: Policy | None,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Build a generator from the seed and train it; returns its EMA and the training's log."""
    torch.manual_seed(training.seed)
    generator: Any = make_generator(task, method.name, asdict(config), vision=asdict(sight.vision) if sight else None)
    if sight is not None:
        sight.prepare(generator)
    if begins is not None:
        generator.load_state_dict(begins.generator.state_dict())
        generator.requires_grad_(True)
    if task.conditions:
        generator.conditions.limit(ranges_of(run, task, method, config, pairs))
    learner = _learner(run, task, method, config, generator, sight)
    if isinstance(data, Neighbours) and hasattr(generator, "remember"):
        generator.remember(data.spread)
    title = folder.name if method.folder else f"{folder.name.rpartition('-')[0]} seed {training.seed}"
    return train(learner, data, training, folder, title=title, identity=identity)


def _learner(run: Path, task: Task, method: Method, config: Any, generator: Any, sight: Sight | None) -> Any:
    """Return what is trained: the generator itself, or the method's learner of it, beside its teacher."""
    if method.learner is None:
        return generator
    taught = teacher_of(run, method, config)
    theirs = None if taught is None else Policy.from_pretrained(taught)
    teacher: Any = None if theirs is None else theirs.generator
    if theirs is not None and isinstance(generator, AskedPlanner):
        inside = as_learner(method.learner(generator.planner, teacher, config))
        return AskedLearner(generator, inside, teacher.conditions, torch.from_numpy(theirs.asked_numbers))
    if task.prefix:
        assert teacher is None or isinstance(teacher, PrefixedPlanner)  # as its plans have one too
        inside = method.learner(generator.planner, None if teacher is None else teacher.planner, config)
        return WrappedLearner(generator, as_learner(inside))
    build = method.learner if sight is None else sight.learner
    return build(generator, teacher, config)


def _attach_selector(folder: Path, run: Path, task: Task, kind: str, guidance: float) -> None:
    """Put a selector of the run beside a planner's weights, which stay as they are; for a guided one its guide too."""
    config = load_config(folder)
    wanted = {"guidance": guidance, "ranked_by": _ranking(run / kind)}
    if guidance:
        wanted["ranked_by"] |= {"guide": checkpoint_id(run / RETURNS)}
    if {name: config.get(name) for name in wanted} == wanted:
        return
    inside = (SELECTOR, GUIDE) if guidance else (SELECTOR,)
    if "ranked_by" in config:
        console.print(f"{folder} is ranked by the run's {kind} as it is now", highlight=False)

    def write(new: Path) -> None:
        for name in inside:
            source = RETURNS if name == GUIDE else kind
            save_selector(new / name, load_selector(run / source, task_of(run)), task.name)
        seal_with(new, inside, **wanted)

    replace_folder(folder, write)


def _ranking(folder: Path) -> dict[str, Any]:
    """Which training ranks, and how."""
    config = load_config(folder)
    return {"kind": config["kind"], "id": config["training"]["id"], "options": config["options"]}
