"""What comes after adopting a policy with cameras: data with images, a one-step student, an evaluation, a robot."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from adopt.seeded_weights import images as drawn_images
from adopted_files import whole
from onestride.cli import main
from onestride.data.minari import read_dataset
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.evaluation import rollouts
from onestride.policy.policy import Policy
from onestride.tasks import TASKS
from onestride.tasks.lockstep import Lockstep
from tiny_run import keyed, records_of

DATA = Path(__file__).parents[1] / "data" / "lerobot" / "fixtures" / "videos"
STEPS = 12  # of a short episode: a chunk and a half


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An adopted teacher beside a LeRobotDataset with a camera, whose images are made as large as the task's."""
    folder, run = whole("lerobot-image-group", tmp_path_factory.mktemp("policies")), tmp_path_factory.mktemp("run")
    main(["adopt", str(folder), "--data", str(DATA), "--resize", "stretch", "--task", "pusht-image", "--run", str(run),
          "--solver", "ddim", "--steps", "2"])  # fmt: skip
    return run


@pytest.fixture(scope="module")
def distilled(run):
    """The same with a student of two updates."""
    settings = ["--training.steps", "2", "--training.batch-size", "4", "--training.precision", "32-true"]
    main(["train", "onedp-s", "--preset", "pusht-image-tiny", "--run", str(run), *settings])
    return run


def seen(seed=0):
    rng = np.random.default_rng(seed)
    return {"agent": rng.uniform(0, 512, (2, 2)), "top": drawn_images(2, (96, 96), seed)}


@pytest.mark.slow
def test_the_data_are_as_the_tasks_camera_has_them(run):
    episodes = list(read_dataset(run / "data"))
    assert [e.images["top"].shape for e in episodes] == [(n, 96, 96, 3) for n in (5, 3, 4)]


@pytest.mark.slow
def test_a_student_is_distilled_with_its_teachers_encoders(distilled):
    teacher, student = (Policy.from_pretrained(distilled / name, candidates=2) for name in ("teacher", "onedp-s-0"))
    assert (teacher.nfe, student.nfe) == (2, 1)
    assert student.generator.vision.frozen
    theirs = teacher.generator.encoders.state_dict()
    for name, value in student.generator.encoders.state_dict().items():
        assert torch.equal(value, theirs[name])
    assert np.isfinite(student.decide(seen()).action).all()


@pytest.mark.slow
def test_teacher_and_student_are_evaluated_by_what_the_camera_sees(distilled, monkeypatch):
    """Two short episodes of each, which can be made again from the checkpoints."""
    environment = TASKS["pusht-image"]().benchmark.environment
    monkeypatch.setattr(gymnasium.spec(environment), "max_episode_steps", STEPS)
    asked = ["--evaluate.workers", "1", "--evaluate.states", "2", "--evaluate.decisions", "1"]
    asked += ["--evaluate.precision", "32-true"]  # where a processor has bfloat16, "auto" is another one
    main(["evaluate", "--preset", "pusht-image-tiny", "--run", str(distilled), "--no-pictures", *asked])
    records = keyed(records_of(distilled / "evaluation"))
    rows = [f"{name}-{ranked}" for name in ("teacher", "onedp-s") for ranked in ("medoid", "unselected")]
    assert set(records) == {(row, 0, number) for row in rows for number in range(2)}
    lockstep = Lockstep(environment, 2)
    for method, folder in (("teacher", "teacher"), ("onedp-s", "onedp-s-0")):
        policy = Policy.from_pretrained(distilled / folder, candidates=1)
        found = rollouts.roll(policy, lockstep, 0, 0, 2)
        for number, episode in enumerate(found):
            record = records[f"{method}-unselected", 0, number]
            assert record["steps"] == len(episode) == STEPS
            assert record["return_raw"] == pytest.approx(float(episode.rewards.astype(float).sum()), abs=1e-6)
            assert np.ptp(episode.actions, 0).max() > 1  # pixels: it moves
    lockstep.close()


def exported(run, name, folder):
    """An exported folder, which decides as the policy that it is of."""
    policy = Policy.from_pretrained(run / name, candidates=4)
    assert export(policy, folder, draws=4, seed=0, checkpoint=run / name).whole
    policy.reset(0)
    wanted = policy.decide(seen())
    decision = Engine.from_folder(folder).decide(seen())
    np.testing.assert_allclose(decision.action, wanted.action, atol=1e-4 * 256)
    return folder


@pytest.mark.slow
def test_an_exported_teacher_takes_the_cameras_bytes_and_decides_as_the_policy(run, tmp_path):
    exported(run, "teacher", tmp_path / "out")


@pytest.mark.slow
def test_an_exported_student_decides_as_the_policy_and_drives(distilled, tmp_path, capsys):
    folder = exported(distilled, "onedp-s-0", tmp_path / "out")
    capsys.readouterr()
    main(["run", "--checkpoint", str(folder), "--scene", "3", "--clock", "charged", "--timeout", "3"])
    said = json.loads(capsys.readouterr().out)
    assert said["nfe"] == 1
    assert 0 < said["executed_steps"] <= 30
