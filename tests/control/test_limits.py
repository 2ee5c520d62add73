"""The safety_filter: what may not be sent is named, everything else passes."""

import numpy as np
import pytest

from onestride.robot.limits import Limits

LIMITS = Limits(np.full(3, -1.0), np.full(3, 1.0), max_step=0.1)
HERE = np.zeros(9)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([np.nan, 0, 0], "not finite"),
        ([np.inf, 0, 0], "not finite"),
        ([0, 0, -1.001], "out of the workspace"),
        ([0.0, 0.11, 0], "too far in one step"),
        ([0.0, 0.0], "shape"),
    ],
)
def test_a_bad_command_is_named(command, reason):
    assert reason in str(LIMITS.violation(np.array(command, dtype=float), HERE))


def test_from_a_position_that_is_no_number_nothing_is_near():
    assert LIMITS.violation(np.zeros(3), np.array([0.0, np.nan, 0.0])) == "too far in one step"


def test_a_good_command_passes_up_to_the_limits():
    assert LIMITS.violation(np.array([0.1, 0.0, 0.0]), HERE) is None
    assert LIMITS.violation(np.array([1.0, 1.0, 1.0]), np.ones(9)) is None
    assert Limits(np.full(3, -1.0), np.full(3, 1.0)).violation(np.array([1.0, -1.0, 1.0]), HERE) is None
