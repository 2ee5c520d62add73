"""Checkpoints and files that are whole or not there: a folder with ``config.json`` and ``model.safetensors``.

The weights' file holds the normaliser too, under ``normalizer.``: a checkpoint without it does not load.
Nothing is pickled.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

SCHEMA = 1
CONFIG, MODEL = "config.json", "model.safetensors"
ABANDONED = 600.0  # [s] without a byte written: nobody writes this temporary file any more


class CheckpointError(ValueError):
    """A checkpoint, shard or state file that cannot be used; the message says what to do."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then put it in place in one step.

    What was there before stays until the new file is complete and on disk. What a writer that was killed outright left
    of this file is cleared away.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path}: {error.strerror}; what was there is unchanged. Free some space, then run the "
            "same command again",
        ) from error
    except SafetensorError as error:  # how the writer reports a full disk
        raise OSError(f"could not write {path}: {error}; what was there is unchanged. Is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder`` until the block ends, by a lock beside it that the system takes back when a process is killed.

    Whoever goes on where another left off must know that the other has left.

    Raises:
        CheckpointError: another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"another process is at work on {folder}. Wait for it, or stop it and run the same command again: it goes "
            "on from what is finished"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n"))


def read_json(path: Path) -> Any:
    """The parsed file, or ``CheckpointError`` saying where it stops making sense."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); it was altered or cut short: make it again") from error


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


def versions() -> dict[str, str]:
    """What a result depends on: interpreter and libraries."""
    names = ("onestride", "torch", "numpy", "mujoco", "mink", "minari", "gymnasium")
    found = {name: metadata.version(name) for name in names if _installed(name)}
    return {"python": platform.python_version(), **found}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


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
        hint = f"; checkpoints beside it: {', '.join(near)}" if near else ""
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
