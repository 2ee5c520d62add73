"""What the server adds, of times that are known; and of a few requests to a folder."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.engine.export import export
from onestride.reports.table import cells
from onestride.studies.serving import COLUMNS, measure, summary, table


def test_percentiles_are_in_milliseconds_and_stand_in_the_table():
    times = np.arange(1001) / 1e3  # 0, 1, ... 1000 ms
    row = summary({"engine": times, "request": 2 * times, "added": times / 2, "size": np.array(193)})
    assert row["engine_ms_p50"]["mean"] == pytest.approx(500)
    assert row["request_ms_p99"]["mean"] == pytest.approx(1980)
    assert row["added_ms_p999"]["mean"] == pytest.approx(499.5)
    assert row["added_ms_max"]["mean"] == pytest.approx(500)
    assert {column.metric for column in COLUMNS} <= set(row)
    _, line = cells(table({"rows": {"arm, native": row}, "notes": []}, "zen"))
    assert line[0] == "arm, native (zen)"
    assert line[1:3] == ["500.000", "990.000"]
    assert line[-2:] == ["0.2", "1001"]


@pytest.mark.slow
def test_a_folder_is_measured_alone_and_through_its_server(make_arm_policy, tmp_path):
    export(make_arm_policy("student"), tmp_path / "e", form="native", draws=4, seed=0, checkpoint=None)
    record = measure((tmp_path / "e",), requests=5, note="mine")
    (name,) = record["rows"]
    assert name.startswith("kinova, native")
    row = record["rows"][name]
    assert row["requests"]["mean"] == 5
    assert row["request_ms_max"]["mean"] > row["added_ms_max"]["mean"] > 0
    assert record["notes"][-1] == "mine"
    with pytest.raises(ValueError, match="name at least one folder"):
        measure(())
