"""What an episode refuses."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.data.episode import Episode


def arrays(steps=3):
    return {
        "observations": np.zeros((steps + 1, 4)),
        "actions": np.zeros((steps, 2)),
        "rewards": np.zeros(steps),
    }


def test_its_length_is_its_number_of_actions():
    assert len(Episode(**arrays(5), terminated=True)) == 5
    assert len(Episode(**arrays(1), terminated=False, truncated=True)) == 1


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("observations", 3, r"3 actions needs 4 observations .*got 3"),
        ("observations", 5, r"3 actions needs 4 observations .*got 5"),
        ("rewards", 4, r"3 actions needs 3 rewards, got 4"),
        ("rewards", 2, r"3 actions needs 3 rewards, got 2"),
        ("actions", 0, r"at least one action"),
        ("actions", 2, r"2 actions needs 3 observations .*got 4"),
    ],
)
def test_lengths_must_agree(name, rows, message):
    given = arrays()
    given[name] = np.zeros((rows, *given[name].shape[1:]))
    with pytest.raises(ValueError, match=message):
        Episode(**given, terminated=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "index"), [("observations", (3, 2)), ("actions", (2, 1)), ("rewards", (1,)), ("observations", (0, 0))]
)
def test_a_number_that_is_not_finite_is_named_with_its_index(name, index, value):
    given = arrays()
    given[name][index] = value
    with pytest.raises(ValueError, match=rf"episode\.{name} is not finite") as caught:
        Episode(**given, terminated=True)
    assert str(index) in str(caught.value)
