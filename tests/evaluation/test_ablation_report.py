"""Ablations as tables and a picture: every variant has its line, numbers are in order of size."""

import numpy as np

from onestride.evaluation import ablation_report as report
from onestride.studies import ablations


def row(value, seeds=(0.0, 0.1)):
    found = {"mean": value, "std": 0.05, "per_seed": [value + s for s in seeds]}
    return dict.fromkeys(("return_normalised", "unselected_return", "teacher_distance"), found)


ROWS = {
    "dnk": row(0.5),
    "dnk-unselected": row(0.4),
    "no-action": row(0.25),
    **{f"candidates-{n}": row(n / 256) for n in (256, 64, 8, 1)},
    **{f"teacher-ddim-{n}": row(n / 20) for n in (20, 2)},
    "teacher-ddim-20-unselected": row(0.1),
}


def lines(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_every_variant_that_is_trained_has_a_name():
    assert set(report.VARIANTS) == {setting.name or "dnk" for setting in ablations.SETTINGS}


def test_variants_are_lines_the_reference_first():
    heading, _, *found = lines(report.variant_table({"rows": ROWS}))
    assert [line[0] for line in found] == ["DNK, whole", "without the action loss"]
    assert found[1][heading.index("return")] == "0.2500 ± 0.0500"


def test_the_terminal_has_the_same_names_in_the_same_order():
    made = report.terminal_table({"rows": ROWS, "experiment": "hopper-v5"})
    names = list(made.columns[0].cells)
    assert names[:3] == ["DNK, whole", "without the action loss", "Teacher, DDIM, 2 steps"]
    assert names[-1] == "DNK, 256 candidates"
    assert next(iter(made.columns[1].cells)) == "0.5000"


def test_numbers_are_sorted_as_numbers():
    assert list(report.numbered(ROWS, report.CANDIDATES)) == [1, 8, 64, 256]
    assert list(report.numbered(ROWS, report.STEPS)) == [2, 20]
    names = [line[0] for line in lines(report.number_table({"rows": ROWS}))[2:]]
    assert names[:3] == ["Teacher, DDIM, 2 steps", "Teacher, DDIM, 20 steps", "DNK, 1 candidate"]


def test_the_picture_shows_seeds_and_means():
    distance, score, candidates, steps = report.figure({"rows": ROWS}).axes
    assert [t.get_text() for t in distance.get_yticklabels()] == ["DNK, whole", "without the action loss"]
    np.testing.assert_allclose(score.lines[0].get_xdata(), [0.5, 0.6])
    mean = candidates.get_lines()[-1]
    np.testing.assert_allclose(mean.get_xdata(), [1, 8, 64, 256])
    np.testing.assert_allclose(mean.get_ydata(), np.array([1, 8, 64, 256]) / 256 + 0.05)
    assert [t.get_text() for t in steps.get_legend().get_texts()][-1] == "DNK, one call"
