"""Policies of diffusion_policy with cameras that are not adopted: one line says why, and nothing is written."""

from __future__ import annotations

import numpy as np
import pytest

from adopted_files import original, refused, task_with, with_setting
from onestride.data.torch_weights import TorchFile
from onestride.robot.fields import Field, camera
from onestride.tasks import TASKS

HYBRID, IMAGE = "original-hybrid", "original-image"
ENCODER, META = "policy.obs_encoder", "policy.shape_meta.obs"
TWO = camera("camera_1", 60, 80), camera("camera_3", 60, 80)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return {name: original(name, tmp_path_factory.mktemp("policies")) for name in (HYBRID, IMAGE)}


def seen_by(name):
    return TASKS["pusht-image"]() if name == HYBRID else task_with(Field("tool", (2,)), *TWO)


def with_weights(monkeypatch, change):
    """Let a checkpoint have other weights."""
    read = TorchFile.tensors

    def changed(file, state):
        weights = dict(read(file, state) or {})
        change(weights)
        return weights

    monkeypatch.setattr(TorchFile, "tensors", changed)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        (IMAGE, f"{ENCODER}._target_", "x.TimmObsEncoder", "sees by TimmObsEncoder; MultiImageObsEncoder and robomim"),
        (IMAGE, f"{ENCODER}.rgb_model.name", "resnet50", "sees by 'resnet50'; resnet18 can be adopted"),
        (IMAGE, f"{ENCODER}.rgb_model._target_", "x.get_vit", "sees by 'get_vit'; resnet18 can be adopted"),
        (IMAGE, f"{ENCODER}.rgb_model", {"camera_1": {}, "camera_3": {}}, "sees by .a model of each camera's own"),
        (IMAGE, f"{ENCODER}.use_group_norm", False, "has no statistics, and is no GroupNorm by its settings"),
        (IMAGE, f"{ENCODER}.share_rgb_model", True, "its encoder has 'key_model_map.camera_1.conv1.weight', and its"),
        (IMAGE, f"{ENCODER}.crop_shape", [49, 50], "a crop of 49 x 50 px is larger than images of 48 x 64"),
        (IMAGE, f"{ENCODER}.crop_shape", {"camera_1": [8, 8], "camera_3": [8, 9]}, "crop_shape differs between"),
        (IMAGE, f"{ENCODER}.resize_shape", [48], r"resize_shape is \[48\], expected a height and a width"),
        (IMAGE, f"{META}.camera_1.shape", [3, 64, 80], "learnt from images of 64 x 80 px of camera_1, and the task's"),
        (IMAGE, f"{META}.camera_1.shape", [4, 60, 80], r"camera_1 has shape \(4, 60, 80\); a policy's cameras have"),
        (IMAGE, f"{META}.camera_1.shape", [3], r"camera_1 has shape \(3,\); a policy's cameras have"),
        (IMAGE, f"{META}.camera_1.type", "depth", r"'camera_1' is 'depth' of shape \[3, 60, 80\]; rgb and low_dim can"),
        (IMAGE, f"{META}.camera_3", None, "its encoder has 'key_model_map.camera_3.*', and its settings camera_1"),
        (IMAGE, f"{META}.camera_5", {"shape": [3, 60, 80], "type": "rgb"}, "has no weights of camera_5"),
        (IMAGE, f"{META}.robot_eef_pose", None, "observes camera_1, camera_3; cameras and numbers can be read"),
        (IMAGE, f"{META}.robot_eef_pose.shape", [3], "'robot_eef_pose' has 3 numbers, and its normaliser 2"),
        (IMAGE, f"{META}.robot_eef_pose.shape", [9999, 9999, 9], "expected a number of 1 or more"),
        (IMAGE, f"{META}.extra", {"shape": [3]}, "has no normaliser of 'extra'; it has action, camera_1, camera_3"),
        (IMAGE, "policy.obs_as_global_cond", False, "observations as a global condition"),
        (IMAGE, "policy.n_groups", 3, "divisible by the 3 groups"),
        (HYBRID, META, [], "policy.shape_meta.obs is list, expected shapes and types by name"),
        (HYBRID, "policy.obs_encoder_group_norm", False, "has no statistics, and is no GroupNorm by its settings"),
        (HYBRID, "policy.crop_shape", [97, 84], "a crop of 97 x 84 px is larger than images of 96 x 96"),
    ],
)  # fmt: skip
def test_what_the_settings_of_cameras_may_not_say(name, place, value, message, paths, tmp_path, monkeypatch):
    with_setting(monkeypatch, place, value)
    refused(paths[name], seen_by(name), tmp_path, message)


def test_another_tasks_cameras_and_numbers_are_refused(paths, tmp_path):
    refused(paths[HYBRID], TASKS["pusht"](), tmp_path, r"is given 2 observations of 2 numbers, agent_pos \(2\); task")
    refused(paths[IMAGE], seen_by(HYBRID), tmp_path, r"sees 2 cameras \(camera_1, camera_3\), and the task has 1 \(top")
    named = task_with(Field("tool", (2,)), camera("camera_1", 60, 80), camera("wrist", 60, 80))
    refused(paths[IMAGE], named, tmp_path, "no images of camera 'wrist'; it has camera_1, camera_3")
    small = task_with(Field("tool", (2,)), camera("top", 48, 64))
    refused(paths[HYBRID], small, tmp_path, "learnt from images of 96 x 96 px of image, and the task's camera 'top' ha")


CAMERA, SCALE = "obs_encoder.obs_nets.image", "normalizer.params_dict.image.scale"
BACKBONE, POOL = f"{CAMERA}.backbone.nets", f"{CAMERA}.pool"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{BACKBONE}.5.0.conv1.weight"), "another network than its settings say"),
        (lambda w: w[f"{BACKBONE}.0.weight"].fill(np.nan), "'network.conv1.weight' holds a number that is not finite"),
        (lambda w: w.pop(f"{POOL}.nets.weight"), "have no spatial softmax"),
        (lambda w: w.update({f"{POOL}.nets.weight": np.zeros((), "f4")}), "have no spatial softmax"),
        (lambda w: w.update({"obs_encoder.obs_nets.image.nets.4.weight": np.zeros(2)}), "another network than its"),
        (lambda w: w.update({"obs_encoder.obs_nets.wrist.nets.0.weight": np.zeros(2)}), "its encoder has 'obs_nets.wr"),
        (lambda w: w.update({"obs_encoder.obs_nets.image.nets.3.weight": np.zeros((64, 9), "f4")}), "has shape"),
        (lambda w: w.update({SCALE: np.ones(3, "f4"), SCALE.replace("scale", "offset"): np.ones(3, "f4")}),
         "the images of 'image' are normalised by 3 numbers, expected one for all"),
        (lambda w: w.update({f"{POOL}.temperature": np.ones((0, 1))}), r"shape \(0, 1\), expected"),
        (lambda w: w[SCALE].fill(0), "the normaliser of 'image' is none"),
    ],
)  # fmt: skip
def test_weights_that_are_none_of_such_a_policy_are_refused(change, message, paths, tmp_path, monkeypatch):
    with_weights(monkeypatch, change)
    refused(paths[HYBRID], seen_by(HYBRID), tmp_path, message)


def test_statistics_of_another_shape_are_refused(paths, tmp_path, monkeypatch):
    def change(weights):
        wrong = {f"{BACKBONE}.1.running_{name}": np.ones(3, "f4") for name in ("mean", "var")}
        weights.update(wrong)

    with_setting(monkeypatch, "policy.obs_encoder_group_norm", False)
    with_weights(monkeypatch, change)
    refused(
        paths[HYBRID], seen_by(HYBRID), tmp_path, "'network.bn1.weight' has statistics of other shapes than its own"
    )


def test_a_field_of_the_policys_name_and_of_another_size_is_refused(paths, tmp_path):
    task = task_with(Field("robot_eef_pose", (3,)), *TWO)
    refused(paths[IMAGE], task, tmp_path, "robot_eef_pose has 2 numbers, and the task's field 3")
