"""What the tests of the locomotion path share: a preset on which nothing is learnt, and how its records are read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np

from onestride.cli import main
from onestride.evaluation.entries import Entry
from onestride.evaluation.variant import Variant
from onestride.runs import presets

PRESET = "hopper-tiny"
CONFIG = replace(presets.load(PRESET).evaluate, precision="32-true")
CHUNK = 2_000  # steps of one behaviour policy in a row; twice that are collected
#: Rows in the table's order, each as often as it has seeds.
ROWS = [
    "teacher", "teacher-iql", "teacher-mixture", "teacher-unselected",
    "dnk", "dnk-engine", "dnk-int8", "dnk-mixture", "dnk-first", "dnk-classifier", "dnk-unselected",
    "kdm", "kdm-classifier", "kdm-unselected", "cd", "cd-unselected", "ct", "ct-unselected",
]  # fmt: skip


def entry(run, name, selector="iql", **fields):
    """The planner in the run's folder of that name, with seed 0."""
    method = name.rpartition("-")[0] or name
    return Entry(Variant(method=method, selector=selector, **fields), run / name)


def write_behaviour(path, deviation, seed):
    """An actor of Hopper's shape that nearly does nothing: it stands for a hundred steps and falls."""
    rng = np.random.default_rng(seed)
    settings = {"activation": "tanh", "squash": False, "clip_obs": 10.0, "extra_action_noise_std": 0.0}
    np.savez(
        path,
        w0=rng.normal(size=(8, 11)).astype(np.float32),
        b0=np.zeros(8, np.float32),
        w_mean=(0.02 * rng.normal(size=(3, 8))).astype(np.float32),
        b_mean=np.zeros(3, np.float32),
        w_logstd=np.zeros((3, 8), np.float32),
        b_logstd=np.full(3, np.log(deviation), np.float32),
        obs_mean=np.zeros(11),
        obs_var=np.ones(11),
        metadata=np.frombuffer(json.dumps(settings).encode(), np.uint8),
    )
    return str(path)


def stage(folder, name, *arguments):
    main([name, "--preset", PRESET, "--run", str(folder), *arguments])


def words(text):
    """Without the line ends of a narrow screen."""
    return " ".join(text.split())


def records_of(folder):
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def keyed(records):
    assert len({(r["row"], r["seed"], r["episode"]) for r in records}) == len(records)
    return {(r["row"], r["seed"], r["episode"]): r for r in records}


def copy_without(run, there, *names):
    """The run's folders at ``there``, without an evaluation and without those named."""
    for path in run.iterdir():
        if path.is_dir() and path.name not in ("evaluation", *names):
            shutil.copytree(path, there / path.name)
