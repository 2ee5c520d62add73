"""Digests: a JSON file of ours says what it and the files beside it are, and is held against that when it is read.

    {..., "files": {"model.safetensors": <SHA-256>}, "digest": <of this file without these digits>}

A bit that flips on a disk is refused with the file's name. That is against accidents, not against people: nobody signs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from onestride.files import CheckpointError, decode, read_bytes, size_of_file, write_atomically

FILES, DIGEST = "files", "digest"
LARGEST_FILE = 4 << 30  # [bytes], far above the largest that is written
DIGITS = 16  # of a digest, hexadecimal
ADVICE = "make it again"
_END = re.compile(rb'"digest": "([0-9a-f]{16})"\s*\}\s*\Z')

T = TypeVar("T")


def seal(path: Path, value: Mapping[str, Any], files: Iterable[str] = ()) -> None:
    """Write ``value`` as JSON with the SHA-256 of ``files`` beside it and a digest of itself, atomically.

    Without ``files``, those that ``value`` lists already stay as they are: what is on disk is not looked at again.
    """
    listed = {name: sha256(path.parent / name) for name in files}
    text = sealed(dict(value) | ({FILES: listed} if listed else {}), indent=2)
    write_atomically(path, lambda p: p.write_text(text + "\n"))


def sealed(value: Mapping[str, Any], indent: int | None = None) -> str:
    """Return JSON whose last entry is a digest of the rest."""
    body = {k: v for k, v in value.items() if k != DIGEST} | {DIGEST: ""}
    text = json.dumps(body, indent=indent, allow_nan=False)
    at = text.rindex('""') + 1
    return text[:at] + digest(text.encode()) + text[at:]


def check_seal(path: Path, kind: type[T] | Any = dict[str, Any], *, advice: str = ADVICE) -> T:
    """Return what ``seal`` wrote, without its digest, as ``kind``.

    Raises:
        CheckpointError: it carries no digest or is no longer what it was; or it is not of this kind.
    """
    return unsealed(read_bytes(path), path, kind, advice=advice)


def read_result(path: Path, kind: type[T] | Any = dict[str, Any]) -> T:
    """Return a result as ``kind``, without its digest. Results that were published before there was one have none.

    Raises:
        CheckpointError: it is not what its digest says, no JSON, or not of this kind.
    """
    return unsealed(read_bytes(path), path, kind, advice="evaluate again", required=False)


def unsealed(
    data: bytes, where: Path | str, kind: type[T] | Any = dict[str, Any], *, advice: str = ADVICE, required: bool = True
) -> T:
    """Return the JSON of one file or line, held against its digest. required: one without a digest is refused.

    Raises:
        CheckpointError: see ``check_seal``.
    """
    value = decode(data, dict[str, Any], where)
    end = _END.search(data.rstrip())
    if end is not None:
        data = data.rstrip()
        if digest(data[: end.start(1)] + data[end.end(1) :]) != end[1].decode():
            raise CheckpointError(f"{where} was altered: it is not what its digest says; {advice}")
        del value[DIGEST]
    elif required or DIGEST in value:
        raise CheckpointError(f"{where} carries no digest: it was altered, or is of an earlier version; {advice}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{where}: {error}; it is of another version: {advice}") from error


def check_files(path: Path, listed: Mapping[str, str], *, advice: str = ADVICE) -> None:
    """Hold files beside ``path``, which lists them, against their SHA-256.

    Raises:
        CheckpointError: one is missing, altered, or lies in another folder.
    """
    for name, wanted in listed.items():
        check_file(path.parent, name, wanted, path.name, advice)


def check_file(folder: Path, name: str, wanted: str, lister: str, advice: str = ADVICE) -> None:
    """Hold one file against its SHA-256. lister: the file that says it.

    Raises:
        CheckpointError: it is missing or altered, or ``name`` leads out of the folder.
    """
    inside = Path(name)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise CheckpointError(f"{folder / lister} lists '{name}', which is not in its folder: it was altered; {advice}")
    found = sha256(folder / name)
    if found != wanted:
        raise CheckpointError(
            f"{folder / name} was altered or cut short: its SHA-256 is {found[:12]}..., {lister} says "
            f"{wanted[:12]}...; {advice}"
        )


def check_size(path: Path) -> None:
    """Raise ``CheckpointError`` unless it is a regular file of a size that is written here: none is read for ever."""
    size = size_of_file(path)
    if size > LARGEST_FILE:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {LARGEST_FILE}: it was altered; {ADVICE}")


def digest(data: bytes) -> str:
    """Return the first digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal.

    Raises:
        CheckpointError: it is missing, of another kind, or cannot be read.
    """
    check_size(path)
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
