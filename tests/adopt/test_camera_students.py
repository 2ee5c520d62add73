"""What comes after adopting a policy with cameras: data with images, a one-step student, an exported folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adopt.seeded_weights import images as drawn_images
from adopted_files import whole
from onestride.cli import main
from onestride.data.minari import read_dataset
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.policy.policy import Policy

DATA = Path(__file__).parents[1] / "data" / "lerobot" / "fixtures" / "videos"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An adopted teacher beside a LeRobotDataset with a camera, whose images are made as large as the task's."""
    folder, run = whole("lerobot-image-group", tmp_path_factory.mktemp("policies")), tmp_path_factory.mktemp("run")
    main(["adopt", str(folder), "--data", str(DATA), "--resize", "stretch", "--task", "pusht-image", "--run", str(run),
          "--solver", "ddim", "--steps", "2"])  # fmt: skip
    return run


def seen(seed=0):
    rng = np.random.default_rng(seed)
    return {"agent": rng.uniform(0, 512, (2, 2)), "top": drawn_images(2, (96, 96), seed)}


@pytest.mark.slow
def test_the_data_are_as_the_tasks_camera_has_them(run):
    episodes = list(read_dataset(run / "data"))
    assert [e.images["top"].shape for e in episodes] == [(n, 96, 96, 3) for n in (5, 3, 4)]


@pytest.mark.slow
def test_a_student_is_distilled_with_its_teachers_encoders(run):
    settings = ["--training.steps", "2", "--training.batch-size", "4", "--training.precision", "32-true"]
    main(["train", "onedp-s", "--preset", "pusht-image-tiny", "--run", str(run), *settings])
    teacher, student = (Policy.from_pretrained(run / name, candidates=2) for name in ("teacher", "onedp-s-0"))
    assert (teacher.nfe, student.nfe) == (2, 1)
    assert student.generator.vision.frozen
    theirs = teacher.generator.encoders.state_dict()
    for name, value in student.generator.encoders.state_dict().items():
        assert torch.equal(value, theirs[name])
    assert np.isfinite(student.decide(seen()).action).all()


@pytest.mark.slow
def test_an_exported_folder_takes_the_cameras_bytes_and_decides_as_the_policy(run, tmp_path):
    policy = Policy.from_pretrained(run / "teacher", candidates=4)
    assert export(policy, tmp_path / "out", draws=4, seed=0, checkpoint=run / "teacher").whole
    policy.reset(0)
    wanted = policy.decide(seen())
    decision = Engine.from_folder(tmp_path / "out").decide(seen())
    np.testing.assert_allclose(decision.action, wanted.action, atol=1e-4 * 256)
