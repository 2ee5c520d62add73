"""What training reads: rows by their numbers, from the device's memory, from windows made when asked for, from disk.

A dataset has a length and ``rows(index) -> batch``, columns of equal length on the device; whatever a method wants of a
row (its history, its neighbours, an image) comes through that one door. ``{"name": tensor (M, ...)}`` is one too: it is
kept on the device as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Columns = Mapping[str, Tensor]


@runtime_checkable
class Dataset(Protocol):
    """Rows by their numbers (B,), on the device where ``to`` put it."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Dataset: ...

    def rows(self, index: Tensor) -> dict[str, Tensor]: ...


class Resident:
    """Columns (M, ...) held on the device as a whole, and gathered there."""

    def __init__(self, columns: Columns) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"data columns differ in length: {lengths}")
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to(self, device: torch.device) -> Resident:
        """Return the same columns there."""
        return Resident({name: column.to(device) for name, column in self.columns.items()})

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows of these numbers."""
        return {name: column[index] for name, column in self.columns.items()}


class Lazy:
    """Rows that are made on the CPU when they are asked for.

    Args:
        length: how many there are.
        make: (numbers (B,) on the CPU) -> columns, what a batch is.
    """

    def __init__(self, length: int, make: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self.length, self.make = length, make
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.length

    def to(self, device: torch.device) -> Lazy:
        """Return the same rows, brought there."""
        there = Lazy(self.length, self.make)
        there.device = device
        return there

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows of these numbers."""
        made = self.make(index.cpu())
        return {name: column.to(self.device, non_blocking=True) for name, column in made.items()}


def streamed(folder: Path) -> Lazy:
    """Return columns ``<name>.npy`` of a folder as a dataset that reads from disk what a batch needs.

    Raises:
        ValueError: there are no such files, or their lengths differ.
    """
    arrays: dict[str, Any] = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{folder} has columns of lengths {lengths or 'none at all'}; expected one length for all")

    def make(index: Tensor) -> dict[str, Tensor]:
        order, back = np.unique(index.numpy(), return_inverse=True)  # the disk is read in one direction
        return {name: torch.from_numpy(np.array(array[order])[back]) for name, array in arrays.items()}

    return Lazy(next(iter(lengths.values())), make)


class Beside:
    """Rows with more columns, which are made on the CPU when they are asked for.

    Args:
        data: the rows.
        make: (numbers (B,) on the CPU) -> more columns by name.
        prefix: of their names.
    """

    def __init__(
        self,
        data: Dataset,
        make: Callable[[Tensor], dict[str, Tensor]],
        prefix: str,
        device: torch.device | None = None,
    ) -> None:
        self.data, self.make, self.prefix, self.device = data, make, prefix, device or torch.device("cpu")

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device) -> Beside:
        """Return the same rows, brought there."""
        return Beside(self.data.to(device), self.make, self.prefix, device)

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows of these numbers."""
        more = {f"{self.prefix}{name}": column.to(self.device) for name, column in self.make(index.cpu()).items()}
        return self.data.rows(index) | more


class Rows(Protocol):
    """Rows of a matrix by their numbers: a tensor (M, K), or what makes them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


class Packed:
    """Observations with images as vectors, which are made when they are asked for; see ``robot/fields.py``.

    Args:
        numbers: (M, n_obs_steps, numbers of a step).
        cameras: their names, in the order of the fields.
        images: (numbers (B,)) -> images (B, n_obs_steps, height, width, 3) by camera.
    """

    def __init__(self, numbers: Tensor, cameras: Sequence[str], images: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self.numbers, self.cameras, self.images = numbers, tuple(cameras), images

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Return vectors (B, observation_dim)."""
        seen = self.images(index)
        parts = [self.numbers[index], *(seen[name].flatten(2).float() for name in self.cameras)]
        return torch.cat(parts, 2).flatten(1)


class Stratified:
    """Two or more datasets with the same columns, of which every batch has fixed shares; ``part`` (B,) says whose a row
    is.

    Args:
        parts: the datasets.
        shares: of a batch, adding up to 1.
    """

    def __init__(self, parts: Sequence[Dataset], shares: Sequence[float]) -> None:
        if len(parts) != len(shares) or min(shares, default=0) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"{len(parts)} datasets need as many shares above 0, adding up to 1; got {tuple(shares)}")
        self.parts, self.shares = list(parts), tuple(shares)
        self.firsts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def to(self, device: torch.device) -> Stratified:
        """Return the same datasets there."""
        return Stratified([part.to(device) for part in self.parts], self.shares)

    def counts(self, batch_size: int) -> list[int]:
        """Return how many rows of a batch are of each part.

        Raises:
            ValueError: the batch is too small for one of them.
        """
        bounds = np.round(np.cumsum((0.0, *self.shares)) * batch_size).astype(int)
        counts = np.diff(bounds).tolist()
        if min(counts) < 1:
            raise ValueError(f"a batch of {batch_size} has no row for a share of {min(self.shares)}; take a larger one")
        return counts

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows of these numbers, which count through the parts one after another."""
        found: list[dict[str, Tensor]] = []
        places = []
        for number, part in enumerate(self.parts):
            first, last = int(self.firsts[number]), int(self.firsts[number + 1])
            here = ((index >= first) & (index < last)).nonzero().flatten()
            if len(here):
                batch = part.rows(index[here] - first)
                found.append(batch | {"part": torch.full((len(here),), number, device=index.device)})
                places.append(here)
        back = torch.cat(places).argsort()
        return {name: torch.cat([batch[name] for batch in found])[back] for name in found[0]}


def as_dataset(data: Dataset | Columns) -> Dataset:
    """Return columns as a dataset, and a dataset as it is."""
    return Resident(data) if isinstance(data, Mapping) else data


class Order:
    """Which rows a step sees: every epoch its own shuffle, a function of seed and epoch alone.

    Of a ``Stratified`` dataset each part has epochs of its own.
    """

    def __init__(self, data: Dataset, batch_size: int, seed: int, device: torch.device) -> None:
        if isinstance(data, Stratified):
            sizes, lengths = data.counts(batch_size), [len(part) for part in data.parts]
        else:
            sizes, lengths = [batch_size], [len(data)]
        for size, length in zip(sizes, lengths, strict=True):
            if length < size:
                raise ValueError(
                    f"{length} rows are fewer than one batch of {size}; collect more, or lower training.batch_size"
                )
        firsts = np.cumsum([0, *lengths])[:-1].tolist()
        seeds = [seed, *(mix(seed, -2 - number) for number in range(1, len(sizes)))]
        self._parts = [
            _Shuffles(length, size, each, first, device)
            for length, size, each, first in zip(lengths, sizes, seeds, firsts, strict=True)
        ]

    def rows(self, step: int) -> Tensor:
        """Return the numbers of a step's rows (B,)."""
        each = [part.rows(step) for part in self._parts]
        return each[0] if len(each) == 1 else torch.cat(each)


class _Shuffles:
    def __init__(self, count: int, size: int, seed: int, first: int, device: torch.device) -> None:
        self.size, self.count, self.seed, self.first, self.device = size, count, seed, first, device
        self.per_epoch = count // size
        self.epoch, self.shuffle = -1, torch.empty(0)

    def rows(self, step: int) -> Tensor:
        epoch, at = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffler = torch.Generator().manual_seed(mix(self.seed, ~epoch))
            self.shuffle = torch.randperm(self.count, generator=shuffler).to(self.device) + self.first
            self.epoch = epoch
        return self.shuffle[at * self.size : (at + 1) * self.size]


def mix(seed: int, step: int) -> int:
    """Return a 63-bit number that differs for every (seed, step)."""
    text = f"{seed}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
