"""Selectors on disk: a checkpoint folder of their own, also inside the checkpoint of a policy that uses one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from onestride.checkpoint import (
    CONFIG,
    Config,
    load_config,
    load_model,
    plain,
    save_checkpoint,
    settings_of,
    typed,
)
from onestride.files import CheckpointError
from onestride.folders import replace_folder
from onestride.networks.normalizer import Normalizer
from onestride.selectors import SELECTORS

if TYPE_CHECKING:
    from onestride.robot.control_spec import ControlSpec
    from onestride.tasks.task import Task


@runtime_checkable
class StoredSelector(Protocol):
    """A selector of a kind, which can be stored."""

    kind: str
    options: Any
    normalizer: Normalizer
    training_record: dict[str, Any] | None  # how it was trained, as its checkpoint says

    @property
    def model(self) -> nn.Module | None: ...

    def __call__(self, plans: Tensor, observation: Tensor, frame: Any) -> Tensor: ...


class SelectorConfig(Config):
    """What a selector's config holds."""

    selector: dict[str, Any]
    options: dict[str, Any]


def save_selector(folder: Path, selector: Any, task: str, training: dict[str, Any] | None = None) -> None:
    """Write config, weights and normaliser, all of it in one step."""
    training = training or selector.training_record or {}
    config = {
        "kind": selector.kind,
        "task": task,
        "selector": {} if selector.model is None else asdict(selector.model.config),
        "options": plain(asdict(selector.options)),
        "training": training,
    }
    selector.training_record = training
    whole = _whole(selector.model, selector.normalizer)
    replace_folder(folder, lambda new: save_checkpoint(new, whole, config))


def load_selector(folder: Path, task: Task, options: Any = None) -> Any:
    """Return the selector of that folder, for ``task``. options: in place of its own.

    Raises:
        CheckpointError: none there, altered, of another task or of an unknown kind.
    """
    config = load_config(folder)
    if "selector" not in config:
        raise CheckpointError(
            f"{folder} is no selector but a planner ({config.get('kind')}): give the folder of `onestride train iql` "
            "or `onestride train returns`"
        )
    if config.get("task") != task.name:
        raise CheckpointError(f"{folder} was trained for task '{config.get('task')}', not for '{task.name}'")
    typed(config, SelectorConfig, folder / CONFIG)
    kind = config["kind"]
    if kind not in SELECTORS:
        raise CheckpointError(f"{folder} is of another selector: {SELECTORS.unknown(kind)}")

    def build() -> nn.ModuleDict:
        model = make_selector_model(kind, config["selector"], task, folder) if SELECTORS[kind]().learnt else None
        return _whole(model, Normalizer.empty(task.control.transition_dim, task.context_dim))

    whole = load_model(folder, config, build)
    if options is None:
        options = settings_of(type(SELECTORS[kind]().options), config["options"], folder / CONFIG)
    model = dict(whole.items()).get("selector")
    selector = make_selector(kind, model, whole["normalizer"], task.control, options)  # type: ignore[arg-type]
    selector.training_record = config["training"]
    return selector


def make_selector_model(kind: str, settings: dict[str, Any], task: Task, folder: Path | None = None) -> nn.Module:
    """Return an untrained model from its kind's name and its settings as JSON gives them."""
    record, where = SELECTORS[kind](), "settings" if folder is None else folder / CONFIG
    assert record.build is not None
    return record.build(settings_of(type(record.config), settings, where), task.plans)


def make_selector(
    kind: str, model: nn.Module | None, normalizer: Normalizer, control: ControlSpec, options: Any = None
) -> Any:
    """Return a selector of that kind; options: how it ranks, by default as its kind does."""
    record = SELECTORS[kind]()
    return record.make(model, normalizer, control, record.options if options is None else options)


def _whole(model: nn.Module | None, normalizer: Normalizer) -> nn.ModuleDict:
    return nn.ModuleDict(({} if model is None else {"selector": model}) | {"normalizer": normalizer})
