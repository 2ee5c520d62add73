"""Records of an evaluation: a file of JSON lines, each with a digest of its own, to which lines are added."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from onestride.files import CheckpointError, as_record, decode_json, size_of_file, write_atomically
from onestride.manifest import digest

LARGEST = 1 << 30  # [bytes]
#: What tells one record of a file from the others.
KEYS = ("row", "seed", "episode", "scene")


class Record(Struct):
    """What every record says; the rest is what its evaluation measures."""

    row: str
    seed: int
    sha256: str


def read_records(path: Path) -> list[dict[str, Any]]:
    """Every whole line; a last line cut by a kill does not count, and is made again.

    Raises:
        CheckpointError: a line is not what was written, or stands there twice; the message names file and line.
    """
    if not path.exists():
        return []
    size = size_of_file(path)
    if size > LARGEST:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {LARGEST} of records: evaluate again")
    records: list[dict[str, Any]] = []
    seen: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        where = f"{path}, line {number},"
        record = decode_json(line, Any, where)
        said = as_record(record, Record, where)
        del record["sha256"]
        if said.sha256 != _digest(record):
            raise CheckpointError(f"{where} is not what was written: it was altered; delete it, and evaluate again")
        key = tuple(record.get(name) for name in KEYS)
        if key in seen:
            raise CheckpointError(f"{where} says again what line {seen[key]} does; delete it, and evaluate again")
        seen[key] = number
        records.append(record)
    return records


def add_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append lines; what a kill left of a last one goes first.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        with path.open("ab+") as f:
            if f.tell() and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
                f.truncate(path.read_bytes().rfind(b"\n") + 1)
            f.write(_lines(records))
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path}: {error.strerror}; what was there is kept. Free some space, then run the same "
            "command again",
        ) from error


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a file of these records, in one step."""
    write_atomically(path, lambda p: p.write_bytes(_lines(records)))


def _lines(records: Sequence[dict[str, Any]]) -> bytes:
    plain = json.loads(json.dumps(records))  # as they are read
    return "".join(json.dumps({**record, "sha256": _digest(record)}) + "\n" for record in plain).encode()


def _digest(record: dict[str, Any]) -> str:
    return digest(record)[:16]
