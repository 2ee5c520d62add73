"""Every reader of files: how a small valid input is made, which files may be damaged, and how it is read."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pyarrow as pa
import torch
from gymnasium.spaces import Box
from pyarrow import parquet

from kinds import wrap
from onestride.data.actors import read_behaviour
from onestride.data.adapters import read_episodes
from onestride.data.collect import collect
from onestride.data.episode import Episode
from onestride.data.minari import SEAL, write_dataset
from onestride.data.robomimic import LOW_DIM
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.evaluation.records import Manifest, add_records, read_records
from onestride.evaluation.result import Experiment, read_experiment
from onestride.evaluation.variant import Variant
from onestride.files import write_json
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.reports.figures import read_latency
from onestride.reports.figures_arm import Candidates
from onestride.reports.motions import BodyMotion
from onestride.runs.pairs import MANIFEST, SCHEMA, load_pairs
from onestride.runs.run import episodes_of
from onestride.seals import check_seal, seal, sha256
from onestride.selectors.store import load_selector, make_selector_model, save_selector
from onestride.tasks import TASKS
from onestride.tensors import save_tensors, save_unsealed
from tiny_run import write_behaviour
from toy_training import CONFIG, Toy, run

TASK = TASKS["halfcheetah-v5"]()
ACTION = Box(-1, 1, (2,), np.float32)


@dataclass(frozen=True)
class Reader:
    """name of what is read; make(root) writes it; read(root) returns what it means.

    ours: it carries digests, so that nothing may be read otherwise than it was written.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    ours: bool = True


# ---- checkpoints ----


def _normalizer():
    d = TASK.control.transition_dim
    return Normalizer(torch.linspace(-1, 1, d), torch.linspace(0.5, 2, d), torch.zeros(0), torch.ones(0))


def _critic():
    torch.manual_seed(0)
    return wrap(make_selector_model("iql", {"hidden": 8}, TASK), _normalizer(), TASK.control)


def _policy(horizon=4):
    task = TASK.with_control(horizon=horizon)
    torch.manual_seed(0)
    generator = make_generator(task, "dnk", {"latent_dim": 8, "hidden": 8, "gain_hidden": 8})
    return Policy(task, generator, _normalizer(), selector=_critic(), candidates=4)


def _make_policy(root):
    _policy().save(root / "dnk-0", {"id": "abc", "seconds": 1.0, "history": {"loss": [[50, 0.5], [100, 0.25]]}})


def _read_policy(root):
    policy = Policy.from_pretrained(root / "dnk-0")
    decision = policy.decide(np.linspace(-0.1, 0.1, TASK.control.observation_dim))
    return decision.action, decision.scores, policy.config


def _make_selector(root):
    save_selector(root / "iql", _critic(), TASK.name, {"id": "abc"})


def _read_selector(root):
    selector = load_selector(root / "iql", TASK)
    return dict(selector.state_dict()), selector.training_record, selector.scored_steps


def _make_state(root):
    toy = Toy()
    toy.dies_at = 100
    try:
        run(toy, root, replace(CONFIG, steps=102))
    except KeyboardInterrupt:
        return


def _read_state(root):
    """The training goes on, or begins anew where there is no state: the bits are the same."""
    toy = Toy()
    ema, happened = run(toy, root, replace(CONFIG, steps=102))
    return dict(toy.state_dict()), dict(ema.state_dict()), happened["history"]


def _make_pairs(root):
    shards, g = {}, torch.Generator().manual_seed(0)
    for i in range(2):
        name = f"pairs-{i:05d}-of-00002.safetensors"
        plan = torch.randn(3, 4, 5, generator=g)
        flat = {key: torch.rand(3, generator=g) for key in ("quality", "temperature")}
        save_unsealed(root / name, {"prior": plan, "target": 2 * plan, "context": plan[:, 0, :2], **flat})
        shards[name] = {"sha256": sha256(root / name), "rows": 3}
    settings = {"count": 6, "temperatures": [0.3, 1.0], "solver": "ddim"}
    said = {"schema": SCHEMA, "settings": settings, "identity": {"data": "x"}, "shards": shards, "count": 2}
    seal(root / MANIFEST, said)


# ---- data ----


def _episode(steps, seed=0, o=3, a=2):
    rng = np.random.default_rng(seed)
    observations, actions = rng.normal(size=(steps + 1, o)), rng.uniform(-1, 1, size=(steps, a))
    rewards = rng.normal(size=steps)
    return Episode(*(x.astype(np.float32) for x in (observations, actions, rewards)), terminated=bool(seed % 2))


def _numbers(episodes):
    return [(e.observations, e.actions, e.rewards, e.terminated, e.truncated) for e in episodes]


class _Source:
    def __init__(self, dies_at=None):
        self.dies_at = dies_at

    def __call__(self, seed, chunk):
        if chunk == self.dies_at:
            raise KeyboardInterrupt
        return [_episode(3 + chunk, 10 * chunk + i) for i in range(2)], Counter({"scenes": 2})


def _collect(root, dies_at=None):
    return collect(_Source(dies_at), 6, 0, root / "data", {"task": "made up"}, ACTION)


def _make_parts(root):
    try:
        _collect(root, dies_at=2)
    except KeyboardInterrupt:
        return


def _read_parts(root):
    """The collection goes on; what it makes is put away, for the next."""
    _collect(root)
    found = _numbers(episodes_of(root))
    shutil.rmtree(root / "data")
    return found


def _make_data(root):
    write_dataset(root / "data", [_episode(n, n) for n in (3, 5)], 2, {"task": "made up", "seed": 1}, ACTION)


def _make_foreign_minari(root):
    _make_data(root)
    (root / "data" / SEAL).unlink()


def _flat():
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(20, 3)).astype(np.float32)
    return {
        "observations": observations,
        "actions": rng.uniform(-1, 1, size=(20, 2)).astype(np.float32),
        "rewards": rng.normal(size=20).astype(np.float32),
        "terminals": np.arange(20) == 6,
        "timeouts": np.arange(20) == 13,
    }


def _read_foreign(path):
    return _numbers(read_episodes(path))


def _make_arrays(root):
    np.savez(root / "a.npz", **_flat())


def _make_hdf5(root):
    with h5py.File(root / "made-v2.hdf5", "w") as f:
        for key, value in _flat().items():
            f.create_dataset(key, data=value, compression="gzip")


def _make_robomimic(root):
    flat = _flat()
    with h5py.File(root / "ph.hdf5", "w") as f:
        f.create_group("data").attrs["env_args"] = "{}"
        for number, first in enumerate((0, 7, 14)):
            demo, steps = f.create_group(f"data/demo_{number}"), slice(first, min(first + 7, 20))
            demo.attrs["num_samples"] = steps.stop - first
            for key, name in (("actions", "actions"), ("rewards", "rewards"), ("dones", "timeouts")):
                demo.create_dataset(key, data=flat[name][steps], compression="gzip")
            for key in LOW_DIM:
                demo.create_dataset(f"obs/{key}", data=flat["observations"][steps])


def _make_lerobot(root):
    flat, lengths = _flat(), (7, 7, 6)
    rows = {
        "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(flat["observations"].reshape(-1)), 3),
        "action": pa.FixedSizeListArray.from_arrays(pa.array(flat["actions"].reshape(-1)), 2),
        "next.reward": flat["rewards"],
        "next.done": np.isin(np.arange(20), np.cumsum(lengths) - 1),
        "timestamp": np.concatenate([np.arange(n) / 10 for n in lengths]).astype(np.float32),
        "frame_index": np.concatenate([np.arange(n) for n in lengths]),
        "episode_index": np.repeat(np.arange(3), lengths),
        "index": np.arange(20),
    }
    features = {
        name: {"dtype": "float32", "shape": [width], "names": None}
        for name, width in (("observation.state", 3), ("action", 2), ("next.reward", 1))
    }
    info = {"codebase_version": "v3.0", "fps": 10, "total_episodes": 3, "total_frames": 20, "features": features}
    for part, table in (("data", rows), ("meta/episodes", {"episode_index": [0, 1, 2], "length": list(lengths)})):
        path = root / "set" / part / "chunk-000" / "file-000.parquet"
        path.parent.mkdir(parents=True)
        parquet.write_table(pa.table(table), path)
    write_json(root / "set" / "meta" / "info.json", info)


def _make_actor(root):
    write_behaviour(root / "actor.npz", 0.1, seed=0)


def _read_actor(root):
    actor = read_behaviour(root / "actor.npz")
    return actor.identity, actor.act(np.zeros((1, 11)))


# ---- evaluations ----


def _make_evaluation(root):
    trials = [
        {"row": row, "seed": 0, "scene": n, "decision_ms": [1.5, 2.0 + n]} for row in ("teacher", "dnk") for n in (0, 1)
    ]
    add_records(root / "episodes.jsonl", trials)
    seal(root / "latency.json", {"dnk": [0.001, 0.002]})
    settings = {"width": 2, "states": 3, "precision": "32-true", "task": TASK.name}
    planners = {"dnk/0": {"checkpoint": "abc", "selector": None}}
    seal(root / "evaluation.json", {"settings": settings, "episodes": 2, "planners": planners})
    shapes = {"obstacles": (1, 4, 8), "start": (1, 3), "goal": (1, 3)}
    for row in ("teacher", "dnk"):
        shapes |= {f"paths.{row}": (1, 2, 3, 3), f"scores.{row}": (1, 2)}
    tensors = {name: torch.arange(float(np.prod(shape))).view(shape) for name, shape in shapes.items()}
    save_tensors(root / "candidates.safetensors", tensors, {"scenes": "[4]"})
    motion = BodyMotion("HalfCheetah-v5", 0, 0.05, {"dnk": np.zeros((3, 6), np.float32)}, {"dnk": False})
    motion.save(root / "motion.safetensors")
    rows = {"dnk": {"success": {"mean": 1.0, "std": 0.0, "n": 2, "per_seed": [1.0]}}}
    made = Experiment("kinova", "onestride evaluate").record(config={}, seeds={"training": [0]}, rows=rows, notes=["a"])
    seal(root / "comparison.json", made, ["episodes.jsonl", "latency.json", "candidates.safetensors"])


def _read_evaluation(root):
    variants = {row: Variant(method=row, selector="task") for row in ("teacher", "dnk")}
    candidates = Candidates.load(root / "candidates.safetensors", variants)
    motion = BodyMotion.load(root / "motion.safetensors")
    return (
        read_experiment(root / "comparison.json", beside=True),
        read_records(root / "episodes.jsonl"),
        read_latency(root / "episodes.jsonl"),
        check_seal(root / "latency.json"),
        check_seal(root / "evaluation.json", Manifest),
        (candidates.scenes, _by_row(candidates.paths), _by_row(candidates.scores), candidates.start),
        (motion.actions, motion.fell, motion.seed, motion.environment),
    )


def _by_row(arrays):
    return {variant.row: array for variant, array in arrays.items()}


# ---- exported folders ----


def _export(root, form):
    export(_policy(TASK.control.horizon), root / "exported", form=form, draws=4, seed=0, checkpoint=None)


def _decide(root):
    with mock.patch("onestride.engine.folder.installed", return_value=False):  # OpenVINO may be sooner done
        engine = Engine.from_folder(root / "exported", threads=1)
    decision = engine.decide(np.linspace(-0.1, 0.1, TASK.control.observation_dim))
    return decision.action, decision.scores


READERS = (
    Reader("checkpoint", _make_policy, _read_policy),
    Reader("selector", _make_selector, _read_selector),
    Reader("training state", _make_state, _read_state),
    Reader("pairs", _make_pairs, load_pairs),
    Reader("collect's parts", _make_parts, _read_parts),
    Reader("run data", _make_data, lambda root: _numbers(episodes_of(root))),
    Reader("evaluation", _make_evaluation, _read_evaluation),
    Reader("exported native", lambda root: _export(root, "native"), _decide),
    Reader("exported onnx", lambda root: _export(root, "onnx"), _decide),
    Reader("actor npz", _make_actor, _read_actor, ours=False),
    Reader("D4RL", _make_hdf5, lambda root: _read_foreign(root / "made-v2.hdf5"), ours=False),
    Reader("robomimic", _make_robomimic, lambda root: _read_foreign(root / "ph.hdf5"), ours=False),
    Reader("arrays npz", _make_arrays, lambda root: _read_foreign(root / "a.npz"), ours=False),
    Reader("Minari", _make_foreign_minari, lambda root: _read_foreign(root / "data"), ours=False),
    Reader("LeRobot", _make_lerobot, lambda root: _read_foreign(root / "set"), ours=False),
)
