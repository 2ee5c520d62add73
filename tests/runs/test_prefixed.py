"""A prefix on a run: the teacher learns it, and students by score and from pairs have it of their teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from onestride.data.episode import Episode
from onestride.data.minari import write_dataset
from onestride.methods.koopman import KoopmanConfig
from onestride.policy.policy import Policy
from onestride.runs import presets
from onestride.runs.pairs import load_pairs
from onestride.runs.settings import PairsConfig
from onestride.runs.stages import pairs_stage, run_stage
from onestride.tasks import TASKS

pytest.importorskip("gym_pusht")
PRESET = presets.load("pusht-dp-tiny")
P = 4


def stage(name, **changes):
    """A stage in five steps of training."""
    training = replace(PRESET.stage("teacher").training, steps=5)
    return replace(
        PRESET.stage(name), **{"training": training, "selector": "medoid" if name != "medoid" else None} | changes
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """PushT with a diffusion policy that knows a prefix, of data from which nothing can be learnt."""
    folder = tmp_path_factory.mktemp("pusht") / "run"
    folder.mkdir()
    rng, task = np.random.default_rng(0), TASKS["pusht"]()
    size = task.context_dim // task.control.n_obs_steps
    seen, sent = rng.uniform(0, 512, (2, 81, size)), rng.uniform(0, 512, (2, 80, 2))
    episodes = [Episode(*each, np.zeros(80), False) for each in zip(seen, sent, strict=True)]
    write_dataset(folder / "data", episodes, 2, {"task": "pusht"}, Box(0.0, 512.0, (2,)))
    run_stage(folder, stage("medoid"))
    run_stage(folder, stage("teacher", prefix=P))
    return folder


def check(folder, observation):
    policy = Policy.from_pretrained(folder, seed=0)
    assert policy.longest_prefix == P
    committed = np.random.default_rng(2).uniform(100, 400, (P, 2))
    chunk = policy.predict_action_chunk(observation[None], committed=committed)
    assert chunk.shape == (1, 8, 2)
    np.testing.assert_array_equal(chunk[0, :P], committed)
    assert np.isfinite(chunk).all()


@pytest.mark.slow
def test_students_have_the_prefix_of_their_teacher(run):
    observation = np.full(TASKS["pusht"]().control.observation_dim, 200.0)
    check(run / "teacher", observation)
    (by_score,) = run_stage(run, stage("onedp-s"))
    check(by_score, observation)
    pairs_stage(run, PairsConfig(count=64, shards=1, temperatures=(1.0,), probabilities=(1.0,)))
    made, context_dim = load_pairs(run / "pairs"), TASKS["pusht"]().context_dim
    told = made["context"][:, context_dim:]
    assert told.shape == (64, P * 3)
    values, there = told[:, : P * 2].unflatten(1, (P, 2)), told[:, P * 2 :] > 0
    assert torch.equal(made["target"][:, :P][there], values[there])  # the teacher's plans go on from it
    assert set(there.sum(1).tolist()) == set(range(P + 1))
    config = KoopmanConfig(latent_dim=16, hidden=16, gain_hidden=8)
    (from_pairs,) = run_stage(run, stage("dnk", config=config))
    check(from_pairs, observation)


def test_another_prefix_than_the_teachers_is_refused(run):
    with pytest.raises(ValueError, match=r"prefix is 2, and that of the plans which OneDP-S learns from is 4"):
        run_stage(run, stage("onedp-s", prefix=2))
