"""Which of several known behaviours candidates follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from onestride.evaluation.variant import Variant
from onestride.reports.table import cells
from onestride.studies.mode_coverage import coverage, summary, table


def test_candidates_follow_the_nearest_behaviour():
    modes = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[-1.0, -1.0], [4.0, 0.0]]])  # (K, B, A)
    actions = torch.tensor(
        [
            [[1.0, 1.0], [0.5, 0.5], [-1.0, -1.0], [-0.5, -0.5]],  # two follow the first
            [[4.0, 0.0], [3.0, 0.0], [5.0, 0.0], [2.1, 0.0]],  # none does
        ]
    )
    found = coverage(actions, modes, torch.tensor([0.3, 0.7, 0.3, 0.7]))
    assert found["followed"] == pytest.approx(2 / 8)
    assert found["starts_without"] == 0.5
    assert found["followed_at_0.3"] == pytest.approx(1 / 4)
    assert found["followed_at_0.7"] == pytest.approx(1 / 4)
    near = [0.0, 0.5, 0.0, 0.5, 0.0, 0.5**0.5, 0.5**0.5, 1.9 / 2**0.5]
    assert found["mode_distance"] == pytest.approx(sum(near) / 8)


def test_one_temperature_is_not_told_apart():
    found = coverage(torch.zeros(2, 3, 1), torch.zeros(2, 2, 1), torch.ones(3))
    assert set(found) == {"followed", "starts_without", "mode_distance"}


def test_a_line_per_planner_the_teacher_with_all_its_noise_first():
    seeds = [{"followed": 0.2, "starts_without": 0.0, "mode_distance": 0.1}]
    seeds.append({"followed": 0.4, "starts_without": 0.5, "mode_distance": 0.3})
    dnk, teacher = Variant(method="dnk", selector="none"), Variant(method="teacher", selector="none")
    rows = {"dnk-iql": summary(replace(dnk, selector="iql"), seeds), "dnk": summary(dnk, seeds)}
    rows |= {"teacher": summary(teacher, seeds[:1])}
    rows |= {"teacher, whole noise": summary(replace(teacher, setting="whole-noise"), seeds[1:])}
    assert rows["dnk"]["followed"] == {
        "mean": pytest.approx(0.3), "std": pytest.approx(0.1), "n": 2, "per_seed": [0.2, 0.4],
    }  # fmt: skip
    _, *lines = cells(table({"rows": rows, "config": {"starts": 2}}))
    assert [line[0] for line in lines] == ["Teacher, λ = 1", "Teacher", "DNK", "DNK (IQL)"]
    assert lines[2][1] == "30.0 ± 10.0 %"
