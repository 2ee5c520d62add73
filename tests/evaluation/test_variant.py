"""A row's name follows from its fields, and no two variants share one."""

import json
from itertools import product

import pytest

from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError

ROWS = {
    "teacher": Variant(method="teacher", selector="returns"),
    "teacher-iql": Variant(method="teacher", selector="iql"),
    "teacher-mixture": Variant(method="teacher", selector="iql", sampling="training"),
    "teacher-unselected": Variant(method="teacher", selector="none"),
    "dnk": Variant(method="dnk", selector="iql"),
    "dnk-engine": Variant(method="dnk", selector="iql", backend="engine"),
    "dnk-int8": Variant(method="dnk", selector="iql", backend="engine-int8"),
    "dnk-mixture": Variant(method="dnk", selector="iql", sampling="training"),
    "dnk-first": Variant(method="dnk", selector="iql", sampling="training", scored_steps=1),
    "dnk-classifier": Variant(method="dnk", selector="returns"),
    "dnk-unselected": Variant(method="dnk", selector="none"),
    "kdm-f": Variant(method="kdm-f", selector="iql"),
    "kdm-f-classifier": Variant(method="kdm-f", selector="returns"),
    "teacher-ddim-5": Variant(method="teacher", selector="iql", steps=5),
    "teacher-ddim-5-unselected": Variant(method="teacher", selector="none", steps=5),
    "edm-heun-10": Variant(method="edm", selector="iql", steps=10),
    "cp-long-calls-3-unselected": Variant(method="cp", selector="none", setting="long", steps=3),
    "candidates-16": Variant(method="dnk", selector="iql", candidates=16),
    "no-spectral": Variant(method="dnk", selector="iql", setting="no-spectral"),
    "no-spectral-unselected": Variant(method="dnk", selector="none", setting="no-spectral"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_named_as_in_every_result(name):
    assert ROWS[name].row == name


@pytest.mark.parametrize("name", ["teacher", "dnk", "kdm-f"])
def test_a_tasks_own_selector_needs_no_word(name):
    assert Variant(method=name, selector="task").row == name


def test_no_two_variants_share_a_row():
    choices = {
        "method": ("teacher", "dnk", "mine"),
        "selector": ("iql", "returns", "none", "theirs"),
        "backend": ("torch", "engine", "engine-int8"),
        "candidates": (None, 1, 16),
        "sampling": ("selector", "training"),
        "scored_steps": (None, 1, 2),
        "steps": (None, 5),
        "setting": ("", "no-spectral"),
    }
    variants = [Variant(**dict(zip(choices, chosen, strict=True))) for chosen in product(*choices.values())]
    assert len({v.row for v in variants}) == len(variants)


@pytest.mark.parametrize("variant", ROWS.values(), ids=ROWS)
def test_a_variant_comes_back_from_json(variant):
    assert Variant.of(json.loads(json.dumps({"variant": variant.fields()}))) == variant


@pytest.mark.parametrize(
    "row", [{}, {"variant": {"method": "dnk"}}, {"variant": ROWS["dnk"].fields() | {"steps": "five"}}]
)
def test_a_row_without_its_variant_is_refused(row):
    with pytest.raises(CheckpointError, match="names no variant"):
        Variant.of(row)


@pytest.mark.parametrize("field", ["candidates", "steps", "scored_steps"])
def test_counts_are_at_least_one(field):
    with pytest.raises(ValueError, match=f"{field} of a variant is 0"):
        Variant(method="dnk", selector="iql", **{field: 0})


def test_names_for_a_reader():
    labels = {name: variant.label for name, variant in ROWS.items()}
    assert labels["dnk"] == "DNK"
    assert labels["kdm-f-classifier"] == "KDM-F (return model)"
    assert labels["dnk-int8"] == "DNK (IQL, engine in 8 bits)"
    assert Variant(method="dnk", selector="task", backend="engine").label == "DNK (engine)"
    assert labels["teacher-ddim-5"] == "Teacher, DDIM, 5 steps"
    assert labels["edm-heun-10"] == "EDM teacher, Heun, 10 steps"
    assert labels["cp-long-calls-3-unselected"] == "CP, long, 3 calls (unselected)"
    assert labels["candidates-16"] == "DNK, 16 candidates"
    assert Variant(method="mine", selector="theirs").label == "mine (theirs)"
    assert Variant(method="teacher", selector="none", steps=1).label == "Teacher, DDIM, 1 step (unselected)"


def test_the_teacher_comes_first_and_of_each_its_usual_ranking():
    names = ["teacher", "teacher-iql", "dnk", "dnk-engine", "dnk-classifier", "dnk-unselected", "kdm-f"]
    mine = Variant(method="mine", selector="iql")
    assert sorted([mine, *(ROWS[n] for n in reversed(names))], key=lambda v: v.order) == [
        *(ROWS[n] for n in names),
        mine,
    ]
