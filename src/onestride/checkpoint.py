"""Checkpoints: a folder with ``config.json``, ``model.safetensors`` and a model card, whole or not there.

The weights' file holds the normaliser too, under ``normalizer.``: a checkpoint without it does not load. The config
holds the weights' SHA-256 and a digest of itself. Nothing is pickled, and nothing is allocated that the weights' file
does not have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

import msgspec
import torch
from msgspec import Meta
from torch import nn
from torch.nn.modules import module as torch_module

from onestride.card import checkpoint_card, write_card
from onestride.files import CONFIG, MODEL, CheckpointError, ensure_checkpoint, read_json, versions
from onestride.seals import check_file, check_seal, seal, sha256
from onestride.tensors import load_unsealed, opened, save_unsealed

SCHEMA = 3
AGAIN = "train it again"
MOST_STEPS = 10_000  # of noise levels and network calls: settings that no tensor's shape shows
COUNTED = ("n_steps", "steps", "sample_steps", "levels", "s0", "s1")
COPIES = 4  # a network may be copied, in part, while it is built: so many parameters for each that is saved

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Training(TypedDict):
    """What a checkpoint says of its training."""

    id: NotRequired[str]
    seconds: NotRequired[float]
    steps: NotRequired[int]
    config: NotRequired[dict[str, Any]]
    history: NotRequired[dict[str, list[list[float]]]]  # term of the loss -> [step, mean]
    data: NotRequired[dict[str, dict[str, Any]]]  # what it learnt from, see ``runs/finished.py``


class Config(TypedDict):
    """What every checkpoint's config holds; more, by its kind."""

    kind: str
    task: str
    training: Training | None
    files: dict[str, str]


class Planned(TypedDict):
    """The shape of plans, as a ``PlanSpec`` has it."""

    horizon: Annotated[int, Meta(ge=1, le=65_536)]
    state_dim: Annotated[int, Meta(ge=0, le=65_536)]
    action_dim: Annotated[int, Meta(ge=0, le=65_536)]
    context_dim: Annotated[int, Meta(ge=0, le=65_536)]
    known: list[tuple[int, int, int]] | None
    conditions: list[tuple[str, int]]
    prefix: NotRequired[Annotated[int, Meta(ge=1, le=65_536)]]  # the longest, where plans have one


class PolicyConfig(Config):
    """What a planner's config holds."""

    generator: dict[str, Any]
    plan: Planned
    candidates: Annotated[int, Meta(ge=1, le=65_536)]
    temperatures: list[float]
    probabilities: list[float]
    guidance: NotRequired[float]  # where the teacher is guided
    asked: NotRequired[dict[str, list[float]]]  # what decisions ask for where nobody says anything
    vision: NotRequired[dict[str, Any]]  # how cameras are encoded, where there are any
    ranked_by: NotRequired[dict[str, Any]]  # kind, training and options of the selector beside it
    nfe: NotRequired[int]  # network calls per decision
    control: NotRequired[dict[str, Any]]  # what is observed and commanded, for who has not the task


def save_checkpoint(folder: Path, model: nn.Module, config: dict[str, Any], inside: Iterable[str] = ()) -> None:
    """Weights first, config last: a folder with a config is complete.

    inside: names of checkpoints that are in the folder already and belong to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    save_unsealed(folder / MODEL, dict(model.state_dict()))
    said = {"schema": SCHEMA, **config, "versions": versions()}
    write_card(folder, checkpoint_card(said))
    seal(folder / CONFIG, said, [MODEL])
    if inside:
        seal_with(folder, inside)


def seal_with(folder: Path, inside: Iterable[str], **entries: Any) -> None:
    """Write the config anew, with these entries, and with the checkpoints ``inside`` the folder as they are now."""
    config = load_config(folder)
    listed = {f"{name}/{CONFIG}": sha256(folder / name / CONFIG) for name in inside}
    write_card(folder, checkpoint_card(config | entries))
    seal(folder / CONFIG, config | entries | {"files": config["files"] | listed})


def has_inside(folder: Path, config: dict[str, Any], name: str) -> bool:
    """Return whether a checkpoint ``inside`` belongs to this one.

    Raises:
        CheckpointError: it does, and it is another one than was put there.
    """
    listed = config["files"].get(f"{name}/{CONFIG}")
    if listed is None:
        return False
    check_file(folder, f"{name}/{CONFIG}", listed, CONFIG, AGAIN)
    return True


def load_config(folder: Path, kind: Any = Config) -> dict[str, Any]:
    """Return the checkpoint's config, whose entries are as ``kind``, a ``TypedDict``, says.

    Raises:
        CheckpointError: no checkpoint there, altered, or one of another schema.
    """
    path = folder / CONFIG
    ensure_checkpoint(folder)
    schema = read_json(path, dict[str, Any]).get("schema")
    if schema != SCHEMA:
        raise CheckpointError(f"{folder} has schema {schema!r}, this version reads {SCHEMA}: {AGAIN}")
    config: dict[str, Any] = check_seal(path, advice=AGAIN)
    typed(config, kind, path)
    return config


def typed(value: Any, kind: type[T] | Any, where: Path | str, *, strict: bool = True) -> T:
    """Return ``value``, as JSON gives it, as ``kind``. strict: no number is made of a text.

    Raises:
        CheckpointError: it is something else; the entry and what was expected are named.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{where}: {error}; it was altered, or is of another version: {AGAIN}") from error


def plain(settings: Any) -> Any:
    """Return settings as JSON gives them back: tuples become lists."""
    return (
        msgspec.to_builtins(settings, str_keys=True)
        if not isinstance(settings, dict | list | tuple)
        else (
            {k: plain(v) for k, v in settings.items()} if isinstance(settings, dict) else [plain(v) for v in settings]
        )
    )


def settings_of(kind: type[T], settings: dict[str, Any], where: Path | str) -> T:
    """Return a network's config, the dataclass ``kind``, from its entries as JSON gives them.

    Raises:
        CheckpointError: an entry that this version does not know, of another type, or beyond all sizes.
    """
    unknown = settings.keys() - {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown:
        raise CheckpointError(f"{where} has settings this version does not know: {', '.join(sorted(unknown))}; {AGAIN}")
    for name in COUNTED:
        if isinstance(settings.get(name), int) and settings[name] > MOST_STEPS:
            raise CheckpointError(f"{where}: {name} is {settings[name]}, expected at most {MOST_STEPS}; {AGAIN}")
    return typed(settings, kind, where)


def load_model(folder: Path, config: dict[str, Any], build: Callable[[], M]) -> M:
    """Return what ``build`` makes (generator, or selector, and normaliser) with the folder's weights.

    What it would make is compared with the weights' header before a number of it is allocated.

    Raises:
        CheckpointError: the weights are altered, the normaliser is missing, or names or shapes are not the config's.
    """
    path = folder / MODEL
    check_file(folder, MODEL, config["files"].get(MODEL, "nothing of it"), CONFIG, AGAIN)
    with opened(path) as f:
        found = {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}  # noqa: SIM118
    if not any(name.startswith("normalizer.") for name in found):
        raise CheckpointError(
            f"{path} holds no normaliser (no tensor named 'normalizer.*'): plans would be in the wrong units. Save it "
            "again with its normaliser"
        )
    try:
        with torch.device("meta"), no_more_than(COPIES * len(found), path):
            wanted = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    except CheckpointError:
        raise
    except (ValueError, RuntimeError) as error:  # how sizes are refused by ours and by torch
        raise CheckpointError(f"{folder / CONFIG}: no network is of such settings ({error}); {AGAIN}") from error
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointError(f"{path} does not match {CONFIG}: missing {missing[:3]}, unexpected {extra[:3]}; {AGAIN}")
    for name, shape in found.items():
        if shape != wanted[name]:
            raise CheckpointError(
                f"{path}: '{name}' has shape {shape}, {CONFIG} implies {wanted[name]}: the two are not of one training"
            )
    tensors, _ = load_unsealed(path)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: '{name}' holds a non-finite number; {AGAIN}")
    model = build()
    model.load_state_dict(tensors)
    return model


@contextmanager
def no_more_than(most: int, path: Path) -> Iterator[None]:
    """Refuse modules of more parameters than that; those built within this, by this thread.

    Raises:
        CheckpointError: one too many is registered.
    """
    mine, registered = threading.get_ident(), 0

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal registered
        registered += parameter is not None and threading.get_ident() == mine
        if registered > most:
            raise CheckpointError(f"{path} has fewer tensors than {CONFIG} implies: the two are not of one training")

    hook = torch_module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
