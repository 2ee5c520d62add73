"""Policies with cameras that are not adopted: one line says why, and nothing is written."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from adopted_files import DDPM, edited, refused, task_with, whole
from onestride.robot.fields import Field, camera
from onestride.tasks import TASKS

GROUP, SHARED = "lerobot-image-group", "lerobot-image-shared"
IMAGE, STATISTICS = "observation.image", "policy_preprocessor_step_3_normalizer_processor.safetensors"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return whole(GROUP, tmp_path_factory.mktemp("policies"))


@pytest.fixture
def folder(pristine, tmp_path):
    """A copy whose files are the pristine ones' until one is altered."""
    made = tmp_path / "policy"
    made.mkdir()
    for path in pristine.iterdir():
        if path.name == "model.safetensors":
            (made / path.name).hardlink_to(path)
        else:
            (made / path.name).write_bytes(path.read_bytes())
    return made


def seen_by(*cameras):
    return task_with(Field("agent", (2,), "px"), *cameras)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said["input_features"][IMAGE].update(shape=[96, 96, 3]),
         r"observation.image has shape \(96, 96, 3\); a policy's cameras have \(3, height, width\)"),
        (lambda said: said["input_features"][IMAGE].update(shape=[1, 96, 96]), r"has shape \(1, 96, 96\)"),
        (lambda said: said["input_features"][IMAGE].update(shape=[3, 96, 128]),
         "learnt from images of 96 x 128 px of observation.image, and the task's camera 'top' has 96 x 96"),
        (lambda said: said.update(vision_backbone="resnet50"), "sees by 'resnet50'; resnet18 can be adopted"),
        (lambda said: said.update(crop_shape=[97, 84]), "a crop of 97 x 84 px is larger than images of 96 x 96"),
        (lambda said: said.update(use_group_norm=False), "bn1.weight' has no statistics, and is no GroupNorm by"),
        (lambda said: said.update(spatial_softmax_num_keypoints=16), "has shape"),
        (lambda said: said["input_features"].update(more={"type": "VISUAL", "shape": [3, 96, 96]}),
         "and the files have no 'mean' of it"),
        (lambda said: said["input_features"].pop(IMAGE), "has encoders of images, and config.json names no camera"),
    ],
)  # fmt: skip
def test_what_a_config_may_not_say_of_cameras(change, message, folder, tmp_path):
    edited(folder, change)
    refused(folder, TASKS["pusht-image"](), tmp_path, message)


def test_another_tasks_cameras_are_refused(folder, tmp_path):
    top, wrist = camera("top", 96, 96), camera("wrist", 96, 96)
    refused(folder, TASKS["pusht"](), tmp_path, "is given 2 observations of 2 numbers, .*; task 'pusht' has 2 of 18")
    refused(
        folder, seen_by(top, wrist), tmp_path, r"sees 1 cameras \(observation.image\), and the task has 2 \(top, wr"
    )
    refused(
        DDPM, seen_by(top), tmp_path, "is given 2 observations of 18 numbers, .*; task 'pusht' has 2 of 2|pusht-image"
    )


def test_cameras_of_other_names_are_refused(tmp_path):
    policy = whole(SHARED, tmp_path)
    refused(policy, seen_by(camera("top", 41, 52), camera("hand", 41, 52)), tmp_path,
            r"no images of camera 'hand'; it has observation.images.top, observation.images.wrist")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(f"{IMAGE}.std"), "observation.image is normalised by MEAN_STD, and the files have no 'std'"),
        (lambda s: s.update({f"{IMAGE}.mean": torch.zeros(1)}), r"is \(1,\), expected \(3,\) of finite"),
        (lambda s: s[f"{IMAGE}.std"].zero_(), "a colour of observation.image never changed"),
    ],
)  # fmt: skip
def test_statistics_that_are_none_are_refused(change, message, folder, tmp_path):
    statistics = load_file(folder / STATISTICS)
    change(statistics)
    save_file(statistics, folder / STATISTICS)
    refused(folder, TASKS["pusht-image"](), tmp_path, message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("diffusion.rgb_encoder.backbone.5.0.conv1.weight"), "another network than its settings say"),
        (lambda w: w["diffusion.rgb_encoder.out.bias"].fill_(torch.inf), "'output.bias' holds a number that"),
        (lambda w: [w.pop(name) for name in list(w) if "rgb_encoder" in name], "has 0 encoders of images, and 1 cam"),
    ],
)  # fmt: skip
def test_encoders_that_are_none_are_refused(change, message, folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors")
    refused(folder, TASKS["pusht-image"](), tmp_path, message)
