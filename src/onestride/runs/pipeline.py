"""The stages, from episodes to students, on one run folder::

    <run>/data       Minari dataset          collect, or import (importing.py)
    <run>/returns    return model            returns    } tasks whose selector is learnt
    <run>/iql        IQL critic              critic     }
    <run>/teacher    checkpoint              teacher
    <run>/pairs      shards                  pairs
    <run>/dnk-0 ...  checkpoints             distill, one per method and seed
    <run>/evaluation records and results     evaluate (evaluation/comparison.py, evaluation/benchmark.py)

Which task a run is of stands in its data. Each stage is finished or goes on where it was: running one again after a
kill, or after it is done, is safe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onestride.checkpoint import CONFIG, load_config, seal_with
from onestride.policy.policy import GUIDE, SELECTOR, Policy, make_generator
from onestride.data.behaviour import read_behaviours
from onestride.data.collect import collect
from onestride.networks.normalizer import Normalizer
from onestride.training.windows import make_transitions, window_returns
from onestride.methods.edm import EDMConfig
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.selectors.returns import ReturnConfig
from onestride.engine.cuda_graph import CudaGraphPlanner
from onestride.files import CheckpointError
from onestride.folders import replace_folder
from onestride.runs.ingest import box
from onestride.progress import console
from onestride.runs.run import (
    CRITIC,
    EDM,
    PAIRS,
    RETURNS,
    TEACHER,
    critic_of,
    data_identity,
    episodes_of,
    identity_of,
    normalised,
    task_of,
    windows_of,
)
from onestride.seals import check_files, seal
from onestride.selectors.iql import CriticSelector, IQLConfig, reward_scale
from onestride.selectors.sampling import Sampling
from onestride.selectors.store import (
    judging,
    judging_of,
    load_selector,
    make_selector_model,
    save_selector,
    wrap,
)
from onestride.methods.consistency import ConsistencyConfig, ConsistencyStudent
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.pairs import MANIFEST, PairsConfig, load_manifest, load_pairs, make_pairs
from onestride.tasks.behaviour import behaviour_source
from onestride.tasks.task import Task
from onestride.training.loop import TrainConfig, finish, train

# ---------------------------------------------------------------- data


def plan_stage(run: Path, episodes: int, seed: int) -> dict[str, Any]:
    """The arm's planner episodes into ``run/data``; returns what was made and what was refused."""
    from onestride.tasks.kinova import demonstrations

    return collect(
        demonstrations.chunk, episodes, seed, run / "data", demonstrations.metadata(), demonstrations.action_space()
    )


def behaviour_stage(run: Path, task: Task, behaviours: Sequence[Path], steps: int, seed: int) -> dict[str, Any]:
    """Steps of behaviour policies in the task's environment, as many of each, into ``run/data``."""
    policies = read_behaviours(behaviours)
    made_by = [{"name": p.name, "weights": p.identity} for p in policies]
    metadata = {"task": task.name, "behaviours": made_by}
    return collect(behaviour_source(task, policies, steps), steps, seed, run / "data", metadata, box(task), "steps")


# ---------------------------------------------------------------- selectors


def returns_stage(run: Path, config: ReturnConfig, training: TrainConfig) -> Path:
    """Train the return model on noisy windows."""
    folder, task = run / RETURNS, task_of(run)
    identity = {"data": data_identity(run), "selector": asdict(config)}
    if _finished(folder, training, identity):
        return folder
    windows, normalizer = windows_of(run, task)
    value = window_returns(episodes_of(run), task, config.discount, config.terminal_penalty)
    if len(value) > 1 and not value.std() > 0:
        raise ValueError(f"every window of {run / 'data'} earns {value[0]:g}: there is nothing to rank plans by")
    value = (value - value.mean()) / value.std().clamp(min=1e-6)
    data = normalised(windows, normalizer) | {"value": value}
    return _train_selector(folder, "returns", asdict(config), task, normalizer, data, training, identity)


def critic_stage(
    run: Path, config: IQLConfig, training: TrainConfig, rows: int = 1, sampling: Sampling | None = None
) -> Path:
    """Train the IQL critic on single steps.

    rows: of a plan, that it judges. sampling: of what it ranks. Others later need no other training.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}: a critic judges at least the first action")
    folder, task = run / CRITIC, task_of(run)
    identity = {"data": data_identity(run), "selector": asdict(config)}
    if not _finished(folder, training, identity):
        _train_critic(run, folder, task, config, training, identity, rows, sampling)
    said = load_config(folder)
    if judging_of(said) != judging(rows, sampling):
        seal(folder / CONFIG, said | judging(rows, sampling))
    return folder


def _train_critic(
    run: Path, folder: Path, task: Task, config: IQLConfig, training: TrainConfig, identity: dict[str, Any], rows: int,
    sampling: Sampling | None,
) -> None:  # fmt: skip
    episodes = list(episodes_of(run))
    _, normalizer = windows_of(run, task)
    step = make_transitions(episodes, task)
    scale = reward_scale(torch.tensor([float(e.rewards.sum()) for e in episodes]))
    pair = normalizer.plans(torch.cat((step["observation"], step["action"]), -1))
    data = {
        "observation": pair[:, : task.state_dim],
        "action": pair[:, task.state_dim :],
        "next_observation": normalizer.start(step["next_observation"]),
        "reward": step["reward"] * scale,
        "terminated": step["terminated"],
    }
    _train_selector(folder, "iql", asdict(config), task, normalizer, data, training, identity, (rows, sampling))


# ---------------------------------------------------------------- teacher and students


def teacher_stage(run: Path, config: TeacherConfig, training: TrainConfig, guidance: float = 0.0) -> Path:
    """Train the teacher on the run's episodes.

    Where the task's selector is learnt, the run's return model goes with it: it ranks, and guides with this weight.
    Another weight later needs no other training.
    """
    folder, task = run / TEACHER, task_of(run)
    if task.score is None:
        identity_of(run / RETURNS, "returns")  # said before hours of training, not after
    identity = {"data": data_identity(run), "generator": asdict(config)}
    if not _finished(folder, training, identity):
        windows, normalizer = windows_of(run, task)
        data = normalised(windows, normalizer)
        del windows
        ema, record = _train(folder, "teacher", asdict(config), task, data, training, identity)
        Policy(task, ema, normalizer).save(folder, record)
    if task.score is None:
        _equip(folder, run / RETURNS, task, guidance)
    finish(folder)
    return folder


def _equip(folder: Path, returns: Path, task: Task, guidance: float) -> None:
    """Put the return model beside a teacher's weights, which stay as they are, and say so in its config."""
    config, model = load_config(folder), load_selector(returns, task)
    wanted = config | {"guidance": guidance, "ranked_by": load_config(returns)["training"]["id"]}

    def write(new: Path) -> None:
        for inside in (GUIDE, SELECTOR):
            save_selector(new / inside, model, task.name)
        seal_with(new, (GUIDE, SELECTOR), guidance=guidance, ranked_by=wanted["ranked_by"])

    if config != wanted:
        replace_folder(folder, write)


def pairs_stage(run: Path, config: PairsConfig, device: str = "cpu", name: str = PAIRS) -> Path:
    """Teacher-target pairs of the run's teacher, in ``run/<name>``."""
    folder = run / name
    task = task_of(run)
    config_of = load_config(run / TEACHER)
    if task.score is None and "ranked_by" not in config_of:
        raise CheckpointError(f"{run / TEACHER} is not finished; repeat the command that trained it, which is quick")
    identity = {"data": data_identity(run), "teacher": config_of["training"]["id"]}
    identity |= {key: config_of[key] for key in ("guidance", "ranked_by") if key in config_of}
    teacher = Policy.from_pretrained(run / TEACHER, task=task.name, device=device, precision=config.precision)
    if teacher.device.type == "cuda":
        teacher.generator = CudaGraphPlanner(teacher.generator)  # blocks are all of one size
    make_pairs(teacher, windows_of(run, task)[0].observations, config, folder, identity)
    return folder


def distill_stage(
    run: Path, config: KoopmanConfig, training: TrainConfig, name: str | None = None, pairs: str = PAIRS
) -> Path:
    """Train one student on the run's pairs; ``name`` (default: its operator) and the seed name its folder."""
    name = name or config.operator
    folder, task = run / f"{name}-{training.seed}", task_of(run)
    if not (run / pairs / MANIFEST).is_file():
        raise CheckpointError(f"{run} holds no pairs to learn from; make them with `onestride pairs --run {run}`")
    manifest = load_manifest(run / pairs)
    identity = {"pairs": [manifest["settings"], manifest["identity"]], "generator": asdict(config)}
    if _finished(folder, training, identity):
        return _follow(folder, run, task)
    selector = critic_of(run, task)  # that it is missing is said before training, not after
    data = load_pairs(run / pairs)
    normalizer = Policy.from_pretrained(run / TEACHER, task=task.name).normalizer
    drawn = manifest["settings"]
    sampling = Sampling(tuple(drawn["temperatures"]), tuple(drawn["probabilities"]))
    ema, record = _train(folder, "student", asdict(config), task, data, training, identity, title=name)
    Policy(task, ema, normalizer, selector=selector, sampling=sampling).save(folder, record)
    finish(folder)
    return folder


def edm_stage(run: Path, config: EDMConfig, training: TrainConfig, horizon: int = 1) -> Path:
    """The EDM-preconditioned teacher that CD learns from, of plans of this horizon."""
    return _from_windows(run, EDM, EDM, config, training, horizon, [])


def consistency_stage(run: Path, config: ConsistencyConfig, training: TrainConfig, horizon: int = 1) -> Path:
    """CT, or CD from the run's EDM teacher: action-level policies are plans of horizon 1 (the paper's rows)."""
    config = replace(config, curriculum_steps=training.steps)
    after = [identity_of(run / EDM, "edm")] if config.method == "cd" else []
    return _from_windows(run, config.method, "consistency", config, training, horizon, after)


def _from_windows(
    run: Path, name: str, kind: str, config: Any, training: TrainConfig, horizon: int, after: list[str]
) -> Path:
    """Train a generator that needs no pairs."""
    folder = run / f"{name}-{training.seed}" if name != EDM else run / EDM
    task = replace(task_of(run), horizon=horizon)
    identity = {"data": data_identity(run), "generator": asdict(config), "horizon": horizon, "after": after}
    if _finished(folder, training, identity):
        return _follow(folder, run, task)
    selector = critic_of(run, task)
    windows, normalizer = windows_of(run, task)
    data = normalised(windows, normalizer)
    teacher = Policy.from_pretrained(run / EDM, selector=selector).generator if after else None
    ema, record = _train(folder, kind, asdict(config), task, data, training, identity, title=name, teacher=teacher)
    # These start from their noise as it was in training.
    policy = Policy(task, ema, normalizer, selector=selector, sampling=Sampling((1.0,), (1.0,)))
    policy.save(folder, record)
    finish(folder)
    return folder


# ---------------------------------------------------------------- training, and what stays of it


def _train(
    folder: Path, kind: str, settings: dict[str, Any], task: Task, data: dict[str, Tensor], training: TrainConfig,
    identity: dict[str, Any], *, title: str | None = None, teacher: Any = None,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Build a generator from the seed and train it; returns its EMA and what its checkpoint says of the training."""
    torch.manual_seed(training.seed)
    model = make_generator(task, kind, settings)
    if teacher is not None:
        assert isinstance(model, ConsistencyStudent)
        model.distil(teacher)
    title = f"{title} seed {training.seed}" if title else kind
    ema, happened = train(model, data, training, folder, title=title, identity=identity)
    return ema, _record(training, identity, happened)


def _train_selector(
    folder: Path, kind: Literal["iql", "returns"], settings: dict[str, Any], task: Task, normalizer: Normalizer,
    data: dict[str, Tensor], training: TrainConfig, identity: dict[str, Any],
    judging_by: tuple[int, Sampling | None] = (1, None),
) -> Path:  # fmt: skip
    torch.manual_seed(training.seed)
    model = make_selector_model(kind, settings, task)
    ema, happened = train(model, data, training, folder, title=kind, identity=identity)
    selector = wrap(ema, normalizer, task)  # type: ignore[arg-type]
    if isinstance(selector, CriticSelector):
        selector.rows, selector.sampling = judging_by
    save_selector(folder, selector, task.name, _record(training, identity, happened))
    finish(folder)
    return folder


def _record(training: TrainConfig, identity: dict[str, Any], happened: dict[str, Any]) -> dict[str, Any]:
    return {"id": _digest([training.identity(), identity]), "config": asdict(training), **happened}


def _finished(folder: Path, training: TrainConfig, identity: dict[str, Any]) -> bool:
    """Whether the folder holds the result of exactly this training.

    Raises:
        CheckpointError: it holds another one.
    """
    if not (folder / CONFIG).is_file():
        return False
    config = load_config(folder)
    if config["training"].get("id") != _digest([training.identity(), identity]):
        raise CheckpointError(
            f"{folder} holds a checkpoint of other settings or other data, which is not overwritten; "
            "choose another --run, or delete that folder"
        )
    check_files(folder / CONFIG, config["files"], advice=f"delete {folder} and run the same command again")
    console.print(f"{folder} is trained already", highlight=False)
    return True


def _follow(folder: Path, run: Path, task: Task) -> Path:
    """Put the run's critic beside a finished student's weights, where it is another one than the student has."""
    if task.score is None and (run / CRITIC / CONFIG).is_file():
        ours, its = load_config(run / CRITIC), load_config(folder / SELECTOR)

        def write(new: Path) -> None:
            save_selector(new / SELECTOR, load_selector(run / CRITIC, task), task.name)
            seal_with(new, (SELECTOR,))

        if (ours["training"]["id"], judging_of(ours)) != (its["training"]["id"], judging_of(its)):
            replace_folder(folder, write)
            console.print(f"{folder} is ranked by the run's critic as it is now", highlight=False)
    return folder


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
