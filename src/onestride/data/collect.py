"""Collect episodes from a source that makes them in numbered chunks, resumable after a kill at any moment."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from msgspec import Struct

from onestride.checkpoint import load_tensors, save_tensors
from onestride.data.episode import Episode
from onestride.data.minari import read_metadata, write_dataset
from onestride.files import CheckpointError, alone, as_record, decode_json
from onestride.manifest import Manifest, read_manifest, write_manifest
from onestride.progress import track

#: (seed, chunk number) -> its episodes and what happened ("scenes", "refused: ..."): a function of these two.
Source = Callable[[int, int], tuple[list[Episode], Counter[str]]]
Unit = Literal["episodes", "steps"]
SETTINGS = "settings.json"  # of the chunks


class PartsSettings(Manifest, forbid_unknown_fields=True):
    """With what the chunks were begun."""

    settings: dict[str, Any]


class PartHeader(Struct, forbid_unknown_fields=True):
    """The header of a chunk's file."""

    chunk: int
    episodes: int
    steps: int
    seconds: float
    counts: str  # JSON, {what happened: how often}


def collect(
    source: Source, amount: int, seed: int, folder: Path, metadata: dict[str, Any], action: Box, unit: Unit = "episodes"
) -> dict[str, Any]:
    """Make so many episodes, or steps, and write them as one dataset; returns its metadata.

    Counted in episodes, the last chunk's surplus is left out; counted in steps, whole chunks are kept, so that a
    source whose chunks are all of one length gives exactly what was asked for if that is a multiple of it.

    Chunks are kept beside the dataset until it is written: the same command after a kill goes on, and gives
    the same episodes. A finished dataset with the same settings is left as it is.

    Raises:
        CheckpointError: the folder, or the chunks beside it, come from other settings, or another process collects.
    """
    with alone(folder):
        return _collect(source, amount, seed, folder, metadata, action, unit)


def _collect(
    source: Source, amount: int, seed: int, folder: Path, metadata: dict[str, Any], action: Box, unit: Unit
) -> dict[str, Any]:
    settings = {"seed": seed, unit: amount, **metadata}
    parts = folder.with_name(f".{folder.name}.parts")
    if folder.exists():
        found = read_metadata(folder)
        if any(found.get(k) != v for k, v in settings.items()):
            raise CheckpointError(
                f"{folder} holds a dataset made with other settings; choose another --run or delete it"
            )
        shutil.rmtree(parts, ignore_errors=True)  # a kill came between the dataset and this
        return found
    advice = f"delete {parts} to collect anew with the same command"
    if (parts / SETTINGS).exists():
        begun = read_manifest(parts / SETTINGS, PartsSettings, advice)["settings"]
        if begun != json.loads(json.dumps(settings)):
            raise CheckpointError(f"{parts} was begun with other settings; choose another --run, or delete that folder")
    write_manifest(parts / SETTINGS, {"settings": settings})
    counts: Counter[str] = Counter()
    made = {"episodes": 0, "steps": 0}
    chunk = 0
    seconds = 0.0
    with track(f"collecting {unit}", amount) as bar:
        while made[unit] < amount:
            path = parts / f"{chunk:05d}.safetensors"
            if not path.exists():
                started = time.monotonic()
                episodes, happened = source(seed, chunk)
                _save_part(path, chunk, episodes, happened, time.monotonic() - started)
            header = _read_part(parts, chunk)[1]
            made["episodes"] += header.episodes
            made["steps"] += header.steps
            seconds += header.seconds
            counts += Counter(decode_json(header.counts, dict[str, int], f"{path} (counts)"))
            chunk += 1
            if chunk >= 20 and not any(made.values()):
                raise ValueError(f"no episode came of {chunk} chunks ({dict(counts)}): the settings are too tight")
            bar.update(min(made[unit], amount), f"{made[unit] / max(seconds, 1e-9):.0f} {unit}/s")
    rate = {f"{name}_per_s": number / max(seconds, 1e-9) for name, number in made.items()}
    report = {**settings, "counts": dict(counts), **rate}
    total = amount if unit == "episodes" else made["episodes"]
    size = sum(path.stat().st_size for path in parts.glob("*.safetensors"))
    write_dataset(folder, _first(parts, chunk, total), total, report, action, size)
    shutil.rmtree(parts)
    return report


def _save_part(path: Path, chunk: int, episodes: list[Episode], counts: Counter[str], seconds: float) -> None:
    def rows(name: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([getattr(e, name) for e in episodes]).astype(np.float32))

    tensors = {"length": torch.tensor([len(e) for e in episodes])}
    tensors["ends"] = torch.tensor([[e.terminated, e.truncated] for e in episodes])
    if episodes:
        tensors |= {name: rows(name) for name in ("observations", "actions", "rewards")}
    steps = sum(len(e) for e in episodes)
    header = {
        "chunk": str(chunk),
        "episodes": str(len(episodes)),
        "steps": str(steps),
        "counts": json.dumps(counts),
        "seconds": str(seconds),
    }
    save_tensors(path, tensors, header)


def _read_part(parts: Path, chunk: int) -> tuple[dict[str, torch.Tensor], PartHeader]:
    """One chunk's tensors and header.

    Raises:
        CheckpointError: it was altered, or is another chunk's.
    """
    path = parts / f"{chunk:05d}.safetensors"
    advice = "delete it, and the same command makes it again"
    tensors, found = load_tensors(path, advice)
    header = as_record(found, PartHeader, f"{path} (header)", text=True)
    if header.chunk != chunk:
        raise CheckpointError(f"{path} holds chunk {header.chunk}, expected {chunk}: it was altered; {advice}")
    return tensors, header


def _first(parts: Path, chunks: int, episodes: int) -> Iterator[Episode]:
    """The first ``episodes`` of all chunks, in order."""
    left = episodes
    for chunk in range(chunks):
        tensors, _ = _read_part(parts, chunk)
        at = 0
        for number, (steps, (terminated, truncated)) in enumerate(
            zip(tensors["length"].tolist(), tensors["ends"].tolist(), strict=True)
        ):
            if left == 0:
                return
            left -= 1
            first = at + number  # every episode has one observation more than actions
            yield Episode(
                tensors["observations"][first : first + steps + 1].numpy(),
                tensors["actions"][at : at + steps].numpy(),
                tensors["rewards"][at : at + steps].numpy(),
                terminated,
                truncated,
            )
            at += steps
