"""Roll policies out on the same scenes, trial by trial, and keep every record; a killed evaluation goes on.

Methods take turns scene by scene, so that a machine whose speed drifts slows all of them alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from onestride.checkpoint import typed
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.engine.engine import Engine
from onestride.evaluation.metrics import blocking_obstacle, free_share, latency, sides, spread
from onestride.evaluation.result import Experiment
from onestride.files import LARGEST, CheckpointError, read_bytes
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.robot.clock import ChargedClock, Clock, RealClock
from onestride.seals import check_seal, seal, sealed, unsealed
from onestride.tasks.task import Task
from onestride.tensors import load_tensors, save_tensors

EPISODES, SETTINGS = "episodes.jsonl", "evaluation.json"
LARGEST_RECORDS = 16 * LARGEST  # [bytes]: every decision's time is in them
KEYS = ("row", "seed", "episode", "scene")  # what tells a record of a file from the others
WARM_UP = 50  # decisions thrown away before the first that counts


@dataclass(frozen=True)
class Contender:
    """One trained policy under test: its row in the table and the seed it was trained with."""

    row: str
    seed: int
    policy: Policy


class Claimed(TypedDict):
    """What an evaluation's settings say of its contenders: row, seed, training."""

    contenders: list[tuple[str, int, str | None]]


def evaluate(
    contenders: Sequence[Contender],
    scenes: Sequence[Any],
    folder: Path,
    *,
    timeout: float,
    real_clock: bool,
    filmed: int,
    experiment: Experiment | None = None,
) -> list[dict[str, Any]]:
    """Every contender on every scene; returns the records, which also stand in ``folder/episodes.jsonl``.

    timeout [s] per trial. filmed: the scene whose motion is kept for the film. experiment: keeps what is spent, trial
    by trial. A contender that the folder does not know yet joins those it does.

    Raises:
        CheckpointError: the folder holds trials of other scenes or settings, or of one of them trained anew since.
    """
    records = read_records(folder / EPISODES)
    _claim(folder, contenders, scenes, timeout, real_clock, records)
    done = {(r["row"], r["seed"], r["scene"]) for r in records}
    wanted = {(c.row, c.seed, number) for c in contenders for number in range(len(scenes))}
    finished = len(wanted & done)
    motion = dict(load_tensors(folder / "motion.safetensors")[0]) if (folder / "motion.safetensors").exists() else {}
    if finished < len(wanted):
        for contender in contenders:
            contender.policy.warm_up(contender.policy.task.first_observation(scenes[0]), WARM_UP)
    with track("trials", len(wanted), done=finished) as bar:
        for number, scene in enumerate(scenes):
            for c in contenders:
                if (c.row, c.seed, number) in done:
                    continue
                task = c.policy.task
                record, robot = run_trial(c.policy, task, scene, number, timeout=timeout, real_clock=real_clock)
                if number == filmed and c.seed == contenders[0].seed:
                    motion |= _motion(c.row, scene, robot)
                    save_tensors(folder / "motion.safetensors", motion)
                record = {"row": c.row, "seed": c.seed, "scene": number, **record}
                add_records(folder / EPISODES, [record])
                if experiment is not None:
                    experiment.keep()
                records.append(record)
                finished += 1
                bar.update(finished, f"{c.row}: {record['outcome']}")
    return records


def _claim(
    folder: Path, contenders: Sequence[Contender], scenes: Sequence[Any], timeout: float, real_clock: bool,
    records: Sequence[dict[str, Any]],
) -> None:  # fmt: skip
    """Take the folder for these; what it holds of them already stays."""
    path = folder / SETTINGS
    clock = "real" if real_clock else "charged"
    settings: dict[str, Any] = {"scenes": _digest(scenes), "timeout": timeout, "clock": clock}
    now = {(c.row, c.seed): c.policy.config.get("training", {}).get("id") for c in contenders}
    before: dict[tuple[str, int], Any] = {}
    if path.exists() and records:
        found = check_seal(path, advice="move the folder away, and evaluate again")
        typed(found, Claimed, path)
        if {name: found.get(name) for name in settings} != settings:
            raise CheckpointError(
                f"{folder} holds trials of other scenes or under other settings; choose another --run, or move it away"
            )
        before = {(row, seed): made_by for row, seed, made_by in found["contenders"]}
    anew = [f"{row}-{seed}" for (row, seed), made_by in before.items() if now.get((row, seed), made_by) != made_by]
    if anew:
        raise CheckpointError(
            f"{folder} holds trials of {', '.join(anew)} as it was before it was trained anew; move it away, or choose "
            "another --run"
        )
    seal(path, settings | {"contenders": [[*who, made_by] for who, made_by in (before | now).items()]})


def run_trial(
    policy: Policy | Engine, task: Task, scene: Any, number: int, *, timeout: float, real_clock: bool
) -> tuple[dict[str, Any], Any]:
    """One trial of one policy; the candidates' noise depends on the scene's number alone."""
    clock: Clock = RealClock() if real_clock else ChargedClock()
    robot = task.environment(scene, clock)
    policy.reset(number)
    log = run_episode(robot, clock, policy, task, timeout=timeout)
    return _record(log, policy.nfe, task.measure(robot, scene)), robot


def _record(log: EpisodeLog, nfe: int, measured: dict[str, Any]) -> dict[str, Any]:
    if log.success:
        measured["completion"] = 1.0
    decided = max(len(log.decisions), 1)
    return {
        "success": float(log.success),
        "outcome": log.outcome,
        "completion_time_s": log.duration if log.success else None,
        "executed_steps": log.executed,
        **latency(log.decisions),
        **measured,
        "control_hz": log.executed / log.duration if log.duration else None,
        "overrun_ratio": log.overruns / decided,
        "starved_ratio": log.starved / max(log.ticks, 1),
        "held_commands": sum(log.refused.values()),
        "held": dict(log.refused),
        "nfe": nfe,
        "decision_ms": [round(1e3 * d, 4) for d in log.decisions.tolist()],
    }


def candidate_clouds(
    contenders: Sequence[Contender], scenes: Sequence[Any], open_scenes: Sequence[int], folder: Path, keep: int = 6
) -> list[dict[str, Any]]:
    """Candidates from every scene's start: their spread, their distance from the teacher's, which side they pass.

    All draw the same noise, so every candidate has its counterpart: the distance is between the two, root mean
    square over candidates and rows, before any selector has a say. The first contender is the teacher.
    open_scenes: scenes in which both left and right of the blocking obstacle are open. ``keep`` of them, the
    first of each row only, are written to ``folder/candidates.safetensors`` for the figures.
    """
    records = []
    kept: dict[str, Any] = {}
    shown = list(open_scenes[:keep]) or list(range(min(keep, len(scenes))))
    seen: set[str] = set()
    teacher: dict[int, np.ndarray] = {}
    with track("candidates", len(contenders) * len(scenes)) as bar:
        for c in contenders:
            clouds, scores = [], []
            for number, scene in enumerate(scenes):
                observation = c.policy.task.first_observation(scene)
                c.policy.reset(number)
                decision = c.policy.decide(observation)
                paths = decision_paths(c.policy, observation, decision.plans)
                record = {"row": c.row, "seed": c.seed, "scene": number, "candidate_spread_mm": 1e3 * spread(paths)}
                theirs = teacher.setdefault(number, paths)  # the teacher comes first, with the same noise
                record["teacher_distance_mm"] = 1e3 * float(np.sqrt(np.square(paths - theirs).sum(-1).mean()))
                record["candidates_free"] = free_share(paths, scene.obstacles)
                if number in open_scenes:
                    obstacle = scene.obstacles[blocking_obstacle(scene.start, scene.goal, scene.obstacles)]
                    record["sides"] = sides(paths, scene.start, scene.goal, obstacle).tolist()
                records.append(record)
                if number in shown:
                    clouds.append(paths)
                    scores.append(decision.scores)
                bar.update(len(records))
            if c.row not in seen:
                seen.add(c.row)
                kept[f"paths.{c.row}"], kept[f"scores.{c.row}"] = np.stack(clouds), np.stack(scores)
    for name in ("obstacles", "start", "goal"):
        kept[name] = np.stack([getattr(scenes[i], name) for i in shown])
    save_tensors(folder / "candidates.safetensors", _tensors(kept), {"scenes": json.dumps(shown)})
    return records


def decision_paths(policy: Policy, observation: np.ndarray, plans: np.ndarray) -> np.ndarray:
    """Candidates (N, H, D) of one decision as end-effector positions (N, H, 3) [m]."""
    frame = policy.task.encode(torch.from_numpy(observation).float()[None]).frame
    flat = torch.from_numpy(plans).reshape(1, -1, plans.shape[-1])
    return policy.task.paths(flat, frame).view(*plans.shape[:2], 3).numpy()


def _motion(row: str, scene: Any, robot: Any) -> dict[str, Any]:
    return _tensors(
        {
            f"joints.{row}": robot.joint_path,
            f"times.{row}": robot.times,
            f"path.{row}": robot.ee_path,
            "obstacles": scene.obstacles,
            "start": scene.start,
            "goal": scene.goal,
        }
    )


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return every whole line; a last line cut by a kill does not count, and that trial is run again.

    Raises:
        CheckpointError: a line is no record or no longer what its digest says; it is named by its number.
    """
    if not path.exists():
        return []
    *whole, left = read_bytes(path, LARGEST_RECORDS).split(b"\n")
    if left and not cut(left):
        whole.append(left)  # what no kill leaves: it is refused below
    records: list[dict[str, Any]] = []
    lines: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(whole, 1):
        advice = "move the evaluation away, and evaluate again"
        record = unsealed(line, f"{path}, line {number}", required=False, advice=advice)
        key = tuple(record.get(name) for name in KEYS)
        if "row" in record and lines.setdefault(key, number) != number:
            raise CheckpointError(f"{path}, line {number}, says again what line {lines[key]} does; {advice}")
        records.append(record)
    return records


def cut(line: bytes) -> bool:
    """Whether this may be the beginning of a record that a kill cut short."""
    try:
        json.loads(line)
    except UnicodeDecodeError as error:
        return error.end == len(line)
    except json.JSONDecodeError as error:
        word = re.fullmatch(r"[-+.eE\d]*|[truefalsn]*", error.doc[error.pos :])  # a number or a word, half of it
        return word is not None or error.msg.startswith(("Unterminated", "Invalid \\"))
    return True


def add_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
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


def _digest(scenes: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for scene in scenes:
        for array in (scene.start, scene.goal, scene.obstacles):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
