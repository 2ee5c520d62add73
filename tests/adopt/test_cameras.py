"""Policies of LeRobot with cameras, adopted: its own features and actions from the same images and noise."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from adopt.seeded_weights import images as drawn_images
from adopted_files import FIXTURES, as_before_04, golden_of, task_with, whole
from onestride.adopt.adopting import Sampling, adopt, policy_of, read_policy
from onestride.networks.rgb_encoder import resizing_matrix
from onestride.policy.policy import Policy
from onestride.robot.fields import Field, camera
from onestride.tasks import TASKS

PYTHON = "ONESTRIDE_LEROBOT_PYTHON"  # a Python with lerobot 0.6.1 and diffusers
TOLERANCE = 1e-4  # of what is normalised
GROUP, BATCH, SHARED = "lerobot-image-group", "lerobot-image-batch", "lerobot-image-shared"
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"


#: Tasks that fit: of two cameras in another order than the policy has them.
FITTING = {
    GROUP: lambda: TASKS["pusht-image"](),
    BATCH: lambda: task_with(
        Field("agent", (2,)), Field("block", (3,)), camera("top", 60, 80), camera("wrist", 60, 80)
    ),
    SHARED: lambda: task_with(Field("agent", (2,)), camera("wrist", 41, 52), camera("top", 41, 52)),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The policies with their weights, by name."""
    return {name: whole(name, tmp_path_factory.mktemp("policies")) for name in FITTING}


def images_of(foreign):
    """The fixture's images (2, 2, height, width, 3) by the policy's names."""
    return {
        each.name: torch.from_numpy(drawn_images(4, each.size, number)).unflatten(0, (2, 2))
        for number, each in enumerate(foreign.cameras)
    }


def seen(foreign, golden, task):
    """What a decision of ours is about: numbers (2, C) and images by the task's names."""
    numbers = torch.cat([golden[name] for name in (STATE, ENVIRONMENT) if name in golden], -1).flatten(1)
    pictures = images_of(foreign)
    names = {each.name: next(n for n in pictures if n.endswith(each.name) or len(pictures) == 1)
             for each in task.control.cameras}  # fmt: skip
    return numbers, {mine: pictures[theirs] for mine, theirs in names.items()}


def assert_the_librarys_actions(policy, foreign, golden):
    numbers, pictures = seen(foreign, golden, policy.task)
    planner, past = policy.generator.planner, policy.generator.config.film_unet.past_rows
    noise = golden["noise"].roll(-past, 1)
    with torch.no_grad():
        context = policy.generator.embed(policy.normalizer.context(numbers), pictures)
        torch.testing.assert_close(context.sort(1).values, golden["condition"].sort(1).values, atol=2e-5, rtol=0)
        output = planner.network(noise, golden["timesteps"] + 1, context)
        torch.testing.assert_close(output, golden["output"].roll(-past, 1), atol=5e-5, rtol=0)
        chunk = policy.normalizer.unnormalize(policy.generator.sample(noise, context))
    assert golden["chunk"].std() > 10  # pixels: nothing that a constant would pass
    assert golden["condition"].std(0).max() > 0.01  # images that say nothing would pass too
    assert ((chunk[:, :8] - golden["chunk"]).abs() / policy.normalizer.std).max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTING)
def test_the_same_images_and_noise_give_the_librarys_own_actions(name, folders):
    """GroupNorm and a crop; BatchNorm, resized and cropped, by two encoders; two cameras by one encoder."""
    foreign = read_policy(folders[name])
    made = policy_of(foreign, FITTING[name](), folders[name], Sampling())
    assert_the_librarys_actions(made, foreign, golden_of(folders[name]))


@pytest.mark.slow
def test_an_adopted_policy_is_saved_with_its_encoders_and_decides(folders, tmp_path):
    foreign = read_policy(folders[GROUP])
    adopt(tmp_path, folders[GROUP], FITTING[GROUP]())
    policy = Policy.from_pretrained(tmp_path / "teacher", candidates=4)
    assert policy.generator.vision == foreign.vision
    assert_the_librarys_actions(policy, foreign, golden_of(folders[GROUP]))
    picture = images_of(foreign)["observation.image"][0].numpy()
    first = policy.decide({"agent": np.full((2, 2), 200.0), "top": picture})
    policy.reset(0)
    other = policy.decide({"agent": np.full((2, 2), 200.0), "top": 255 - picture})
    assert np.abs(first.action - other.action).max() > 1e-3
    assert "it was there already" in adopt(tmp_path, folders[GROUP], FITTING[GROUP]()).notes


@pytest.mark.slow
def test_images_are_cropped_anywhere_in_training_where_the_policy_was_trained_so(folders):
    for name, differs in ((GROUP, True), (SHARED, False)):
        foreign = read_policy(folders[name])
        policy = policy_of(foreign, FITTING[name](), folders[name], Sampling())
        numbers, pictures = seen(foreign, golden_of(folders[name]), policy.task)
        with torch.no_grad():
            middle = policy.generator.embed(numbers, pictures)
            anywhere = policy.generator.embed(numbers, pictures, torch.Generator().manual_seed(0))
        assert torch.equal(middle, anywhere) is not differs


@pytest.mark.slow
def test_before_lerobot_04_the_statistics_of_images_are_among_the_weights(folders, tmp_path):
    folder = as_before_04(whole(GROUP, tmp_path))
    foreign = read_policy(folder)
    made = policy_of(foreign, FITTING[GROUP](), folder, Sampling())
    assert_the_librarys_actions(made, foreign, golden_of(folders[GROUP]))


def test_resizing_keeps_what_is_even_and_averages_what_is_not():
    for size, to in ((60, 48), (48, 60), (7, 7)):
        weights = resizing_matrix(size, to)
        torch.testing.assert_close(weights.sum(1), torch.ones(to))
        assert (weights >= 0).all()
    halved = resizing_matrix(8, 4)
    assert (halved[1, 1:5] > 0).all()  # a pixel is of more than two
    torch.testing.assert_close(resizing_matrix(7, 7), torch.eye(7))


@pytest.mark.slow
@pytest.mark.skipif(PYTHON not in os.environ, reason=f"${PYTHON} names no Python with lerobot")
def test_lerobot_makes_the_fixtures_again(tmp_path):
    """With LeRobot itself, and the weights that it saved: what it does today is still what is adopted."""
    script = Path(__file__).parent / "make_image_fixtures.py"
    command = [os.environ[PYTHON], str(script), str(tmp_path), "weights"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": ""})
    for name, task in FITTING.items():
        foreign = read_policy(tmp_path / name)
        made = policy_of(foreign, task(), tmp_path / name, Sampling())
        assert_the_librarys_actions(made, foreign, golden_of(tmp_path / name))
        np.testing.assert_allclose(golden_of(tmp_path / name)["chunk"], golden_of(FIXTURES / name)["chunk"], atol=0.05)
