"""A policy's checkpoint: what is in its folder, written in one step and checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from onestride.checkpoint import (
    AGAIN,
    CONFIG,
    PolicyConfig,
    has_inside,
    load_config,
    load_model,
    save_checkpoint,
    settings_of,
    typed,
)
from onestride.files import CheckpointError
from onestride.folders import replace_folder
from onestride.methods import METHODS
from onestride.methods.building import build_generator
from onestride.methods.guided import GuidedPlanner
from onestride.methods.sighted import SightedPlanner, Vision
from onestride.networks.normalizer import Normalizer
from onestride.networks.rgb_encoder import RgbEncoderConfig
from onestride.networks.vision import VisionConfig
from onestride.plans.asking import Condition
from onestride.robot.control_spec import ControlSpec
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.returns import ReturnSelector
from onestride.selectors.store import StoredSelector, load_selector, save_selector
from onestride.tasks import TASKS
from onestride.tasks.task import Selector, Task

#: Folders inside a policy's checkpoint: its learned selector, the return model that guides its teacher.
SELECTOR, GUIDE = "selector", "guide"


@dataclass(frozen=True)
class Parts:
    """What a policy is made of, see ``Policy``.

    selector: None where the task's own, or nobody, ranks. asked: what decisions ask for where nobody says anything.
    """

    task: Task
    generator: Any
    normalizer: Normalizer
    selector: Selector | None
    candidates: int
    sampling: CandidateSampling
    asked: Mapping[str, Sequence[float]] = field(default_factory=dict)


def save_parts(folder: Path, parts: Parts, training: dict[str, Any]) -> None:
    """Write a policy's checkpoint: config, weights and normaliser, all of it in one step."""
    guided = parts.generator if isinstance(parts.generator, GuidedPlanner) else None
    planner = guided.planner if guided else parts.generator
    config = {
        "kind": planner.method,
        "task": parts.task.name,
        "plan": parts.task.plans.as_json(),
        "control": _control(parts.task.control),
        "generator": asdict(parts.generator.config),
        "nfe": parts.generator.nfe,
        "candidates": parts.candidates,
        "temperatures": list(parts.sampling.temperatures),
        "probabilities": list(parts.sampling.probabilities),
        "training": training,
    }
    if parts.asked:
        config["asked"] = {name: list(value) for name, value in parts.asked.items()}
    if isinstance(planner, SightedPlanner):
        config["vision"] = asdict(planner.vision)
    inside: dict[str, Any] = {}
    if guided:
        config["guidance"] = guided.weight
        inside[GUIDE] = ReturnSelector(guided.returns, parts.normalizer)
    if isinstance(parts.selector, StoredSelector):
        inside[SELECTOR] = parts.selector

    def write(new: Path) -> None:
        for name, selector in inside.items():
            save_selector(new / name, selector, parts.task.name)
        save_checkpoint(new, _whole(planner, parts.normalizer), config, inside)

    replace_folder(folder, write, without=(GUIDE, SELECTOR))  # of another policy that was here


def _control(spec: ControlSpec) -> dict[str, Any]:
    """What is observed and commanded: sizes, units, limits of actions (None: no finite one), control period [s]."""

    def finite(limit: np.ndarray) -> list[float | None]:
        return [float(number) if np.isfinite(number) else None for number in limit]

    return {
        "observation_dim": spec.observation_dim,
        "n_obs_steps": spec.n_obs_steps,
        "layout": spec.layout,
        "fields": [[field.name, list(field.shape), field.unit] for field in spec.fields or spec.named],
        "n_action_steps": spec.n_action_steps,
        "action_low": finite(spec.limits.low),
        "action_high": finite(spec.limits.high),
        "control_dt": spec.control_dt,
    }


def load_parts(
    folder: Path, task: str | None = None, selector: Selector | str | Path | None = None
) -> tuple[Parts, dict[str, Any]]:
    """Return what a checkpoint's folder holds, and its config.

    Args:
        folder: the checkpoint's.
        task: the task it must be of; None: any.
        selector: another one than the checkpoint's own: a function, or the folder of a learned one.

    Raises:
        CheckpointError: no checkpoint there, altered, without its normaliser, or of another task.
    """
    config = load_config(folder)
    if "selector" in config:
        raise CheckpointError(
            f"{folder} is a selector ({config.get('kind')}), which ranks plans and makes none; give a teacher's "
            "or a student's folder"
        )
    typed(config, PolicyConfig, folder / CONFIG)
    if config["task"] not in TASKS:
        raise CheckpointError(f"{folder} is of a task that is not known here: {TASKS.unknown(config['task'])}")
    if task is not None and config["task"] != task:
        raise CheckpointError(f"{folder} was trained for task '{config['task']}', not for '{task}'")
    if config["kind"] not in METHODS:
        raise CheckpointError(f"{folder} is of another method: {METHODS.unknown(config['kind'])}")
    record = TASKS[config["task"]]()
    conditions = tuple(Condition(name, size) for name, size in config["plan"]["conditions"])
    prefix = config["plan"].get("prefix", 0)
    record = record.with_control(horizon=config["plan"]["horizon"])
    record = replace(record, conditions=conditions, prefix=prefix)
    if record.plans.as_json() != config["plan"]:
        raise CheckpointError(
            f"{folder} has plans {config['plan']}, those of task '{record.name}' are {record.plans.as_json()}: it "
            f"is of another version; {AGAIN}"
        )
    try:
        sampling = CandidateSampling(tuple(config["temperatures"]), tuple(config["probabilities"]))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG} draws candidates as nobody can: {error}") from error

    def build() -> nn.ModuleDict:
        made = make_generator(record, config["kind"], config["generator"], folder / CONFIG, config.get("vision"))
        return _whole(made, Normalizer.empty(record.control.transition_dim, record.context_dim))

    whole = load_model(folder, config, build)
    generator: Any = whole["generator"]
    normalizer: Any = whole["normalizer"]
    own = has_inside(folder, config, SELECTOR)
    has_inside(folder, config, GUIDE)
    if config.get("guidance"):
        guide = load_selector(folder / GUIDE, record)
        assert isinstance(guide, ReturnSelector)
        generator = GuidedPlanner(generator, guide.model, config["guidance"])
    if selector is None and own:
        selector = folder / SELECTOR
    if isinstance(selector, str | Path):
        ranking: Selector | None = load_selector(Path(selector), TASKS[config["task"]]())
    else:
        ranking = selector
    asked = config.get("asked", {})
    return Parts(record, generator, normalizer, ranking, config["candidates"], sampling, asked), config


def make_generator(
    task: Task, kind: str, settings: dict[str, Any], where: Path | str = "settings",
    vision: dict[str, Any] | None = None,
) -> Any:  # fmt: skip
    """Return an untrained generator from its method's name and its settings as JSON gives them.

    vision: how cameras are encoded, where the task has any. What may be asked for is the task's ``conditions``.

    Raises:
        CheckpointError: one is unknown or of another type; ``where`` says of what.
    """
    method = METHODS[kind]()
    config = settings_of(type(method.config), settings, where)
    sizes = {camera.name: (camera.shape[0], camera.shape[1]) for camera in task.control.cameras}
    if task.control.cameras and task.conditions and not method.conditional:
        raise CheckpointError(f"{where}: {method.label} takes either cameras or conditions, and this is asked both")
    vision = vision or {}
    how: Vision = settings_of(RgbEncoderConfig if "norm" in vision else VisionConfig, vision, where)
    return build_generator(method, config, task.plans, cameras=sizes, n_obs_steps=task.control.n_obs_steps, vision=how)


def _whole(generator: nn.Module, normalizer: Normalizer) -> nn.ModuleDict:
    return nn.ModuleDict({"generator": generator, "normalizer": normalizer})
