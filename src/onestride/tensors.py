"""Files of tensors: safetensors files with a digest of the whole file in their header, written atomically."""

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
    """Write tensors and a header of texts with a digest of the file, atomically."""

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
    """Return the tensors and the header of a file, after its digest was checked.

    Args:
        path: the file.
        required: whether a file without a digest is refused.
        advice: what to do about a file that is refused, for the message.

    Raises:
        CheckpointError: no safetensors file, or one that was altered or cut short.
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
    """Write tensors without a digest, atomically. The caller keeps the file's SHA-256."""
    write_atomically(path, lambda p: save_file(_contiguous(tensors), p))


def load_unsealed(path: Path, advice: str = ADVICE) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the header of a file. The caller checks its digest.

    Raises:
        CheckpointError: the file is missing, or no safetensors file.
    """
    with opened(path, advice) as f:
        return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118


@contextmanager
def opened(path: Path, advice: str = ADVICE) -> Iterator[Any]:
    """Open a safetensors file and check its header against its size. Tensors are read on request.

    Raises:
        CheckpointError: the file is missing, or no safetensors file.
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
    """Return the position of the digest in the file."""
    with path.open("rb") as f:
        header = f.read(int.from_bytes(f.read(8), "little"))
    entry = f'"{DIGEST}":"{digits}"'.encode()
    if header.count(entry) != 1:
        raise CheckpointError(f"{path} was altered: its digest is nowhere in its header")
    return 8 + header.index(entry) + len(DIGEST) + 4


def _digest(path: Path, at: int) -> str:
    """Return the digest of the file with its own digits left blank."""
    found = hashlib.sha256()
    with path.open("rb") as f:
        found.update(f.read(at) + _BLANK.encode())
        f.seek(at + DIGITS)
        while piece := f.read(1 << 20):
            found.update(piece)
    return found.hexdigest()[:DIGITS]
