"""A tiny preset takes seconds for whatever is trained with it, whether it names that or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onestride.methods import METHODS
from onestride.runs import presets
from onestride.runs.made_with import learns_nothing
from onestride.runs.stage import DEFAULTS, Stage
from onestride.runs.trainable import CONTEXTS, PAIRS
from onestride.selectors import SELECTORS

TINY = sorted(name for name in presets.PRESETS if name == "tiny" or name.endswith("-tiny"))


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_preset_is_tiny_for_everything_that_can_be_trained(name):
    preset = presets.load(name)
    assert learns_nothing(name)
    more = replace(preset, stages=(*preset.stages, Stage(name="medoid", role="selector"))).stages
    assert {stage.preset for stage in (*more, preset.stage("mip"), preset.stage(PAIRS))} == {name}
    for each in (*METHODS, *SELECTORS, CONTEXTS):
        training = preset.stage(each).training
        assert training is None or (training.steps <= 30 and training.batch_size <= 64), each
    assert preset.stage(PAIRS).config.count <= 2_048


def test_other_presets_are_there_to_learn():
    assert {name for name in presets.PRESETS if learns_nothing(name)} == set(TINY)


def test_what_other_presets_do_not_name_is_trained_as_by_default():
    preset = presets.load("gym-small")
    assert preset.stage("mip").training == DEFAULTS.training
    assert preset.stage(CONTEXTS).training == DEFAULTS.contexts
    assert presets.load("hopper-source-small").stage(PAIRS).config == DEFAULTS.pairs


def test_of_a_method_with_several_samples_a_row_a_batch_has_fewer_rows():
    preset = presets.load("gym-tiny")
    assert preset.stage("kdp").training.batch_size == preset.stage("mip").training.batch_size // 8
