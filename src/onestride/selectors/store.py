"""Learned selectors on disk: a checkpoint folder of their own, also inside the checkpoint of a policy that uses one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onestride.checkpoint import CheckpointError, load_config, load_weights, save_checkpoint
from onestride.data.normalize import Normalizer
from onestride.diffusion.returns import ReturnConfig, ReturnModel, ReturnSelector
from onestride.selectors.iql import IQL, CriticSelector, IQLConfig
from onestride.tasks.task import Task

Learned = CriticSelector | ReturnSelector


def save_selector(folder: Path, selector: Learned, task: str, training: dict[str, Any] | None = None) -> None:
    """Write config, weights and normaliser."""
    model = selector.iql if isinstance(selector, CriticSelector) else selector.model
    config = {
        "kind": "iql" if isinstance(selector, CriticSelector) else "returns",
        "task": task,
        "selector": asdict(model.config),
        "training": training or selector.training_record,
    }
    if isinstance(selector, CriticSelector):
        config["judged_rows"] = selector.rows
    selector.training_record = config["training"]
    save_checkpoint(folder, _whole(model, selector.normalizer), config)


def load_selector(folder: Path, task: Task) -> Learned:
    """The selector of that folder, for ``task``.

    Raises:
        CheckpointError: none there, altered, of another task or of an unknown kind.
    """
    config = load_config(folder)
    if config.get("task") != task.name:
        raise CheckpointError(f"{folder} was trained for task '{config.get('task')}', not for '{task.name}'")
    model = make_selector_model(config.get("kind", ""), config["selector"], task, folder)
    normalizer = Normalizer.empty(task.transition_dim, task.context_dim)
    load_weights(folder, _whole(model, normalizer))
    selector = wrap(model, normalizer, task)
    selector.training_record = config["training"]
    if isinstance(selector, CriticSelector):
        selector.rows = config.get("judged_rows", 1)
    return selector


def make_selector_model(
    kind: str, settings: dict[str, Any], task: Task, folder: Path | None = None
) -> IQL | ReturnModel:
    """An untrained model from its kind and its config's fields as JSON gives them."""
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    try:
        if kind == "iql":
            return IQL(IQLConfig(**settings), task.state_dim, task.action_dim)
        if kind == "returns":
            return ReturnModel(ReturnConfig(**settings), task.fixed, task.context_dim)
    except (TypeError, ValueError) as error:  # a setting of another version
        raise CheckpointError(f"{folder} has settings this version does not know: {error}") from error
    raise CheckpointError(f"{folder} is a selector of kind '{kind}', this version has iql, returns")


def wrap(model: nn.Module, normalizer: Normalizer, task: Task) -> Learned:
    """An IQL or a return model and its normaliser as a selector that scores plans."""
    if isinstance(model, IQL):
        limits = task.limits
        return CriticSelector(
            model, normalizer, torch.from_numpy(limits.low).float(), torch.from_numpy(limits.high).float()
        )
    if isinstance(model, ReturnModel):
        return ReturnSelector(model, normalizer)
    raise TypeError(f"{type(model).__name__} scores nothing; expected an IQL or a ReturnModel")


def _whole(model: nn.Module, normalizer: Normalizer) -> nn.Module:
    return nn.ModuleDict({"selector": model, "normalizer": normalizer})
