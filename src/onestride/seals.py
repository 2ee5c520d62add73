"""Digests: a JSON file holds a digest of itself and of the files that belong to it, checked when it is read.

    {..., "files": {"model.safetensors": <SHA-256>}, "digest": <of this file without these digits>}

This detects accidents such as a flipped bit, and the message names the file. It does not protect against people,
because nothing is signed.
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
LARGEST_FILE = 4 << 30  # largest file that is read, far above the largest that is written [bytes]
DIGITS = 16  # hexadecimal digits of a digest
ADVICE = "make it again"
_END = re.compile(rb'"digest": "([0-9a-f]{16})"\s*\}\s*\Z')

T = TypeVar("T")


def seal(path: Path, value: Mapping[str, Any], files: Iterable[str] = ()) -> None:
    """Write ``value`` as JSON with a digest of itself and the SHA-256 of ``files`` in the same folder, atomically.

    Without ``files``, those that ``value`` lists already are kept, and the files are not read.
    """
    listed = {name: sha256(path.parent / name) for name in files}
    text = sealed(dict(value) | ({FILES: listed} if listed else {}), indent=2)
    write_atomically(path, lambda p: p.write_text(text + "\n"))


def sealed(value: Mapping[str, Any], indent: int | None = None) -> str:
    """Return ``value`` as JSON whose last entry is a digest of the rest."""
    body = {k: v for k, v in value.items() if k != DIGEST} | {DIGEST: ""}
    text = json.dumps(body, indent=indent, allow_nan=False)
    at = text.rindex('""') + 1
    return text[:at] + digest(text.encode()) + text[at:]


def check_seal(path: Path, kind: type[T] | Any = dict[str, Any], *, advice: str = ADVICE) -> T:
    """Return what ``seal`` wrote, without its digest, as ``kind``.

    Args:
        path: the file.
        kind: the type to convert it to.
        advice: what to do about a file that is refused, for the message.

    Raises:
        CheckpointError: the file has no digest, was altered, or is not of that kind.
    """
    return unsealed(read_bytes(path), path, kind, advice=advice)


def read_result(path: Path, kind: type[T] | Any = dict[str, Any]) -> T:
    """Return a result as ``kind``, without its digest. Early published results have no digest.

    Raises:
        CheckpointError: the file was altered, is no JSON, or not of that kind.
    """
    return unsealed(read_bytes(path), path, kind, advice="evaluate again", required=False)


def unsealed(
    data: bytes, where: Path | str, kind: type[T] | Any = dict[str, Any], *, advice: str = ADVICE, required: bool = True
) -> T:
    """Return the JSON of one file or line as ``kind``, after its digest was checked.

    Args:
        data: the JSON.
        where: what it was read from, for the message.
        kind: the type to convert it to.
        advice: what to do about data that are refused, for the message.
        required: whether data without a digest are refused.

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
    """Check the SHA-256 of the files that ``path`` lists.

    Args:
        path: the listing file, in the same folder.
        listed: SHA-256 by name.
        advice: what to do about a file that is refused, for the message.

    Raises:
        CheckpointError: a file is missing, altered, or in another folder.
    """
    for name, wanted in listed.items():
        check_file(path.parent, name, wanted, path.name, advice)


def check_file(folder: Path, name: str, wanted: str, lister: str, advice: str = ADVICE) -> None:
    """Check the SHA-256 of one file.

    Args:
        folder: that the file is in.
        name: of the file.
        wanted: its SHA-256.
        lister: name of the file that lists it.
        advice: what to do about a file that is refused, for the message.

    Raises:
        CheckpointError: the file is missing or altered, or ``name`` leads out of the folder.
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
    """Raise ``CheckpointError`` unless ``path`` is a regular file of at most ``LARGEST_FILE`` bytes."""
    size = size_of_file(path)
    if size > LARGEST_FILE:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {LARGEST_FILE}: it was altered; {ADVICE}")


def digest(data: bytes) -> str:
    """Return the first ``DIGITS`` digits of the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file in hexadecimal.

    Raises:
        CheckpointError: the file is missing, no regular file, too large, or cannot be read.
    """
    check_size(path)
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
