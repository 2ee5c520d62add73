"""Ablations as tables and a figure: every setting has its line, numbers are in order of size."""

import numpy as np

from onestride.evaluation.variant import Variant
from onestride.reports.table import cells
from onestride.studies import ablations as study


def row(value, method="dnk", selector="iql", **variant):
    found = {"mean": value, "std": 0.05, "n": 2, "per_seed": [value, value + 0.1]}
    metrics = dict.fromkeys(("return_normalised", "unselected_return", "teacher_distance", "decision_ms_mean"), found)
    return {"variant": Variant(method=method, selector=selector, **variant).fields(), **metrics}


ROWS = {
    "dnk": row(0.5),
    "dnk-unselected": row(0.4, selector="none"),
    "no-action": row(0.25, setting="no-action"),
    **{f"candidates-{n}": row(n / 256, candidates=n) for n in (256, 64, 8, 1)},
    **{f"teacher-ddim-{n}": row(n / 20, "teacher", steps=n) for n in (20, 2)},
    "teacher-ddim-20-unselected": row(0.1, "teacher", "none", steps=20),
}
RECORD = {"rows": ROWS, "experiment": "hopper-v5", "config": {"evaluate": {"episodes": 20}}}


def test_settings_are_lines_the_reference_first():
    heading, *found = cells(study.settings_table(RECORD))
    assert [line[0] for line in found] == ["DNK, whole", "without the action loss"]
    assert found[1][heading.index("return")] == "0.2500 ± 0.0500"


def test_the_terminal_has_the_same_names_in_the_same_order():
    made = study.terminal_table(RECORD)
    names = list(made.columns[0].cells)
    assert names[:3] == ["DNK, whole", "without the action loss", "Teacher, DDIM, 2 steps"]
    assert names[-1] == "DNK, 256 candidates"
    assert next(iter(made.columns[1].cells)) == "0.5000"


def test_numbers_are_sorted_as_numbers():
    assert list(study.by_number(ROWS, "candidates")) == [1, 8, 64, 256]
    assert list(study.by_number(ROWS, "steps")) == [2, 20]
    table = study.numbers_table(RECORD)
    names = list(table.rows)
    assert table.caption[0].endswith("20 episodes of each seed. Of latency: over 2 single decisions.")
    assert names[:3] == ["Teacher, DDIM, 2 steps", "Teacher, DDIM, 20 steps", "DNK, 1 candidate"]


def test_the_figure_shows_seeds_and_means():
    distance, score, candidates, steps = study.figure(RECORD).axes
    assert [t.get_text() for t in distance.get_yticklabels()] == ["DNK, whole", "without the action loss"]
    np.testing.assert_allclose(score.lines[0].get_xdata(), [0.5, 0.6])
    mean = candidates.get_lines()[-1]
    np.testing.assert_allclose(mean.get_xdata(), [1, 8, 64, 256])
    np.testing.assert_allclose(mean.get_ydata(), np.array([1, 8, 64, 256]) / 256 + 0.05)
    assert [t.get_text() for t in steps.get_legend().get_texts()][-1] == "DNK, one call"
