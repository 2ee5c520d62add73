"""Presets that belong together agree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onestride.runs import presets
from onestride.runs.presets.baselines import FAMILIES, baselines
from onestride.runs.presets.few_step import FEW_STEP, few_step_stages
from onestride.runs.settings import ReturnsConfig
from onestride.runs.stage import DataSet
from onestride.tasks import TASKS
from onestride.training.config import TrainConfig


def test_the_papers_protocol_is_in_the_full_presets():
    for body in ("halfcheetah", "walker2d", "hopper"):
        full = presets.load(f"{body}-full")
        assert (full.evaluate.episodes, len(full.stage("dnk").seeds), full.evaluate.teacher_seeds) == (500, 5, 5)
        assert full.stage("pairs").config.count == 500_000
        assert (full.stage("teacher").config.n_steps, full.stage("returns").config.n_steps) == (20, 20)
        assert full.task == f"{body}-v5"


@pytest.mark.parametrize("name", [n for n in presets.PRESETS if presets.load(n).ranked_by == "iql"])
def test_a_presets_teacher_and_return_model_have_the_same_noise_levels(name):
    preset = presets.load(name)
    assert preset.stage("returns").config.n_steps == preset.stage("teacher").config.n_steps
    assert preset.stage("cd").config.width == preset.stage("edm").config.width
    assert (preset.task in TASKS) == (not name.startswith("gym-"))


@pytest.mark.parametrize("budget", ["small", "full", "tiny"])
@pytest.mark.parametrize("body", ["halfcheetah", "walker2d", "hopper"])
def test_medium_presets_differ_in_their_data_alone(body, budget):
    plain, medium = presets.load(f"{body}-{budget}"), presets.load(f"{body}-medium-{budget}")
    assert (plain.data, medium.data) == (DataSet(), DataSet(f"{body}-medium", 1))
    assert replace(medium, data=plain.data, about=plain.about) == plain


def test_the_hands_critics_have_the_sources_expectile():
    for name in ("pen", "door", "hammer", "relocate"):
        for budget in ("small", "tiny"):
            preset = presets.load(f"adroit-{name}-{budget}")
            assert preset.task == f"adroit-{name}"
            assert preset.stage("iql").config.expectile == 0.8


CHUNKS = ("pusht", "pusht-dp", "cube-double", "scene-drawer")
PLANS = ("pointmaze-large", "antmaze-umaze", "adroit-pen", "quadrotor")


@pytest.mark.parametrize("task", [*CHUNKS, *PLANS, "pusht-image"])
def test_a_full_preset_is_the_small_ones_stages_with_the_fields_networks(task):
    small, full = (presets.load(f"{task}-{budget}") for budget in ("small", "full"))
    assert (full.task, full.ranked_by) == (small.task, small.ranked_by)
    assert [stage.name for stage in full.stages] == [stage.name for stage in small.stages]
    config = full.stage("teacher").config
    assert config.network == ("unet" if task in PLANS else "film-unet")
    assert config.n_steps == small.stage("teacher").config.n_steps
    assert full.stage("pairs").config.count == 500_000
    assert full.stage("dnk").seeds == (0, 1, 2)
    horizon = TASKS[full.task]().plans.horizon
    assert horizon % 8 == 0
    if task in CHUNKS:
        assert config.film_unet.down_dims == (512, 1024, 2048)
    if task == "pusht-dp":
        assert config.prediction == "eps"  # a U-Net says the noise
    assert (task == "pusht-image") == (full.stage("teacher").vision is not None)


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="numbers of at least 1"):
        ReturnsConfig(episodes=0)


def test_fewer_processes_than_none_are_refused():
    with pytest.raises(ValueError, match=r"evaluate\.workers is -1; expected at least 0"):
        ReturnsConfig(workers=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_baselines_of_a_family_are_set_as_in_its_source(family):
    bc, policy, fql = (s.complete() for s in baselines(TrainConfig(), FAMILIES[family], seeds=(0, 1), alpha=3.0))
    expectile, beta, dropout = {
        "locomotion": (0.7, 3, 0), "hopper-medium-expert": (0.5, 6, 0), "antmaze": (0.9, 10, 0),
        "adroit": (0.8, 3, 0.1),
    }[family]  # fmt: skip
    assert FAMILIES[family].expectile == expectile
    assert (policy.config.beta, policy.config.dropout, fql.config.alpha) == (beta, dropout, 3.0)
    assert [s.selector for s in (bc, policy, fql)] == [None, None, "iql"]
    assert all(s.seeds == (0, 1) for s in (bc, policy, fql))


def test_a_method_of_several_samples_a_row_has_as_many_rows_fewer_in_a_batch():
    preset = presets.load("pointmaze-umaze-tiny")
    usual, kdp, paper = (preset.stage(name).training for name in ("bc", "kdp", "kdp-paper"))
    assert usual.batch_size == paper.batch_size == 8 * kdp.batch_size


@pytest.mark.parametrize("budget", ["small", "tiny"])
def test_a_students_score_is_distilled_in_a_tenth_of_its_teachers_training(budget):
    preset, plain = presets.load(f"pusht-dp-{budget}"), presets.load(f"pusht-{budget}")
    teacher, other = preset.stage("teacher"), plain.stage("teacher")
    assert (teacher.of, teacher.config.n_steps, teacher.config.prediction) == ("dp", 100, "x0")
    assert (teacher.config.width, teacher.config.blocks) == (other.config.width, other.config.blocks)
    for name in ("onedp-s", "onedp-d"):
        training = preset.stage(name).training
        assert training.steps * training.batch_size <= 0.1 * teacher.training.steps * teacher.training.batch_size


def test_planners_of_few_steps_have_the_teachers_size_and_training_and_the_scale_of_the_tasks_plans():
    preset = presets.load("pusht-small")
    made, teacher = {stage.name: stage for stage in few_step_stages(preset)}, preset.stage("teacher")
    assert tuple(made) == FEW_STEP
    for stage in made.values():
        assert (stage.training, stage.config.width, stage.config.blocks) == (teacher.training, 512, 3)
        assert stage.config.first_action_weight == teacher.config.first_action_weight == 1.0
    assert made["edm"].config.sigma_data == made["cp"].config.sigma_data == 0.5  # plans lie within -1 ... 1
    assert [made[name].selector for name in FEW_STEP] == ["medoid", "medoid", None, "medoid"]


def test_a_presets_own_edm_teacher_says_what_cp_is():
    preset = presets.load("halfcheetah-small")
    made, edm = {stage.name: stage for stage in few_step_stages(preset)}, preset.stage("edm")
    assert tuple(made) == FEW_STEP[1:]
    cp = made["cp"]
    assert (cp.horizon, cp.config.width, cp.config.blocks) == (edm.horizon, edm.config.width, edm.config.blocks)
    assert cp.config.sigma_data == edm.config.sigma_data == 1.0
