"""Learned selectors on disk: the same scores when they come back, and only for the task they are of."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from kinds import wrap
from onestride.checkpoint import CONFIG, MODEL, SCHEMA
from onestride.files import CheckpointError
from onestride.networks.normalizer import Normalizer
from onestride.seals import seal
from onestride.selectors.iql import CriticOptions, CriticSelector, IQLConfig
from onestride.selectors.returns import ReturnConfig, ReturnSelector
from onestride.selectors.store import load_selector, make_selector_model, save_selector
from onestride.tasks import TASKS

TASK = TASKS["halfcheetah-v5"]()
CONTROL = TASK.control
SETTINGS = {
    "iql": {"hidden": 8, "critics": 3},
    "returns": {"width": 16, "blocks": 1, "n_steps": 4, "unet_multipliers": [1, 2]},
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=sorted(SETTINGS))
def kind(request):
    return request.param


@pytest.fixture
def selector(kind):
    torch.manual_seed(0)
    model = make_selector_model(kind, SETTINGS[kind], TASK)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    d = CONTROL.transition_dim
    return wrap(model, Normalizer(normal(d), normal(d, seed=1).abs() + 0.5, torch.zeros(0), torch.ones(0)), CONTROL)


@pytest.fixture
def folder(selector, tmp_path):
    save_selector(tmp_path / "s", selector, TASK.name, {"id": "abc", "seconds": 1.5})
    return tmp_path / "s"


def change(folder, **entries):
    config = json.loads((folder / CONFIG).read_text())
    seal(folder / CONFIG, config | entries)


@torch.no_grad()
def test_the_same_scores_come_back(selector, folder, kind):
    plans, observation = 2 * normal(2, 7, CONTROL.horizon, CONTROL.transition_dim), normal(2, CONTROL.state_dim)
    if kind == "iql":
        selector.options = replace(selector.options, scored_steps=3)
        save_selector(folder, selector, TASK.name, {"id": "abc", "seconds": 1.5})
    again = load_selector(folder, TASK)
    assert type(again) is {"iql": CriticSelector, "returns": ReturnSelector}[kind]
    assert torch.equal(again(plans, observation, None), selector(plans, observation, None))
    assert again.training_record == {"id": "abc", "seconds": 1.5}


def test_a_critics_sampling_comes_back_and_what_cannot_be_is_refused(tmp_path):
    critic = wrap(make_selector_model("iql", SETTINGS["iql"], TASK), Normalizer.empty(23, 0), CONTROL)
    for options in (CriticOptions(), CriticOptions(2, (0.3, 1.0), (0.25, 0.75), 8.0)):
        critic.options = options
        save_selector(tmp_path, critic, TASK.name, {"id": "abc"})
        assert load_selector(tmp_path, TASK).options == options
    for wrong, message in (
        ({"scored_steps": 0}, "a critic judges at least the first action"),
        ({"temperatures": [0.3], "probabilities": [0.5]}, "need as many probabilities, adding up to 1"),
        ({"temperature": 1.0}, "settings this version does not know: temperature"),
        (7, r"Expected .*, got `int` - at `\$\.options`"),
    ):
        change(tmp_path, options=wrong)
        with pytest.raises(CheckpointError, match=message):
            load_selector(tmp_path, TASK)


def test_a_copy_of_a_loaded_one_still_says_how_it_was_trained(folder, tmp_path):
    save_selector(tmp_path / "copy", load_selector(folder, TASK), TASK.name)
    assert json.loads((tmp_path / "copy" / CONFIG).read_text())["training"] == {"id": "abc", "seconds": 1.5}
    assert (tmp_path / "copy" / MODEL).read_bytes() == (folder / MODEL).read_bytes()


def test_settings_come_back_as_they_were(kind):
    config = make_selector_model(kind, SETTINGS[kind], TASK).config
    if kind == "iql":
        assert config == IQLConfig(hidden=8, critics=3)
    else:
        assert config == ReturnConfig(width=16, blocks=1, n_steps=4, unet_multipliers=(1, 2))


@pytest.mark.parametrize("name", ["halfcheetah-v4", "hopper-v5"])
def test_one_of_another_task_is_refused(folder, name):
    with pytest.raises(CheckpointError, match=f"trained for task 'halfcheetah-v5', not for '{name}'"):
        load_selector(folder, TASKS[name]())


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        load_selector(tmp_path, TASK)


def test_an_unknown_kind_is_refused(folder):
    change(folder, kind="oracle")
    with pytest.raises(CheckpointError, match=r"there is no selector 'oracle'\. There are: iql, returns"):
        load_selector(folder, TASK)


def test_settings_of_another_version_are_refused(folder):
    change(folder, selector={"depth": 3})
    with pytest.raises(CheckpointError, match=r"settings this version does not know: .*depth"):
        load_selector(folder, TASK)


def test_weights_of_other_shapes_are_refused(folder, kind):
    change(folder, selector=SETTINGS[kind] | ({"hidden": 9} if kind == "iql" else {"width": 17}))
    with pytest.raises(CheckpointError, match="not of one training"):
        load_selector(folder, TASK)


def test_a_checkpoint_cut_short_is_refused(folder):
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="altered or cut short"):
        load_selector(folder, TASK)


def test_a_critic_clamps_to_its_tasks_limits():
    limits = replace(CONTROL.limits, low=0.5 * CONTROL.limits.low)
    control = replace(CONTROL, limits=limits)
    made = wrap(make_selector_model("iql", {"hidden": 8}, TASK), Normalizer.empty(23, 0), control)
    assert torch.equal(made.low, torch.full((6,), -0.5))
    assert torch.equal(made.high, torch.ones(6))


def test_a_planner_is_no_selector(tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir()
    planner = {"schema": SCHEMA, "kind": "teacher", "task": "hopper-v5", "training": {}, "files": {}}
    seal(folder / CONFIG, planner)
    with pytest.raises(CheckpointError, match="is no selector but a planner"):
        load_selector(folder, TASKS["hopper-v5"]())
