"""Studies of the OneDP paper: what each trains differs in what its rows say, and a figure shows every training."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from onestride.evaluation.metrics import over_seeds
from onestride.evaluation.variant import Variant
from onestride.runs.presets.onedp import SHARE, lasting
from onestride.studies import STUDIES, onedp_ablations, onedp_convergence, onedp_table2
from onestride.training.config import TrainConfig

NAMES = ("table1", "table2", "convergence", "ablations")
TRAINING = TrainConfig(steps=1_000)


@pytest.mark.parametrize("name", NAMES)
def test_every_chunk_task_has_what_a_study_trains(name):
    study = STUDIES[f"onedp-{name}"]()
    assert study.family == "onedp"  # they share runs
    for dataset in study.datasets:
        for budget in ("tiny", "small", "full"):
            stages = {stage.name for stage in study.preset(dataset, budget).stages}
            assert stages >= {*(study.methods or ()), "edm", "cp", "onedp-s", "onedp-d"}


def test_the_paper_s_budgets_are_a_tenth_of_the_teachers_and_twenty_times_that():
    short, long = (each.training(TRAINING).steps for each in (onedp_table2.SHORT, onedp_table2.LONG))
    assert (short, long) == (100, 2_000)
    assert lasting(TRAINING, SHARE).steps == short


def test_points_of_the_convergence_are_named_by_how_long_they_train():
    after = onedp_convergence.after(5.0, SHARE)
    assert (after.name, after.training(TRAINING).steps) == ("5-times", 500)
    student = onedp_convergence.after(0.5, name="of-edm-", student=onedp_table2.OF_EDM.student)
    onedp = STUDIES["onedp-table1"]().preset("pusht", "small").stage("onedp-s").complete()
    assert student.student(onedp.config).teacher == "edm"
    assert student.name == "of-edm-0.5-times"


def test_an_ablation_changes_one_number_each():
    onedp = STUDIES["onedp-table1"]().preset("pusht", "small").stage("onedp-s").complete().config
    changed = []
    for setting in onedp_ablations.SETTINGS[1:]:
        found = {k: v for k, v in asdict(setting.student(onedp)).items() if v != asdict(onedp)[k]}
        assert len(found) == 1
        changed += found.items()
    assert len(set(changed)) == len(onedp_ablations.SETTINGS) - 1
    assert {name for name, _ in changed} == {"t_init", "learning_rate", "score_learning_rate", "beta1"}


def test_the_figure_has_a_line_of_each_over_updates_and_over_time():
    def row(variant, steps, reward):
        made = {"training_steps": steps, "training_s": 0.1 * steps, "best_reward": reward}
        return {"variant": variant.fields()} | {name: over_seeds([value, value]) for name, value in made.items()}

    variants = {Variant(method="edm", selector="none"): (1_000, 0.8)}
    variants |= {Variant(method="cp", selector="none", setting=f"{n}-times"): (n * 100, n / 30) for n in (1, 10, 20)}
    variants |= {Variant(method="onedp-s", selector="none", setting="of-edm-1-times"): (100, 0.7)}
    variants |= {Variant(method="cp", selector="medoid", setting="1-times"): (100, 0.9)}  # ranked: not in it
    found = onedp_convergence.figure({"rows": {v.row: row(v, *numbers) for v, numbers in variants.items()}})
    for axes, scale in zip(found.axes, (1.0, 0.1), strict=True):
        (cp,) = (line for line in axes.lines if line.get_label() == "CP")
        assert cp.get_xdata() == pytest.approx([100 * scale, 1_000 * scale, 2_000 * scale])
        assert cp.get_ydata() == pytest.approx([1 / 30, 10 / 30, 20 / 30])
        (teacher,) = (line for line in axes.lines if line.get_label() == "EDM teacher")
        assert set(teacher.get_ydata()) == {0.8}
