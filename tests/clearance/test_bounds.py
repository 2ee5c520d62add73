"""What the proofs assume of tracking errors is what was measured, and a third more."""

from pathlib import Path

import pytest

from onestride.seals import read_result
from onestride.studies.clearance_tracking import ASSUMED

MEASURED = Path(__file__).parents[2] / "results" / "clearance" / "tracking.json"


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in ASSUMED.items() for part in parts])
def test_no_committed_measurement_comes_near_what_is_assumed(name, part):
    row = read_result(MEASURED)["rows"][f"{name}, {part}"]
    assert row["assumed_mm"]["mean"] == pytest.approx(1e3 * ASSUMED[name][part])
    assert row["error_mm"]["mean"] * 4 / 3 <= row["assumed_mm"]["mean"]
