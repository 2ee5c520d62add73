"""Weights saved by torch, read as arrays: only names, shapes and offsets are taken from the pickle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onestride.data.archive import Archive, open_archive
from onestride.data.claims import check_claim
from onestride.data.pickled import Made, Named, describe, read_pickle

DTYPES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Bool": "?"}
STORAGES = {f"torch.{name}Storage": np.dtype(dtype) for name, dtype in DTYPES.items()}
DICTIONARY, TENSOR = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2"


class TorchFile:
    """A file that ``torch.save`` wrote, open.

    Attributes:
        value: what was saved, with records in place of objects and tensors, see ``read_pickle``.

    Raises:
        ValueError: a damaged file, the format before torch 1.6, or a pickle that names what is not known.
    """

    def __init__(self, archive: Archive, size: int, known: Callable[[str], bool]) -> None:
        pickles = [name for name in archive.names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it has no data.pkl")
        self._archive, self._size, self._folder = archive, size, pickles[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in archive.names and archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian")
        self.value = read_pickle(bytes(archive.read(pickles[0])), known)

    def tensors(self, state: Any) -> dict[str, np.ndarray] | None:
        """Return the tensors of a state dict in ``value`` by name, in float32; None: it is no dictionary of tensors.

        Raises:
            ValueError: tensors that are not dense, or claim more than the file can hold.
        """
        return _tensors(state, self._archive, self._folder, self._size)


@contextmanager
def open_torch(source: Path | bytearray, known: Callable[[str], bool] | None = None) -> Iterator[TorchFile]:
    """Open a file that ``torch.save`` wrote, or the bytes of one.

    Args:
        source: the file.
        known: returns whether its pickle may have a name, ``module.name``, beside those that tensors need. Nothing that
            it names is imported or called.

    Raises:
        ValueError: see ``TorchFile``.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    with open_archive(source) as archive:
        yield TorchFile(archive, size, lambda kind: _of_tensors(kind) or (known is not None and known(kind)))


def read_state_dict(raw: bytearray) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name, in float32.

    Args:
        raw: the bytes of the file.

    Raises:
        ValueError: a damaged file, the format before torch 1.6, something other than dense tensors on the CPU, or
            tensors that claim more than the file can hold.
    """
    try:
        with open_torch(raw) as file:
            made, state = file.value, file.tensors(file.value)
    except ValueError as error:
        raise ValueError(f"policy.pth holds more than tensors, or is cut short: it is not read ({error})") from error
    if state is None:
        raise ValueError(f"expected policy.pth to be a state dict of tensors, got {describe(made)}")
    return state


def _of_tensors(kind: str) -> bool:
    return kind in STORAGES or kind in (DICTIONARY, TENSOR)


def _tensors(made: Any, archive: Archive, folder: str, size: int) -> dict[str, np.ndarray] | None:
    items = made.items if isinstance(made, Made) and made.kind == DICTIONARY else made
    if not isinstance(items, dict) or not all(isinstance(v, Made) and v.kind == TENSOR for v in items.values()):
        return None
    plans = {name: _plan(tensor) for name, tensor in items.items()}
    check_claim("it", sum(4 * math.prod(shape) for _, _, _, shape, _ in plans.values()), size)
    storages = {key: archive.read(f"{folder}data/{key}") for key in {plan[1] for plan in plans.values()}}
    state = {}
    for name, (dtype, key, offset, shape, strides) in plans.items():
        numbers = len(storages[key]) // dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if math.prod(shape) > numbers or (math.prod(shape) and last >= numbers):
            raise ValueError(f"{name[:80]!r} claims {shape}, and its storage has {numbers} numbers")
        flat = np.frombuffer(storages[key], dtype, numbers)[offset:]
        array = np.lib.stride_tricks.as_strided(flat, shape, [step * dtype.itemsize for step in strides])
        state[name] = array.astype(np.float32)
    return state


def _plan(tensor: Made) -> tuple[np.dtype, str, int, tuple[int, ...], tuple[int, ...]]:
    """Return the dtype, storage, offset, shape and strides of a tensor; offset and strides count numbers."""
    if len(tensor.args) < 4:
        raise ValueError("a tensor of it has no shape")
    storage, offset, shape, strides = tensor.args[:4]
    place = storage.args[0] if isinstance(storage, Made) and storage.kind == "persistent id" else None
    if not isinstance(place, tuple) or len(place) < 3 or not isinstance(place[1], Named):
        raise ValueError(f"a tensor of it is kept in {describe(storage)}")
    numbers = all(_is_counts(row) for row in (shape, strides, (offset,)))
    if not numbers or len(shape) != len(strides) or not isinstance(place[2], str) or place[1].kind not in STORAGES:
        raise ValueError("a tensor of it has no shape that can be")
    return STORAGES[place[1].kind], place[2], offset, shape, strides


def _is_counts(row: Any) -> bool:
    return isinstance(row, tuple) and len(row) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in row)
