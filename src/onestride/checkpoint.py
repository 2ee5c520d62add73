"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, whole or not there.

The weights' file holds the normaliser too, under ``normalizer.``: a checkpoint without it does not load.
Nothing is pickled. Every tensor file holds a digest of its content, and the config those of the folder's files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from onestride.files import CheckpointError, as_record, decode_json, read_json, size_of_file, versions, write_atomically
from onestride.manifest import Manifest, check_manifest, without_digests, write_manifest

SCHEMA = 2
CONFIG, MODEL = "config.json", "model.safetensors"
LARGEST_HEADER = 16 << 20  # [bytes]
DIGEST = "sha256"  # the header's entry
TRAIN_AGAIN = "train it again"


class Training(Struct):
    """How a checkpoint was trained; what evaluations compare is its id."""

    id: str | None = None
    config: dict[str, Any] = {}
    seconds: float = 0.0
    steps: int = 0
    precision: str = ""
    device: str = ""
    history: list[tuple[int, float]] = []


class SamplingRecord(Struct, forbid_unknown_fields=True):
    """A critic's temperatures, as in ``selectors.sampling.Sampling``."""

    temperatures: list[float]
    shares: list[float]
    margin: float
    cool: float


class Config(Manifest, forbid_unknown_fields=True, kw_only=True):
    """What the config of every checkpoint holds."""

    schema: int
    kind: str
    task: str
    training: Training
    versions: dict[str, str]


class PolicyConfig(Config, forbid_unknown_fields=True, kw_only=True):
    """A planner's; its generator's own settings are read with its kind."""

    horizon: Annotated[int, Meta(ge=1, le=4096)]
    generator: dict[str, Any]
    candidates: Annotated[int, Meta(ge=1, le=1 << 20)]
    temperatures: list[float]
    shares: list[float]
    guidance: float = 0.0
    ranked_by: str | None = None


class SelectorConfig(Config, forbid_unknown_fields=True, kw_only=True):
    """A learned selector's."""

    selector: dict[str, Any]
    judged_rows: Annotated[int, Meta(ge=1, le=4096)] = 1
    sampling: SamplingRecord | None = None


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors and a text header as safetensors, with a digest of both, atomically."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = header or {}
    header = header | {DIGEST: _digest(contiguous, header)}
    write_atomically(path, lambda p: save_file(contiguous, p, metadata=header))


def load_tensors(path: Path, advice: str = "make it again") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file, read whole and held against their digest.

    Raises:
        CheckpointError: not such a file, or not what was written; advice: what to do then.
    """
    with open_tensors(path, advice) as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        header = dict(f.metadata() or {})
    expected = header.pop(DIGEST, None)
    if expected is None:
        raise CheckpointError(f"{path} has no digest of its content: it was altered, or is of before; {advice}")
    if _digest(tensors, header) != expected:
        raise CheckpointError(f"{path} is not what was written (its digest differs): it was altered; {advice}")
    return tensors, header


def open_tensors(path: Path, advice: str = "make it again") -> Any:
    """Open a safetensors file: its header was held against its size, no tensor is read yet.

    Raises:
        CheckpointError: not such a file, or cut short.
    """
    try:
        _check_extent(path)
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, CheckpointError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); it was altered or cut short: {advice}") from error


class Extent(Struct):
    """Where a tensor's numbers are in a file, as its header says."""

    data_offsets: tuple[int, int]


def _check_extent(path: Path) -> None:
    """Raise ``CheckpointError`` unless the file is as long as its header says: only then is it mapped into memory."""
    size = size_of_file(path)  # a pipe would be waited for
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if not 0 < length <= min(size - 8, LARGEST_HEADER):
            raise CheckpointError(f"{path}: its header is said to have {length} bytes, of {size} in all")
        header = decode_json(f.read(length), dict[str, Any], f"{path} (header)")
    header.pop("__metadata__", None)
    extents = as_record(header, dict[str, Extent], f"{path} (header)")
    expected = 8 + length + max((e.data_offsets[1] for e in extents.values()), default=0)
    if size != expected:
        raise CheckpointError(f"{path} has {size} bytes, its header says {expected}")


def _digest(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    """Return the SHA-256 of names, types, shapes and numbers, and of the header."""
    found = hashlib.sha256(json.dumps(sorted(header.items())).encode())
    for name, value in sorted(tensors.items()):
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save_checkpoint(folder: Path, model: nn.Module, config: dict[str, Any], inside: Iterable[str] = ()) -> None:
    """Weights first, config last: a folder with a config is complete.

    inside: names of checkpoints in the folder, which belong to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    save_tensors(folder / MODEL, dict(model.state_dict()))
    write_config(folder, {"schema": SCHEMA, **config, "versions": versions()}, inside)


def write_config(folder: Path, config: dict[str, Any], inside: Iterable[str] = ()) -> None:
    """Write the config of a folder whose weights, and checkpoints ``inside``, are there."""
    write_manifest(folder / CONFIG, without_digests(config), [MODEL, *(f"{name}/{CONFIG}" for name in inside)])


def load_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config, held against its digest. Its files are, where they are loaded.

    Raises:
        CheckpointError: no checkpoint there, altered, or one of another schema.
    """
    return _config(folder, check=False)


def load_whole(folder: Path) -> dict[str, Any]:
    """The checkpoint's config, after holding every file that belongs to the checkpoint against it.

    Raises:
        CheckpointError: no checkpoint there, one of its files is missing or altered, or one of another schema.
    """
    return _config(folder, check=True)


def _config(folder: Path, check: bool) -> dict[str, Any]:
    if not (folder / CONFIG).exists():
        near = sorted(p.parent.name for p in folder.parent.glob(f"*/{CONFIG}")) if folder.parent.is_dir() else []
        hint = f"; checkpoints beside it: {', '.join(near)}" if near else "; train one first, see `onestride --help`"
        raise CheckpointError(f"{folder} holds no finished checkpoint (no {CONFIG}){hint}")
    found = read_json(folder / CONFIG)
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG} holds no settings; it was altered: train it again")
    if found.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{folder / CONFIG} has schema {found.get('schema')!r:.40}, this version reads {SCHEMA}: train it anew"
        )
    record = SelectorConfig if "selector" in found else PolicyConfig
    check_manifest(found, folder / CONFIG, record, TRAIN_AGAIN, check=check)
    return found


def check_shapes(folder: Path, make: Callable[[], nn.Module]) -> None:
    """Compare what ``make`` makes by a checkpoint's config with the weights' file, without memory for any weights.

    Raises:
        CheckpointError: the normaliser is missing, or names or shapes disagree with the config.
    """
    with torch.device("meta"):
        implied = {name: tuple(value.shape) for name, value in make().state_dict().items()}
    with open_tensors(folder / MODEL, TRAIN_AGAIN) as f:
        stored = {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}  # noqa: SIM118
    if not any(name.startswith("normalizer.") for name in stored):
        raise CheckpointError(
            f"{folder / MODEL} holds no normaliser (no tensor named 'normalizer.*'): plans would be in the wrong "
            "units. Save it again with its normaliser"
        )
    missing, extra = sorted(implied.keys() - stored.keys()), sorted(stored.keys() - implied.keys())
    if missing or extra:
        raise CheckpointError(
            f"{folder / MODEL} does not match {CONFIG}: missing {missing[:3]}, unexpected {extra[:3]}; train it again"
        )
    for name, shape in stored.items():
        if shape != implied[name]:
            raise CheckpointError(
                f"{folder / MODEL}: '{name}' has shape {shape}, {CONFIG} implies {implied[name]}: the two are not of "
                "one training"
            )


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill ``model``, which holds generator and normaliser, after ``check_shapes``.

    Raises:
        CheckpointError: a number is altered or not finite.
    """
    tensors, _ = load_tensors(folder / MODEL, TRAIN_AGAIN)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{folder / MODEL}: '{name}' holds a non-finite number; train it again")
    model.load_state_dict(tensors)
