"""Manifests: JSON files that say what their folder's files were when they were written, and what they were themselves.

A manifest holds, beside what it is for, ``files`` (name -> bytes and SHA-256) and ``sha256``, the digest of everything
else in it. Both are verified whenever it is read, so that a flipped bit is refused and never decides. They guard
against accidents, not against people: nobody signs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from msgspec import Struct, structs

from onestride.files import CheckpointError, as_record, read_json, size_of_file, write_json

M = TypeVar("M", bound="Manifest")
ALTERED = "it was altered or cut short"


class FileEntry(Struct, forbid_unknown_fields=True):
    """Size [bytes] and SHA-256 of a file."""

    bytes: int
    sha256: str


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every manifest holds; subclasses add what theirs is for."""

    files: dict[str, FileEntry]
    sha256: str


def write_manifest(
    path: Path, value: dict[str, Any], files: Iterable[str] = (), known: Mapping[str, FileEntry] | None = None
) -> None:
    """Write ``value`` with the digests of these files (names below the manifest's folder) and its own, in one step.

    known: digests of other files, from when those were written.
    """
    listed = {name: structs.asdict(entry) for name, entry in (known or {}).items()}
    listed |= {name: _entry(path.parent / name) for name in files}
    whole = {**value, "files": dict(sorted(listed.items()))}
    whole = json.loads(json.dumps(whole, allow_nan=False))  # as it is read: tuples are lists
    write_json(path, whole | {"sha256": digest(whole)})


def read_manifest(path: Path, type: type[Manifest], advice: str, *, check: bool = True) -> dict[str, Any]:
    """Return a manifest as JSON gives it, after holding it against its type and its digest, and its files with it.

    Args:
        path: Of the manifest.
        type: What it must hold.
        advice: What to do about one that is not as it was written.
        check: The files, too.

    Raises:
        CheckpointError: it, or a file it lists, is not what was written; the message names the file.
    """
    found = read_json(path)
    check_manifest(found, path, type, advice, check=check)
    return found


def check_manifest(found: Any, path: Path, type: type[M], advice: str, *, check: bool = True) -> M:
    """Hold what JSON gave of a manifest against its type, its digest and its files, as ``read_manifest`` does."""
    record = as_record(found, type, path)
    check_digest(found, path, advice)
    for name, entry in record.files.items() if check else ():
        check_file(_below(path, name), entry, advice)
    return record


def without_digests(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest is for, without what guards it."""
    return {name: value for name, value in found.items() if name not in ("files", "sha256")}


def check_digest(found: dict[str, Any], path: Path, advice: str) -> None:
    """Raise ``CheckpointError`` unless what JSON gave is what its ``sha256`` says."""
    if found.get("sha256") != digest({k: v for k, v in found.items() if k != "sha256"}):
        raise CheckpointError(f"{path} is not what was written (its digest differs): {ALTERED}; {advice}")


def check_file(path: Path, entry: FileEntry, advice: str) -> None:
    """Raise ``CheckpointError`` unless the file is the one that was written. Its size is compared before it is read."""
    try:
        size = size_of_file(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {advice}") from error
    if size != entry.bytes:
        raise CheckpointError(f"{path} has {size} bytes, expected {entry.bytes}: {ALTERED}; {advice}")
    found = file_digest(path)
    if found != entry.sha256:
        raise CheckpointError(
            f"{path} is not what was written: {ALTERED} (SHA-256 is {found[:12]}..., expected {entry.sha256[:12]}...); "
            f"{advice}"
        )


def digest(value: Any) -> str:
    """Return the SHA-256 of what JSON can hold, whatever its spaces and the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": size_of_file(path), "sha256": file_digest(path)}


def _below(path: Path, name: str) -> Path:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise CheckpointError(f"{path} lists '{name}', which is not in its folder; do not use it")
    return path.parent / name
