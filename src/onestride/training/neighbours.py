"""Windows of like conditions: beside every row its nearest ones in key space, found once before training.

The key of a window is what is known of a plan before it is generated, normalised: its known entries and its context.
Nearest are looked for among a part of all windows that is spread evenly over them. Of each other episode at most one
counts, and of a window's own episode none: windows that lie a few steps apart are the same plan once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onestride.plans.spec import PlanSpec
from onestride.progress import track
from onestride.tensors import load_tensors, save_tensors
from onestride.training.datasets import Dataset

VERSION = 1  # of the search: another one finds others
REFERENCES = 131_072  # windows among which neighbours are looked for by a tree
WIDE = 24  # columns from which keys fill too many dimensions for a tree
WIDE_REFERENCES = 32_768  # windows among which they are looked for then
SPREAD = 2_048  # windows whose keys are shown as ``Neighbours.spread``
CHUNK = 16_384  # windows whose neighbours are looked for at a time by a tree
WIDE_CHUNK = 2_048  # and without one
SOUGHT = 8  # times as many as are wanted, since several may be of one episode
SLACK = 1.0  # the tree's: what it finds may be so much farther than the nearest, relatively; seldom is


@dataclass(frozen=True)
class Nearest:
    """index, distance (M, K): of every window's neighbours, the nearest first; scale: the mean distance of two keys.

    Where there are fewer than K, the window itself stands there at an infinite distance.
    """

    index: Tensor
    distance: Tensor
    scale: float


class Neighbours:
    """A dataset whose rows have their neighbours beside them.

    "neighbours" (B, K, H, D) and "neighbour_distance" (B, K), in units of the mean distance between two keys.
    spread: keys (S, K + C) of windows that are spread evenly over all.
    """

    def __init__(self, data: Dataset, nearest: Nearest, spread: Tensor) -> None:
        self.data, self.nearest, self.spread = data, nearest, spread

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device) -> Neighbours:
        """Return the same rows there."""
        found = self.nearest
        there = Nearest(found.index.to(device), found.distance.to(device), found.scale)
        return Neighbours(self.data.to(device), there, self.spread)

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows of these numbers, and their neighbours."""
        batch = self.data.rows(index)
        near = self.nearest.index[index]
        plans = self.data.rows(near.flatten().long())["plans"]
        distance = self.nearest.distance[index] / self.nearest.scale
        return batch | {"neighbours": plans.unflatten(0, near.shape), "neighbour_distance": distance}


def with_neighbours(
    data: Dataset, spec: PlanSpec, start: Tensor, episode: Tensor, count: int, reach: float, folder: Path
) -> Dataset:  # fmt: skip
    """Return the rows with their ``count`` nearest of other episodes beside them.

    They are looked for once: ``neighbours-<digest>.safetensors`` in the folder keeps them.

    Args:
        data: normalised windows, rows {"plans" (H, D), "context" (C,)}.
        spec: the plans' shape, and what of it is known.
        start: the number of every window (M,); windows that are there several times have one.
        episode: of every window (M,).
        count: how many neighbours; 0: none, and the data as they are.
        reach: how near one has to be, in mean distances, to be of any use.
        folder: where they are kept.

    Raises:
        CheckpointError: what is kept there was altered.
        ValueError: nowhere is there a neighbour within reach.
    """
    if not count:
        return data
    _, back = torch.unique(start, return_inverse=True)
    once = torch.empty(int(back.max()) + 1, dtype=torch.long).scatter_(0, back, torch.arange(len(back)))
    keys = keys_of(data, once, spec)
    found = _kept_nearest(keys, episode[once], count, folder)
    closest = found.distance[:, 0] / found.scale
    if not (closest < reach).any():
        raise ValueError(
            f"no window has a neighbour within reach: the nearest of another episode is {float(closest.min()):.3g} "
            f"mean distances away, expected less than {reach:g}. Bring more episodes, or train with "
            "--config.neighbours 0"
        )
    there = Nearest(once[found.index[back].long()].int(), found.distance[back], found.scale)
    return Neighbours(data, there, keys[torch.linspace(0, len(keys) - 1, SPREAD).long()])


def _kept_nearest(keys: Tensor, episode: Tensor, count: int, folder: Path) -> Nearest:
    among = WIDE_REFERENCES if keys.shape[1] >= WIDE else REFERENCES
    digest = hashlib.sha256(repr((VERSION, count, among, SOUGHT, SLACK)).encode())
    for each in (keys, episode):
        digest.update(each.contiguous().numpy().tobytes())
    path = folder / f"neighbours-{digest.hexdigest()[:16]}.safetensors"
    if not path.exists():
        found = nearest(keys, episode, count)
        save_tensors(path, {"index": found.index, "distance": found.distance}, {"scale": repr(found.scale)})
        return found
    tensors, header = load_tensors(path, advice="delete it, and it is made again")
    return Nearest(tensors["index"], tensors["distance"], float(header["scale"]))


def keys_of(data: Dataset, which: Tensor, spec: PlanSpec) -> Tensor:
    """Return the keys (M, K + C) of these windows (M,): known entries, then context, normalised."""
    known, made = torch.from_numpy(spec.known_entries), []
    for part in which.split(CHUNK):
        batch = data.rows(part)
        made.append(torch.cat((batch["plans"].flatten(1)[:, known], batch["context"]), 1))
    return torch.cat(made)


def nearest(
    keys: Tensor, episode: Tensor, count: int, references: int | None = None, slack: float = SLACK
) -> Nearest:  # fmt: skip
    """Return the ``count`` nearest windows of different other episodes, for every window.

    Keys of few columns are sought by a k-d tree, which with 17 of them is several times as fast as products of
    matrices, since they lie on few dimensions. In a scene's 33 columns a tree looks at almost every window; there it
    is products, among fewer.

    Args:
        keys: (M, K).
        episode: of every window (M,).
        count: how many neighbours, at least 1.
        references: among how many windows they are looked for, spread evenly over all; None: as many as suit the keys.
        slack: what a tree finds may be so much farther than the nearest, relatively; 0: it is exact.
    """
    wide = keys.shape[1] >= WIDE
    references = references or (WIDE_REFERENCES if wide else REFERENCES)
    among = torch.arange(0, len(keys), -(-len(keys) // references))
    theirs, of = keys[among], episode[among]
    sought = min(SOUGHT * count, len(among))
    search, chunk = (_by_products(theirs, sought), WIDE_CHUNK) if wide else (_by_tree(theirs, sought, slack), CHUNK)
    index = torch.arange(len(keys))[:, None].repeat(1, count)
    distance = torch.full((len(keys), count), torch.inf)
    with track("neighbours", len(keys)) as bar:
        for first in range(0, len(keys), chunk):
            part = slice(first, min(first + chunk, len(keys)))
            apart, close = search(keys[part])
            which, fits = _first_of_each(of[close], episode[part], count)
            rows = which.shape[1]
            index[part, :rows] = torch.where(fits, among[close.gather(1, which)], index[part, :rows])
            distance[part, :rows] = torch.where(fits, apart.gather(1, which), torch.inf)
            bar.update(part.stop)
    return Nearest(index.int(), distance, _mean_distance(theirs))


#: Maps keys (B, K) to distances and numbers (B, S) of the nearest references, the nearest first.
Search = Callable[[Tensor], tuple[Tensor, Tensor]]


def _by_tree(theirs: Tensor, sought: int, slack: float) -> Search:
    from scipy.spatial import KDTree  # takes its time, and few methods ask for neighbours

    tree = KDTree(theirs.numpy())
    columns: Any = list(range(1, sought + 1))  # a list: a column of the answer for each

    def search(keys: Tensor) -> tuple[Tensor, Tensor]:
        apart, close = tree.query(keys.numpy(), k=columns, eps=slack, workers=torch.get_num_threads())
        return torch.from_numpy(apart).float(), torch.from_numpy(close)

    return search


def _by_products(theirs: Tensor, sought: int) -> Search:
    half = theirs.square().sum(1) / 2

    def search(keys: Tensor) -> tuple[Tensor, Tensor]:
        close = torch.addmm(half[None], keys, theirs.T, alpha=-1).topk(sought, largest=False).indices
        apart = (theirs[close] - keys[:, None]).square().sum(2).sqrt()  # not from the products: these cancel
        apart, order = apart.sort(1)
        return apart, close.gather(1, order)

    return search


def _first_of_each(of: Tensor, own: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the columns (B, count) of the first window of each episode but the own, and whether there is one there.

    of: episodes of windows (B, S), the nearest first. own: (B,).
    """
    s = of.shape[1]
    ordered, at = of.sort(dim=1, stable=True)  # windows of one episode side by side, the nearest of them first
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    taken = torch.zeros_like(again).scatter_(1, at, again) | (of == own[:, None])
    order = torch.where(taken, s, torch.arange(s)).sort(1).values[:, : min(count, s)]
    return order.clamp(max=s - 1), order < s


def _mean_distance(keys: Tensor) -> float:
    """The mean distance between two windows' keys."""
    few = keys[:: max(1, len(keys) // 2_048)]
    return max(float(torch.pdist(few).mean()), 1e-6) if len(few) > 1 else 1.0
