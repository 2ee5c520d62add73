"""Policies of diffusion_policy with cameras, adopted: its own features and actions from the same images and noise."""

from __future__ import annotations

import os
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from adopt.seeded_weights import images as drawn_images
from adopted_files import FIXTURES, golden_of, original, task_with, with_setting
from onestride.adopt.adopting import Sampling, adopt, policy_of, read_policy
from onestride.diffusion.samplers import sample
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.methods.building import build_generator
from onestride.methods.diffusion_planner import DP
from onestride.networks.rgb_encoder import RgbEncoderConfig
from onestride.policy.policy import Policy
from onestride.robot.fields import Field, camera
from onestride.tasks import TASKS

PYTHON = "ONESTRIDE_ORIGINAL_PYTHON"  # a Python that imports diffusion_policy, see make_original_fixtures.py
TOLERANCE = 1e-4  # of what is normalised
HYBRID, ORDER, IMAGE, SHARED = "original-hybrid", "original-hybrid-order", "original-image", "original-image-shared"


def acting(*fields):
    """A task of 10 numbers to an action, as robomimic's absolute ones."""
    return task_with(*fields).with_control(action_dim=10)


#: Tasks that fit: numbers by other names where there is one of them, by the policy's names in another order.
FITTING = {
    HYBRID: lambda: TASKS["pusht-image"](),
    ORDER: lambda: acting(
        Field("robot0_eef_pos", (3,)), Field("robot0_gripper_qpos", (2,)),
        camera("front_image", 48, 40), camera("wrist_image", 33, 40),
    ),
    IMAGE: lambda: task_with(Field("tool", (2,)), camera("camera_3", 60, 80), camera("camera_1", 60, 80)),
    SHARED: lambda: acting(
        Field("robot0_eef_quat", (4,)), Field("robot0_eef_pos", (3,)),
        camera("wrist_image", 33, 40), camera("front_image", 33, 40),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """The checkpoints with their weights, by name."""
    return {name: original(name, tmp_path_factory.mktemp("policies")) for name in FITTING}


def images_of(foreign):
    """The fixture's images (2, 2, height, width, 3) by the policy's names."""
    return {
        each.name: torch.from_numpy(drawn_images(4, each.size, zlib.crc32(each.name.encode()))).unflatten(0, (2, 2))
        for each in foreign.cameras
    }


def seen(foreign, golden, task):
    """What a decision of ours is about: numbers (2, C) and images by the task's names."""
    pictures, fields = images_of(foreign), [field.name for field in task.control.fields if not field.camera]
    names = [name if name in golden else foreign.features[0][0] for name in fields]
    numbers = torch.cat([golden[name] for name in names], -1).flatten(1)
    only = next(iter(pictures.values()))
    return numbers, {each.name: pictures.get(each.name, only) for each in task.control.cameras}


def assert_the_librarys_actions(policy, foreign, golden):
    numbers, pictures = seen(foreign, golden, policy.task)
    planner, config = policy.generator.planner, policy.generator.config

    def ours(chunk):
        return chunk.roll(-config.film_unet.past_rows, -2)

    with torch.no_grad():
        context = policy.generator.embed(policy.normalizer.context(numbers), pictures)
        torch.testing.assert_close(context.sort(1).values, golden["condition"].sort(1).values, atol=2e-5, rtol=1e-5)
        output = planner.network(ours(golden["noise"]), golden["timesteps"] + 1, context)
        torch.testing.assert_close(output, ours(golden["output"]), atol=5e-5, rtol=0)
        plans = sample(
            lambda x, k: planner.denoise(x, k, context), ours(golden["noise"]), planner.fixed, planner.schedule,
            solver=config.solver, steps=config.sample_steps, spacing=config.spacing, clip=config.clip,
            noise=ours(golden["step_noise"]) if config.solver == "ddpm" else None,
        )  # fmt: skip
    assert golden["condition"].std(0).max() > 0.01  # images that say nothing would pass too
    assert (golden["chunk"] / policy.normalizer.std).std() > 0.2  # nothing that a constant would pass
    chunk = policy.normalizer.unnormalize(plans)
    assert ((chunk[:, :8] - golden["chunk"]).abs() / policy.normalizer.std).max() < TOLERANCE


@pytest.mark.parametrize("name", FITTING)
def test_the_same_images_and_noise_give_the_librarys_own_actions(name, paths):
    """By DDPM and by DDIM, of the averaged weights: the others are larger by 1, all of them.

    robomimic's encoder with GroupNorm and a crop; with BatchNorm, a sharper softmax, numbers between the cameras;
    ``MultiImageObsEncoder`` that makes images smaller and crops them; one encoder for two cameras, which keeps its
    BatchNorm whatever its settings say, and no crop where it is not random.
    """
    foreign = read_policy(paths[name])
    made = policy_of(foreign, FITTING[name](), paths[name], Sampling())
    assert_the_librarys_actions(made, foreign, golden_of(paths[name]))


@pytest.mark.slow
def test_an_adopted_policy_is_saved_with_its_encoders_decides_and_is_known_again(paths, tmp_path):
    foreign, task = read_policy(paths[HYBRID]), FITTING[HYBRID]()
    adopt(tmp_path, paths[HYBRID], task, sampling=Sampling("ddim", 2))
    policy = Policy.from_pretrained(tmp_path / "teacher", candidates=4)
    assert policy.generator.vision == foreign.vision
    assert policy.nfe == 2
    (picture,) = images_of(foreign).values()
    first = policy.decide({"agent": np.full((2, 2), 200.0), "top": picture[0].numpy()})
    policy.reset(0)
    other = policy.decide({"agent": np.full((2, 2), 200.0), "top": 255 - picture[0].numpy()})
    assert np.abs(first.action - other.action).max() > 1e-3
    again = adopt(tmp_path, paths[HYBRID], task, sampling=Sampling("ddim", 2))
    assert "it was there already" in again.notes


@pytest.mark.slow
def test_an_exported_teacher_whose_features_are_means_decides_as_the_policy(paths, tmp_path):
    """An encoder as of IMAGE in a policy that sees what pusht-image has."""
    made = policy_of(read_policy(paths[HYBRID]), FITTING[HYBRID](), paths[HYBRID], Sampling("ddim", 2))
    vision = RgbEncoderConfig("group", None, resize=(72, 80), crop=(64, 71), antialias=False)
    generator = build_generator(
        DP, made.generator.config, made.task.plans, cameras={"top": (96, 96)}, n_obs_steps=2, vision=vision
    )
    policy = Policy(made.task, generator, made.normalizer, selector=made.selector)
    policy.save(tmp_path / "teacher", {})
    assert export(policy, tmp_path / "out", draws=2, seed=0, checkpoint=tmp_path / "teacher").whole
    observation = {"agent": np.full((2, 2), 200.0), "top": drawn_images(2, (96, 96), 0)}
    policy.reset(0)
    wanted = policy.decide(observation)
    found = Engine.from_folder(tmp_path / "out").decide(observation)
    np.testing.assert_allclose(found.action, wanted.action, atol=1e-4 * 256)


@pytest.mark.slow
def test_images_are_cropped_in_the_middle_at_a_decision_and_anywhere_in_training(paths):
    for name, differs in ((HYBRID, True), (SHARED, False)):
        foreign = read_policy(paths[name])
        policy = policy_of(foreign, FITTING[name](), paths[name], Sampling())
        numbers, pictures = seen(foreign, golden_of(paths[name]), policy.task)
        with torch.no_grad():
            middle = policy.generator.embed(numbers, pictures)
            anywhere = policy.generator.embed(numbers, pictures, torch.Generator().manual_seed(0))
        assert torch.equal(middle, anywhere) is not differs


def test_a_policy_that_was_cropped_anywhere_at_a_decision_is_noted(paths, monkeypatch):
    assert not any("eval_fixed_crop" in note for note in read_policy(paths[HYBRID]).notes)
    with_setting(monkeypatch, "policy.eval_fixed_crop", None)
    assert any("eval_fixed_crop" in note for note in read_policy(paths[HYBRID]).notes)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON not in os.environ, reason=f"${PYTHON} names no Python with diffusion_policy")
def test_diffusion_policy_makes_the_fixtures_again(tmp_path):
    """With diffusion_policy itself, and the whole files that its workspace saved."""
    script = Path(__file__).parent / "make_original_fixtures.py"
    subprocess.run([os.environ[PYTHON], str(script), str(tmp_path), "whole"], check=True)
    for name, task in FITTING.items():
        path = tmp_path / name / "latest.ckpt"
        foreign = read_policy(path)
        assert_the_librarys_actions(policy_of(foreign, task(), path, Sampling()), foreign, golden_of(path))
        found, kept = (golden_of(folder / name)["chunk"] for folder in (tmp_path, FIXTURES))
        np.testing.assert_allclose(found, kept, atol=0.05)
