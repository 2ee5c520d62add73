"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, whole or not there.

The weights' file holds the normaliser too, under ``normalizer.``: a checkpoint without it does not load.
Nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from onestride.files import CheckpointError, read_json, versions, write_atomically, write_json

SCHEMA = 1
CONFIG, MODEL = "config.json", "model.safetensors"


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors and a text header as safetensors, atomically."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, lambda p: save_file(contiguous, p, metadata=header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file, read whole.

    Raises:
        CheckpointError: not such a file, or cut short.
    """
    try:
        with safe_open(path, framework="pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); it was altered or cut short: make it again") from error


def save_checkpoint(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Weights first, config last: a folder with a config is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    save_tensors(folder / MODEL, dict(model.state_dict()))
    write_json(folder / CONFIG, {"schema": SCHEMA, **config, "versions": versions()})


def load_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.

    Raises:
        CheckpointError: no checkpoint there, or one of another schema.
    """
    if not (folder / CONFIG).is_file():
        near = sorted(p.parent.name for p in folder.parent.glob(f"*/{CONFIG}")) if folder.parent.is_dir() else []
        hint = f"; checkpoints beside it: {', '.join(near)}" if near else "; train one first, see `onestride --help`"
        raise CheckpointError(f"{folder} holds no finished checkpoint (no {CONFIG}){hint}")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG} holds no settings; it was altered: train it again")
    if config.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder} has schema {config.get('schema')}, this version reads {SCHEMA}: train it anew")
    return config


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill ``model``, which holds generator and normaliser.

    Raises:
        CheckpointError: the normaliser is missing, or names or shapes disagree with the config.
    """
    tensors, _ = load_tensors(folder / MODEL)
    wanted = model.state_dict()
    if not any(name.startswith("normalizer.") for name in tensors):
        raise CheckpointError(
            f"{folder / MODEL} holds no normaliser (no tensor named 'normalizer.*'): plans would be in the wrong "
            "units. Save it again with its normaliser"
        )
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointError(
            f"{folder / MODEL} does not match {CONFIG}: missing {missing[:3]}, unexpected {extra[:3]}; train it again"
        )
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            raise CheckpointError(
                f"{folder / MODEL}: '{name}' has shape {tuple(value.shape)}, {CONFIG} implies "
                f"{tuple(wanted[name].shape)}: the two are not of one training"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{folder / MODEL}: '{name}' holds a non-finite number; train it again")
    model.load_state_dict(tensors)
