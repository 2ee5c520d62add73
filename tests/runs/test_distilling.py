"""Score distillation on a run: the student is made of whatever teacher is there, and is told where there is none."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from onestride.checkpoint import load_config
from onestride.data.episode import Episode
from onestride.data.minari import write_dataset
from onestride.files import CheckpointError
from onestride.methods.edm import EDMConfig
from onestride.policy.policy import Policy
from onestride.runs import presets
from onestride.runs.stages import run_stage
from onestride.tasks import TASKS

pytest.importorskip("gym_pusht")
PRESET = presets.load("pusht-dp-tiny")


def stage(name, **changes):
    """A stage that nobody ranks, in five steps of training."""
    made = PRESET.stage(name)
    training = replace(PRESET.stage("teacher").training, steps=5)
    return replace(made, selector=None, training=training, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """PushT with a diffusion policy and an EDM teacher, of data from which nothing can be learnt."""
    folder = tmp_path_factory.mktemp("pusht") / "run"
    folder.mkdir()
    rng, task = np.random.default_rng(0), TASKS["pusht"]()
    size = task.context_dim // task.control.n_obs_steps
    seen, sent = rng.uniform(0, 512, (2, 81, size)), rng.uniform(0, 512, (2, 80, 2))
    episodes = [Episode(*each, np.zeros(80), False) for each in zip(seen, sent, strict=True)]
    write_dataset(folder / "data", episodes, 2, {"task": "pusht"}, Box(0.0, 512.0, (2,)))
    run_stage(folder, stage("medoid"))
    run_stage(folder, stage("teacher"))
    run_stage(folder, stage("edm", config=EDMConfig(width=16, blocks=1, sigma_data=0.5)))
    return folder


@pytest.mark.parametrize(("name", "teacher"), [("onedp-s", "teacher"), ("onedp-d", "teacher"), ("onedp-s", "edm")])
def test_a_student_is_made_of_the_teacher_of_the_run(run, tmp_path, name, teacher):
    shutil.copytree(run, tmp_path / "run")
    made = stage(name)
    (folder,) = run_stage(tmp_path / "run", replace(made, config=replace(made.config, teacher=teacher)))
    settings, theirs = load_config(folder)["generator"], load_config(run / teacher)
    assert (settings["planner"], settings["settings"]) == (theirs["kind"], theirs["generator"])
    policy = Policy.from_pretrained(folder)
    assert policy.generator.nfe == 1
    plans = policy.generator.sample(torch.randn(4, 16, 2), torch.zeros(1, policy.task.context_dim))
    assert torch.isfinite(plans).all()
    assert len(plans.unique(dim=0)) == (1 if name == "onedp-d" else 4)


def test_a_run_without_the_teacher_says_what_comes_first(run, tmp_path):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("teacher"))
    with pytest.raises(CheckpointError, match="teacher is not trained yet, and comes first: `onestride train teacher"):
        run_stage(tmp_path / "run", stage("onedp-s"))


def test_a_checkpoint_that_has_no_score_is_refused_before_the_data_is_read(run, monkeypatch):
    monkeypatch.setattr("onestride.runs.stages.material_of", None)
    made = stage("onedp-s")
    with pytest.raises(ValueError, match="'medoid' is a checkpoint of method 'medoid', which has no score"):
        run_stage(run, replace(made, config=replace(made.config, teacher="medoid")))
