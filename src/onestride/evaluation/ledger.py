"""Which checkpoints an evaluation is of: a planner trained later joins it, one trained anew is evaluated anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from onestride.checkpoint import load_config, typed
from onestride.evaluation.lineup import AS_IN_TRAINING, Entry, parts, selector_folder
from onestride.evaluation.rollouts import EPISODES, SETTINGS, read_records
from onestride.files import CheckpointError, write_atomically
from onestride.progress import console
from onestride.runs.run import TEACHER
from onestride.seals import check_seal, seal, sealed
from onestride.tensors import load_tensors, save_tensors

CANDIDATES, SHOWN, TIMES = "candidates.jsonl", "candidates.safetensors", "latency.json"
STATES, MOTION = "states.safetensors", "motion.safetensors"
#: Made of all planners together, and anew when one of them is another.
TOGETHER = (SHOWN, TIMES, MOTION)

AGAIN = "move the folder away, and evaluate again"


class Claimed(TypedDict):
    """What an evaluation's settings say beside what its records have in common for ever."""

    episodes: int
    width: int
    entries: dict[str, dict[str, Any]]


def claim(folder: Path, run: Path, settings: dict[str, Any], entries: Sequence[Entry]) -> None:
    """Take the folder for an evaluation of these entries; what it holds of them already stays.

    Records of an entry whose checkpoint or selector is another one now are put away, into ``before-<n>``, and said.

    Raises:
        CheckpointError: it holds an evaluation under other settings, or one that these episodes cannot join.
    """
    path = folder / SETTINGS
    wanted = json.loads(json.dumps(settings | {"entries": {_key(e): _identity(run, e) for e in entries}}))
    found = check_seal(path, advice=AGAIN) if path.exists() else wanted
    typed(found, Claimed, path)
    if _lasting(found) != _lasting(wanted):
        raise CheckpointError(
            f"{folder} holds an evaluation under other settings; move it away or delete it to evaluate anew"
        )
    # Not what was asked for before: it may have been stopped before the first of them.
    has = 1 + max((r["episode"] for r in read_records(folder / EPISODES)), default=-1)
    before, asked, width = found["episodes"], wanted["episodes"], wanted["width"]
    ragged = has % width and before < has + width - has % width  # its last batch was a smaller one
    if has and before != asked and (has > asked or ragged):
        raise CheckpointError(
            f"{folder} holds {has} episodes of every row, {asked} are asked for. More can join whole batches of "
            f"{width}; otherwise move it away or delete it to evaluate anew"
        )
    known, now = found["entries"], wanted["entries"]
    stale = [e for e in entries if known.get(_key(e), now[_key(e)]) != now[_key(e)]]
    if stale:
        names = ", ".join(dict.fromkeys(f"{e.folder.name} ({e.row})" for e in stale))
        console.print(f"evaluating anew, since checkpoint or selector is another one: {names}", highlight=False)
        _put_away(folder, stale)
    if known | now != known:
        for name in TOGETHER:
            (folder / name).unlink(missing_ok=True)
    seal(path, wanted | {"entries": known | now})


def _lasting(settings: dict[str, Any]) -> dict[str, Any]:
    """What a folder's records have in common for ever: planners and episodes can join."""
    return {k: v for k, v in settings.items() if k not in ("entries", "episodes")}


def _key(entry: Entry) -> str:
    return f"{entry.row}/{entry.seed}"


def _identity(run: Path, entry: Entry) -> dict[str, Any]:
    """What an entry's episodes depend on beside the settings."""
    ranked = selector_folder(run, entry)
    ranking = {} if ranked is None else load_config(ranked)
    known = {
        "checkpoint": load_config(entry.folder)["training"]["id"],
        "ranked_by": ranking["training"]["id"] if ranking else None,
        "candidates": entry.candidates,
        "steps": entry.steps,
    }
    judging = ranking.get("options", {}) | ({"temperatures": None} if entry.selector in AS_IN_TRAINING else {})
    return known | {k: v for k, v in judging.items() if v is not None}


def _put_away(folder: Path, stale: Sequence[Entry]) -> None:
    """Records of these entries leave the evaluation; they are kept beside it."""
    away = folder / f"before-{1 + len(list(folder.glob('before-*')))}"
    rows = {(e.row, e.seed) for e in stale}
    # Candidates are compared with the teacher's: with another teacher, all of them are.
    clouds = None if any(e.row.split("-")[0] == TEACHER for e in stale) else {(parts(row)[0], s) for row, s in rows}
    for name, gone in ((EPISODES, rows), (CANDIDATES, clouds)):
        records = read_records(folder / name)
        kept = [r for r in records if gone is not None and (r["row"], r["seed"]) not in gone]
        if len(kept) < len(records):
            _write_records(away / name, [r for r in records if r not in kept])
            _write_records(folder / name, kept)
    if (folder / STATES).exists():
        states = {f"{row}-{seed}" for row, seed in rows}
        tensors, _ = load_tensors(folder / STATES)
        save_tensors(folder / STATES, {k: v for k, v in tensors.items() if k not in states})


def _write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    write_atomically(path, lambda p: p.write_text("".join(sealed(r) + "\n" for r in records)))
