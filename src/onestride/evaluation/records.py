"""Records of episodes and of candidates, a line each: what an evaluation that was stopped goes on from.

A record says which training's checkpoint and selector it was made by. Those of a former training of the same planner
stay in the file and are not read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from onestride.checkpoint import typed
from onestride.differences import differing
from onestride.files import LARGEST, CheckpointError, read_bytes
from onestride.seals import check_seal, seal, sealed, unsealed

#: Files of an evaluation's folder.
EPISODES, CANDIDATES, MANIFEST, TIMES = "episodes.jsonl", "candidates.jsonl", "evaluation.json", "latency.json"
SHOWN, STATES, MOTION = "candidates.safetensors", "states.safetensors", "motion.safetensors"
LARGEST_RECORDS = 16 * LARGEST  # [bytes]: every decision's time is in them
MADE_BY = ("checkpoint", "selector", "reference")
ADVICE = "move the folder away, and evaluate again"

Record = dict[str, Any]


class Key(TypedDict):
    """What every record has."""

    row: str
    seed: int
    episode: NotRequired[int]
    scene: NotRequired[int]
    checkpoint: NotRequired[str | None]
    selector: NotRequired[str | None]
    reference: NotRequired[str]


class Manifest(TypedDict):
    """What all records of a folder have in common, and which planners were last asked for."""

    settings: dict[str, Any]
    episodes: int
    planners: dict[str, dict[str, Any]]


def open_manifest(folder: Path, wanted: Manifest, there: int, width: int, together: Sequence[str]) -> None:
    """Take the folder for an evaluation.

    Args:
        there: how many episodes of a row it holds already. Where there are none, it is free for any settings.
        width: episodes of a batch, whose noise is the batch's: more can join whole batches only.
        together: files made of all planners, deleted where planners or settings are not those of the last time.

    Raises:
        CheckpointError: it holds an evaluation under other settings, or one that these episodes cannot join.
    """
    path = folder / MANIFEST
    found = check_seal(path, Manifest, advice=ADVICE) if path.exists() else None
    if found is not None and there:
        if found["settings"] != wanted["settings"]:
            which = differing(found["settings"], wanted["settings"])
            raise CheckpointError(
                f"{folder} holds an evaluation under other settings{which}; move it away or delete it to evaluate anew"
            )
        before, asked = found["episodes"], wanted["episodes"]  # it may have been stopped before the last of these
        cut = there % width and before < there + width - there % width  # its last batch was a smaller one
        if before != asked and (there > asked or cut):
            raise CheckpointError(
                f"{folder} holds {there} episodes of every row, {asked} are asked for. More can join whole batches of "
                f"{width}; otherwise move it away or delete it to evaluate anew"
            )
    if found is None or found | {"episodes": 0} != wanted | {"episodes": 0}:
        for name in together:
            (folder / name).unlink(missing_ok=True)
    seal(path, wanted)


class Store:
    """The records of one file that present checkpoints and selectors made, and those that are added to them.

    Args:
        made_by: which checkpoint and selector make every row and seed.

    Raises:
        CheckpointError: see ``read_records``.
    """

    def __init__(self, path: Path, made_by: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
        self.path, self.made_by = path, made_by
        found = read_records(path)
        self.records = [r for r in found if made_by.get(_planner(r)) == {k: r[k] for k in MADE_BY if k in r}]
        self.begun = bool(found)
        self.stale = {_planner(r) for r in found} - {_planner(r) for r in self.records}
        self.done = {(*_planner(r), _number(r)) for r in self.records}

    @property
    def episodes(self) -> int:
        """How many of a row there are, at most."""
        return 1 + max((number or 0 for _, _, number in self.done), default=-1)

    def add(self, row: str, seed: int, records: Sequence[Record]) -> list[Record]:
        """Append what is new among a planner's records, and return it."""
        whole = [{"row": row, "seed": seed, **record, **self.made_by[row, seed]} for record in records]
        new = [r for r in whole if (row, seed, _number(r)) not in self.done]  # a kill may have cut a batch
        add_records(self.path, new)
        self.records += new
        self.done |= {(row, seed, _number(r)) for r in new}
        return new


def read_records(path: Path) -> list[Record]:
    """Return the records of every row's and seed's last training, each episode once; a last line cut by a kill is left.

    Raises:
        CheckpointError: a line is no record or no longer what its digest says; it is named by its number.
    """
    if not path.exists():
        return []
    *whole, left = read_bytes(path, LARGEST_RECORDS).split(b"\n")
    if left and not _cut(left):
        whole.append(left)  # what no kill leaves: it is refused below
    found: dict[tuple[Any, ...], Record] = {}
    last: dict[tuple[str, int], list[Any]] = {}
    for number, line in enumerate(whole, 1):
        where = f"{path}, line {number}"
        record = unsealed(line, where, required=False, advice=ADVICE)
        typed(record, Key, where)
        last[_planner(record)] = _maker(record)
        found[*_planner(record), _number(record), *_maker(record)] = record
    return [r for r in found.values() if _maker(r) == last[_planner(r)]]


def _planner(record: Record) -> tuple[str, int]:
    return record["row"], record["seed"]


def _number(record: Record) -> int | None:
    return record.get("episode", record.get("scene"))


def _maker(record: Record) -> list[Any]:
    return [record.get(name) for name in MADE_BY]


def _cut(line: bytes) -> bool:
    """Whether this may be the beginning of a record that a kill cut short."""
    try:
        json.loads(line)
    except UnicodeDecodeError as error:
        return error.end == len(line)
    except json.JSONDecodeError as error:
        word = re.fullmatch(r"[-+.eE\d]*|[truefalsn]*", error.doc[error.pos :])  # a number or a word, half of it
        return word is not None or error.msg.startswith(("Unterminated", "Invalid \\"))
    return True


def add_records(path: Path, records: Sequence[Record]) -> None:
    """Append lines; what a kill left of a last one goes first.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        with path.open("ab+") as f:
            if f.tell() and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
                f.truncate(path.read_bytes().rfind(b"\n") + 1)
            f.write("".join(sealed(r) + "\n" for r in records).encode())
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path}: {error.strerror}; what was there is kept. Free some space, then run the same "
            "command again",
        ) from error
