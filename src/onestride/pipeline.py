"""The stages, from episodes to results, on one run folder::

    <run>/data       Minari dataset          collect
    <run>/teacher    checkpoint              teacher
    <run>/pairs      shards                  pairs
    <run>/dnk-0 ...  checkpoints             distill, one per operator and seed
    <run>/evaluation records and results     evaluate

Each is finished or goes on where it was: running a stage again after a kill, or after it is done, is safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.checkpoint import CONFIG, CheckpointError, load_config, read_json, versions, write_json
from onestride.control.policy import Policy, make_generator
from onestride.data.collect import collect
from onestride.data.minari import read_dataset, read_metadata
from onestride.data.normalize import Normalizer
from onestride.data.windows import Windows, make_windows
from onestride.diffusion.planner import TeacherConfig
from onestride.evaluation.metrics import TRIAL_METRICS, summarize
from onestride.evaluation.rollouts import Contender, candidate_clouds, evaluate
from onestride.presets import EvaluateConfig
from onestride.progress import console
from onestride.students.koopman import KoopmanConfig
from onestride.students.pairs import MANIFEST, PairsConfig, load_pairs, make_pairs
from onestride.tasks import TASKS
from onestride.tasks.kinova import demonstrations
from onestride.training import TrainConfig, finish, train

TASK = "kinova"


def collect_stage(run: Path, episodes: int, seed: int) -> dict[str, Any]:
    """Planner episodes into ``run/data``; returns what was made and what was refused."""
    return collect(
        demonstrations.chunk, episodes, seed, run / "data", demonstrations.metadata(), demonstrations.action_space()
    )


def teacher_stage(run: Path, config: TeacherConfig, training: TrainConfig) -> Path:
    """Train the teacher on the run's episodes."""
    folder = run / "teacher"
    identity = {"data": _data_identity(run), "generator": asdict(config)}
    if _finished(folder, training, identity):
        return folder
    windows = _windows(run)
    normalizer = Normalizer.fit(windows.plans, windows.context)
    data = {"plans": normalizer.plans(windows.plans), "context": normalizer.context(windows.context)}
    del windows
    _train_and_save(folder, "teacher", asdict(config), normalizer, data, training, identity)
    return folder


def pairs_stage(run: Path, config: PairsConfig, device: str = "cpu") -> Path:
    """Teacher-target pairs of the run's teacher."""
    folder = run / "pairs"
    identity = {"data": _data_identity(run), "teacher": load_config(run / "teacher")["training"]["id"]}
    teacher = Policy.from_pretrained(run / "teacher", task=TASK, device=device)
    make_pairs(teacher, _windows(run).observations, config, folder, identity)
    return folder


def distill_stage(run: Path, config: KoopmanConfig, training: TrainConfig) -> Path:
    """Train one student on the run's pairs."""
    folder = run / f"{config.operator}-{training.seed}"
    if not (run / "pairs" / MANIFEST).is_file():
        raise CheckpointError(f"{run} holds no pairs to learn from; make them with `onestride pairs --run {run}`")
    manifest = read_json(run / "pairs" / MANIFEST)
    identity = {"pairs": [manifest["settings"], manifest["identity"]], "generator": asdict(config)}
    if _finished(folder, training, identity):
        return folder
    data = load_pairs(run / "pairs")
    normalizer = Policy.from_pretrained(run / "teacher", task=TASK).normalizer
    noise = {"temperatures": manifest["settings"]["temperatures"], "shares": manifest["settings"]["probabilities"]}
    _train_and_save(folder, "student", asdict(config), normalizer, data, training, identity, **noise)
    return folder


def evaluate_stage(run: Path, config: EvaluateConfig, command: str, device: str = "cpu") -> Path:
    """The run's teacher and students on the same scenes; writes ``comparison.json`` into the folder it returns.

    That is ``run/evaluation``, and ``run/evaluation-real`` on wall time: the two stand side by side.
    """
    folder = run / ("evaluation" if config.clock == "charged" else "evaluation-real")
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    names = [p.parent.name for p in sorted(run.glob(f"*/{CONFIG}"))]
    if "teacher" not in names or len(names) < 2:
        raise CheckpointError(f"{run} needs a teacher and a student to compare, found: {', '.join(names) or 'nothing'}")
    contenders = [
        Contender(*_row(name), Policy.from_pretrained(run / name, task=TASK, device=device)) for name in names
    ]
    contenders.sort(key=lambda c: (c.row != "teacher", c.row != "dnk", c.row, c.seed))
    scenes = TASKS[TASK]().scenes(config.trials, config.scene_seed)
    both_open = demonstrations.open_on_both_sides(scenes)
    records = evaluate(
        contenders, scenes, folder, timeout=config.timeout, real_clock=config.clock == "real",
        filmed=both_open[0] if both_open else 0,
    )  # fmt: skip
    clouds = candidate_clouds(contenders, scenes, both_open, folder)
    rows = {name: _summary(records, clouds, name) for name in dict.fromkeys(c.row for c in contenders)}
    result = folder / "comparison.json"
    # Trials already on record were paid for by an earlier command.
    earlier = read_json(result)["wall_s"] if result.exists() else 0.0
    write_json(
        result,
        {
            "schema": 1,
            "experiment": "kinova",
            "command": command,
            "config": {
                "evaluate": asdict(config),
                "data": _data_report(run),
                **{name: _without_history(load_config(run / name)) for name in names},
            },
            "seeds": {"scenes": config.scene_seed, "training": sorted({c.seed for c in contenders})},
            "versions": versions(),
            "machine": machine(),
            "started": started,
            "wall_s": earlier + time.monotonic() - began,
            "rows": rows,
            "notes": _notes(config, len(both_open)),
        },
    )
    return folder


def _data_report(run: Path) -> dict[str, Any]:
    """What the run's data is: counts, planner, seed."""
    keys = ("seed", "episodes", "counts", "episodes_per_s", "generator", "generator_version", "planner")
    metadata = read_metadata(run / "data")
    return {k: metadata[k] for k in keys if k in metadata}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "system": platform.system(),
    }


# ---------------------------------------------------------------- parts


def _without_history(config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's config without its loss curve, which stays with the checkpoint."""
    return {**config, "training": {k: v for k, v in config["training"].items() if k != "history"}}


def _train_and_save(
    folder: Path, kind: str, generator: dict[str, Any], normalizer: Normalizer, data: dict[str, Any],
    training: TrainConfig, identity: dict[str, Any], **policy: Any,
) -> None:  # fmt: skip
    """Build from the seed, train, write the checkpoint, drop the training state."""
    task = TASKS[TASK]()
    torch.manual_seed(training.seed)
    model = make_generator(task, kind, generator)
    title = kind if kind == "teacher" else f"{generator['operator']} seed {training.seed}"
    ema, happened = train(model, data, training, folder, title=title, identity=identity)
    record = {"id": _digest([asdict(training), identity]), "config": asdict(training), **happened}
    Policy(task, ema, normalizer, **policy).save(folder, record)
    finish(folder)


def _finished(folder: Path, training: TrainConfig, identity: dict[str, Any]) -> bool:
    """Whether the folder holds the result of exactly this training.

    Raises:
        CheckpointError: it holds another one.
    """
    if not (folder / CONFIG).is_file():
        return False
    if load_config(folder)["training"].get("id") != _digest([asdict(training), identity]):
        raise CheckpointError(
            f"{folder} holds a checkpoint of other settings or other data, which is not overwritten; "
            "choose another --run, or delete that folder"
        )
    console.print(f"{folder} is trained already", highlight=False)
    return True


def _windows(run: Path) -> Windows:
    return make_windows(read_dataset(run / "data"), TASKS[TASK]())


def _data_identity(run: Path) -> dict[str, Any]:
    metadata = read_metadata(run / "data")
    if metadata.get("task") != TASK:
        raise CheckpointError(f"{run / 'data'} is a dataset of task '{metadata.get('task')}', not of '{TASK}'")
    return {k: metadata[k] for k in ("seed", "episodes", "generator_version", "planner", "total_steps")}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _row(name: str) -> tuple[str, int]:
    """Checkpoint folder -> row of the table and training seed."""
    row, _, seed = name.rpartition("-")
    return (row, int(seed)) if seed.isdigit() else (name, 0)


def _summary(records: Sequence[dict[str, Any]], clouds: Sequence[dict[str, Any]], row: str) -> dict[str, Any]:
    mine = [r for r in records if r["row"] == row]
    seeds = [r["seed"] for r in mine]
    summary = {name: summarize([r[name] for r in mine], seeds) for name in TRIAL_METRICS}
    cloud = [c for c in clouds if c["row"] == row]
    for name in ("candidate_spread_mm", "teacher_distance_mm", "candidates_free"):
        summary[name] = summarize([c[name] for c in cloud], [c["seed"] for c in cloud])
    sided = [c for c in cloud if "sides" in c]
    if sided:
        seeds = [c["seed"] for c in sided]
        teacher = {c["scene"]: np.array(c["sides"]) for c in clouds if c["row"] == "teacher" and "sides" in c}
        for i, side in enumerate(("left", "right", "over")):
            summary[f"side_{side}"] = summarize([c["sides"][i] for c in sided], seeds)
        # Both sides are used where each has at least one candidate in twenty.
        summary["both_sides_used"] = summarize([float(min(c["sides"][:2]) >= 0.05) for c in sided], seeds)
        distance = [0.5 * float(np.abs(np.array(c["sides"]) - teacher[c["scene"]]).sum()) for c in sided]
        summary["side_distance_from_teacher"] = summarize(distance, seeds)
    return summary


def _notes(config: EvaluateConfig, both_open: int) -> list[str]:
    clock = {
        "charged": "Simulated time advanced by each decision's measured wall time (charged clock).",
        "real": "Wall time (real clock).",
    }[config.clock]
    return [
        clock,
        "Methods took turns scene by scene; the first 50 decisions of each were thrown away.",
        f"Sides are counted at the start of the {both_open} scenes in which the planner found a way on the left and on "
        "the right of the blocking obstacle; side_distance_from_teacher is the total variation distance of the shares "
        "left, right and over.",
        "teacher_distance_mm is between each candidate and the teacher's from the same noise, root mean square over "
        "candidates and rows, at every scene's start: no selector has a say in it.",
        "candidates_free is the share of all candidates, not only the chosen one, whose path keeps the tool (3 cm) off "
        "every obstacle: the rest is what the selector has to throw away.",
        "Standard deviations are over trials; per_seed holds each training seed's mean.",
        "completion_time_s is over successful trials.",
    ]
