"""Collection of episodes from a source that makes them in numbered chunks. It resumes after a kill at any moment."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box

from onestride.checkpoint import typed
from onestride.data.episode import Episode
from onestride.data.minari import read_metadata, write_dataset
from onestride.differences import differing
from onestride.files import CheckpointError, decode, exclusive
from onestride.progress import track
from onestride.seals import check_seal, seal
from onestride.tensors import load_tensors, save_tensors

#: Maps (seed, chunk number) to the chunk's episodes and counts of events such as "scenes" or "refused: ...". The result
#: depends on these two arguments alone.
Source = Callable[[int, int], tuple[list[Episode], Counter[str]]]
Unit = Literal["episodes", "steps"]
IMAGE = "images."  # begins the names of cameras' images in a chunk's file


@dataclass(frozen=True)
class Said:
    """The header of a chunk's file.

    Attributes:
        chunk: its number.
        episodes: how many it has.
        steps: how many it has.
        seconds: wall time that it took [s].
        counts: of events, as JSON.
    """

    chunk: int
    episodes: int
    steps: int
    seconds: float
    counts: str


def collect(
    source: Source, amount: int, seed: int, folder: Path, metadata: dict[str, Any], action: Box,
    unit: Unit = "episodes", note: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Collect ``amount`` episodes or steps, write them as one dataset, and return its metadata.

    With unit "episodes" the last chunk's surplus is left out. With unit "steps" whole chunks are kept: where all have
    the same length and the amount is a multiple of it, the dataset has exactly that amount.

    Chunks are stored next to the dataset until it is written. After a kill the same call continues and gives the same
    episodes. A finished dataset with the same settings is left unchanged.

    Args:
        source: makes the chunks.
        amount: of episodes or steps.
        seed: of the source.
        folder: of the dataset.
        metadata: written with the dataset.
        action: the space of actions.
        unit: of ``amount``.
        note: written with the dataset too, and no setting: a finished dataset may have another one.

    Raises:
        CheckpointError: the folder or the stored chunks were made with other settings, or another process collects.
        ValueError: the first chunks have no episode.
    """
    with exclusive(folder):
        return _collect(source, amount, seed, folder, metadata, action, unit, note or {})


def _collect(
    source: Source, amount: int, seed: int, folder: Path, metadata: dict[str, Any], action: Box, unit: Unit,
    note: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    settings = {"seed": seed, unit: amount, **metadata}
    parts = folder.with_name(f".{folder.name}.parts")
    if folder.exists():
        found = read_metadata(folder)
        if any(found.get(k) != v for k, v in settings.items()):
            which = differing({k: found[k] for k in settings if k in found}, settings)
            raise CheckpointError(
                f"{folder} holds a dataset made with other settings{which}; choose another --run or delete it"
            )
        shutil.rmtree(parts, ignore_errors=True)  # a kill came between the dataset and this
        return found
    begun = parts / "settings.json"
    there = check_seal(begun, advice=f"delete {parts}") if begun.exists() else None
    if there is not None and there != json.loads(json.dumps(settings)):
        which = differing(there, settings)
        raise CheckpointError(
            f"{parts} was begun with other settings{which}; choose another --run, or delete that folder"
        )
    seal(begun, settings)
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
            said = typed(load_tensors(path, advice=f"delete {path}")[1], Said, f"{path}, header", strict=False)
            if said.chunk != chunk:
                raise CheckpointError(f"{path} holds chunk {said.chunk}, expected {chunk}; delete {path}")
            made["episodes"] += said.episodes
            made["steps"] += said.steps
            seconds += said.seconds
            counts += Counter(decode(said.counts, dict[str, int], f"{path}, header, counts"))
            chunk += 1
            if chunk >= 20 and not any(made.values()):
                raise ValueError(f"no episode came of {chunk} chunks ({dict(counts)}): the settings are too tight")
            bar.update(min(made[unit], amount), f"{made[unit] / max(seconds, 1e-9):.0f} {unit}/s")
    rate = {f"{name}_per_s": number / max(seconds, 1e-9) for name, number in made.items()}
    report = {**settings, **note, "counts": dict(counts), **rate}
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
        for name in episodes[0].images:
            tensors[f"{IMAGE}{name}"] = torch.from_numpy(np.concatenate([e.images[name] for e in episodes]))
    steps = sum(len(e) for e in episodes)
    header = {
        "chunk": str(chunk),
        "episodes": str(len(episodes)),
        "steps": str(steps),
        "counts": json.dumps(counts),
        "seconds": str(seconds),
    }
    save_tensors(path, tensors, header)


def _first(parts: Path, chunks: int, episodes: int) -> Iterator[Episode]:
    """Yield the first ``episodes`` episodes of all chunks, in order."""
    left = episodes
    for chunk in range(chunks):
        path = parts / f"{chunk:05d}.safetensors"
        tensors, _ = load_tensors(path, advice=f"delete {path}")
        images = {name.removeprefix(IMAGE): value for name, value in tensors.items() if name.startswith(IMAGE)}
        at = 0
        for number, (steps, (terminated, truncated)) in enumerate(
            zip(tensors["length"].tolist(), tensors["ends"].tolist(), strict=True)
        ):
            if left == 0:
                return
            left -= 1
            first = at + number  # every episode has one observation more than actions
            seen = slice(first, first + steps + 1)
            yield Episode(
                tensors["observations"][seen].numpy(),
                tensors["actions"][at : at + steps].numpy(),
                tensors["rewards"][at : at + steps].numpy(),
                terminated,
                truncated,
                {name: value[seen].numpy() for name, value in images.items()},
            )
            at += steps
