"""Where the time before a first decision goes, of moments that are known."""

import pytest

from onestride.reports.table import cells
from onestride.studies.startup import COLUMNS, summary, table


def test_parts_are_medians_and_the_slowest_start_is_kept():
    row = summary([[0.1, 0.3, 0.6, 0.7], [0.1, 0.4, 0.8, 0.9], [0.2, 0.4, 0.7, 2.0]])
    wanted = {"interpreter_s": 0.1, "library_s": 0.2, "folder_s": 0.3, "decision_s": 0.1}
    wanted |= {"total_s": 0.9, "total_max_s": 2.0, "starts": 3}
    assert {name: metric["mean"] for name, metric in row.items()} == pytest.approx(wanted)
    assert {column.metric for column in COLUMNS} == set(row)
    _, line = cells(table({"rows": {"arm": row}}))
    assert line == ["arm (here)", "0.10", "0.20", "0.30", "0.100", "0.90", "2.00", "3"]
