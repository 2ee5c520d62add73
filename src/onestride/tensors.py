"""Files of tensors: safetensors, atomically written, with a digest of the whole file in their header."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onestride.files import CheckpointError, write_atomically
from onestride.seals import ADVICE, DIGEST, DIGITS, check_size

_BLANK = "0" * DIGITS


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors and a text header with a digest of the file, atomically."""

    def write(temporary: Path) -> None:
        save_file(_contiguous(tensors), temporary, metadata={**(header or {}), DIGEST: _BLANK})
        at = _place(temporary, _BLANK)
        digits = _digest(temporary, at)
        with temporary.open("r+b") as f:
            f.seek(at)
            f.write(digits.encode())

    write_atomically(path, write)


def load_tensors(
    path: Path, *, required: bool = True, advice: str = ADVICE
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and header of a file, read whole.

    required: one without a digest is refused. advice: what to do about one that is.

    Raises:
        CheckpointError: not such a file, altered or cut short.
    """
    tensors, header = load_unsealed(path, advice)
    said = header.pop(DIGEST, None)
    if said is None:
        if required:
            raise CheckpointError(f"{path} carries no digest: it was altered, or is of an earlier version; {advice}")
    elif _digest(path, _place(path, said)) != said:
        raise CheckpointError(f"{path} was altered: it is not what its digest says; {advice}")
    return tensors, header


def save_unsealed(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, atomically; the SHA-256 of the file is kept elsewhere."""
    write_atomically(path, lambda p: save_file(_contiguous(tensors), p))


def load_unsealed(path: Path, advice: str = ADVICE) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and header of a file that was, or will be, held against a digest."""
    with opened(path, advice) as f:
        return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118


@contextmanager
def opened(path: Path, advice: str = ADVICE) -> Iterator[Any]:
    """A safetensors file whose header agrees with its size; its tensors are read when asked for.

    Raises:
        CheckpointError: it is missing, or not such a file.
    """
    check_size(path)
    try:
        with safe_open(path, framework="pt") as f:
            yield f
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); it was altered or cut short: {advice}") from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _place(path: Path, digits: str) -> int:
    """Where in the file its header says its digest."""
    with path.open("rb") as f:
        header = f.read(int.from_bytes(f.read(8), "little"))
    entry = f'"{DIGEST}":"{digits}"'.encode()
    if header.count(entry) != 1:
        raise CheckpointError(f"{path} was altered: its digest is nowhere in its header")
    return 8 + header.index(entry) + len(DIGEST) + 4


def _digest(path: Path, at: int) -> str:
    """Of the file, with nothing said where its digest is."""
    found = hashlib.sha256()
    with path.open("rb") as f:
        found.update(f.read(at) + _BLANK.encode())
        f.seek(at + DIGITS)
        while piece := f.read(1 << 20):
            found.update(piece)
    return found.hexdigest()[:DIGITS]
