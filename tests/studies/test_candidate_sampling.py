"""Ways to draw candidates beside each other."""

from __future__ import annotations

import pytest

from onestride.reports.table import cells
from onestride.studies.candidate_sampling import summary, table


def test_poor_episodes_are_counted_over_all_seeds_and_means_are_of_seeds():
    row = summary([[1.0, 0.5, 0.95], [0.9, 0.91, 0.89]])
    assert row["return_normalised"]["per_seed"] == pytest.approx([2.45 / 3, 0.9])
    assert row["median"]["per_seed"] == [0.95, 0.9]
    assert (row["poor"]["mean"], row["episodes"]["mean"]) == (2, 6)
    record = {"rows": {"own": row, "lowest": row}, "seeds": {"training": [0, 1]}, "config": {"episodes": 3}}
    _, own, lowest = cells(table(record))
    assert own == ["as the critic has it", "0.8583 ± 0.0417", "0.9250 ± 0.0250", "2", "6"]
    assert lowest[0] == "a margin for all but the lowest λ"
