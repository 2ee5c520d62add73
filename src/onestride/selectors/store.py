"""Learned selectors on disk: a checkpoint folder of their own, also inside the checkpoint of a policy that uses one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

import torch
from msgspec import Meta
from torch import nn

from onestride.checkpoint import CONFIG, Config, load_config, load_model, save_checkpoint, settings_of, typed
from onestride.files import CheckpointError
from onestride.folders import replace_folder
from onestride.networks.normalizer import Normalizer
from onestride.selectors.iql import IQL, CriticSelector, IQLConfig
from onestride.selectors.returns import ReturnConfig, ReturnModel, ReturnSelector
from onestride.selectors.sampling import Sampling

if TYPE_CHECKING:
    from onestride.tasks.task import Task

Learned = CriticSelector | ReturnSelector


class Ranked(TypedDict):
    """How a critic's candidates are drawn: the entries of a ``Sampling``."""

    temperatures: list[float]
    shares: list[float]
    margin: float
    cool: float


class SelectorConfig(Config):
    """What a selector's config holds."""

    selector: dict[str, Any]
    judged_rows: NotRequired[Annotated[int, Meta(ge=1)]]
    sampling: NotRequired[Ranked | None]


def save_selector(folder: Path, selector: Learned, task: str, training: dict[str, Any] | None = None) -> None:
    """Write config, weights and normaliser, all of it in one step."""
    model = selector.iql if isinstance(selector, CriticSelector) else selector.model
    config = {
        "kind": "iql" if isinstance(selector, CriticSelector) else "returns",
        "task": task,
        "selector": asdict(model.config),
        "training": training or selector.training_record,
    }
    if isinstance(selector, CriticSelector):
        config |= judging(selector.rows, selector.sampling)
    selector.training_record = config["training"]
    replace_folder(folder, lambda new: save_checkpoint(new, _whole(model, selector.normalizer), config))


def load_selector(folder: Path, task: Task) -> Learned:
    """The selector of that folder, for ``task``.

    Raises:
        CheckpointError: none there, altered, of another task or of an unknown kind.
    """
    config = load_config(folder)
    if "selector" not in config:
        raise CheckpointError(
            f"{folder} is no selector but a {config.get('kind', 'checkpoint of no kind')}: give the folder of "
            "`onestride critic` or `onestride returns`"
        )
    if config.get("task") != task.name:
        raise CheckpointError(f"{folder} was trained for task '{config.get('task')}', not for '{task.name}'")
    typed(config, SelectorConfig, folder / CONFIG)

    def build() -> nn.ModuleDict:
        model = make_selector_model(config["kind"], config["selector"], task, folder)
        return _whole(model, Normalizer.empty(task.transition_dim, task.context_dim))

    whole = load_model(folder, config, build)
    selector = wrap(whole["selector"], whole["normalizer"], task)  # type: ignore[arg-type]
    selector.training_record = config["training"]
    if isinstance(selector, CriticSelector):
        selector.rows = config.get("judged_rows", 1)
        selector.sampling = _sampling(config.get("sampling"), folder)
    return selector


def _sampling(said: dict[str, Any] | None, folder: Path) -> Sampling | None:
    if said is None:
        return None
    try:
        return Sampling(tuple(said["temperatures"]), tuple(said["shares"]), said["margin"], said["cool"])
    except ValueError as error:
        raise CheckpointError(f"{folder} ranks candidates of a sampling that cannot be: {error}") from error


def judging(rows: int, sampling: Sampling | None) -> dict[str, Any]:
    """What a critic's config says of how it ranks, as JSON gives it back: no training depends on it."""
    drawn = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(sampling).items()} if sampling else None
    return {"judged_rows": rows, "sampling": drawn}


def judging_of(config: dict[str, Any]) -> dict[str, Any]:
    """The same of a critic's config, also of one from before there was a choice; nothing of another selector's."""
    return {k: config.get(k) for k in judging(1, None)} if "judged_rows" in config else {}


def make_selector_model(
    kind: str, settings: dict[str, Any], task: Task, folder: Path | None = None
) -> IQL | ReturnModel:
    """An untrained model from its kind and its config's fields as JSON gives them."""
    where = "settings" if folder is None else folder / CONFIG
    if kind == "iql":
        return IQL(settings_of(IQLConfig, settings, where), task.state_dim, task.action_dim)
    if kind == "returns":
        return ReturnModel(settings_of(ReturnConfig, settings, where), task.plans)
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


def _whole(model: nn.Module, normalizer: Normalizer) -> nn.ModuleDict:
    return nn.ModuleDict({"selector": model, "normalizer": normalizer})
