"""The late-command ladder in closed form."""

import numpy as np
import pytest

from onestride.control.ladder import Ladder, Patience

ROW = 0.05  # [s] between a plan's rows
PLAN = np.array([[0.0], [1.0], [2.0], [3.0]])


def ladder(expiry=0.15, fade=0.1, stop=0.5, observed: float | None = 0.0):
    made = Ladder(Patience(expiry, fade, stop), ROW, began=0.0)
    if observed is not None:
        made.take(lambda: PLAN, observed)
        made.sent(PLAN[0], np.array([-1.0]), observed)
    return made


@pytest.mark.parametrize(("now", "row"), [(0.0, 0), (0.049, 0), (0.05, 1), (0.0999, 1), (0.1, 2), (0.15, 3)])
def test_a_row_is_for_its_own_time_after_the_observation(now, row):
    rung, command = ladder().late(now, np.zeros(1))
    assert rung == "plan"
    assert command == PLAN[row]


def test_nothing_of_a_plan_is_sent_once_it_has_expired():
    rung, command = ladder(expiry=0.15).late(0.1501, np.zeros(1))
    assert (rung, command) == ("hold", [0.0])


def test_nothing_is_sent_beyond_a_plans_rows():
    assert ladder(expiry=0.4).late(0.2, np.zeros(1))[0] == "hold"


def test_the_way_to_hold_is_a_straight_line_from_what_was_sent_last():
    made = ladder(expiry=0.05)
    made.take(lambda: PLAN, 0.9)
    made.sent(np.array([7.0]), np.array([3.0]), 1.0)  # 4 more than rest
    sent = [made.late(1.0 + t, np.array([rest]))[1] for t, rest in ((0.025, 3.0), (0.05, 5.0), (0.075, 5.0))]
    np.testing.assert_allclose(np.concatenate([c for c in sent if c is not None]), [3.0 + 3.0, 5.0 + 2.0, 5.0 + 1.0])


def test_at_rest_the_same_command_is_sent_again_wherever_the_robot_sags_to():
    made = ladder(expiry=0.05, fade=0.1)
    assert made.late(0.1, np.array([5.0])) == ("hold", [5.0])
    assert made.late(0.2, np.array([4.0])) == ("hold", [5.0])


def test_without_a_fade_hold_comes_at_once():
    assert ladder(expiry=0.05, fade=0.0).late(0.06, np.array([5.0])) == ("hold", [5.0])


def test_before_anything_was_sent_the_robot_stands():
    assert ladder(observed=None).late(0.3, np.zeros(1)) == ("standing", None)


def test_stop_comes_after_its_time_and_is_latched():
    made = ladder(stop=0.5)
    assert made.late(0.5, np.zeros(1))[0] == "hold"
    assert made.late(0.501, np.zeros(1)) == ("stop", None)
    made.take(lambda: PLAN, 0.501)
    assert made.late(0.502, np.zeros(1)) == ("stop", None)


def test_a_robot_that_never_got_a_decision_is_stopped_too():
    assert ladder(observed=None).late(0.51, np.zeros(1)) == ("stop", None)


def test_a_new_plan_leads_back_up_and_an_older_one_does_not():
    made = ladder()
    assert made.late(0.2, np.zeros(1))[0] == "hold"
    made.take(lambda: 10 + PLAN, 0.15)
    assert made.late(0.2, np.zeros(1)) == ("plan", [11.0])
    made.take(lambda: PLAN, 0.1)
    assert made.late(0.2, np.zeros(1)) == ("plan", [11.0])


def test_rows_are_made_once_and_only_when_needed():
    made, calls = ladder(observed=None), []

    def rows():
        calls.append(1)
        return PLAN

    made.take(rows, 0.0)
    assert calls == []
    made.late(0.01, np.zeros(1))
    made.late(0.06, np.zeros(1))
    assert calls == [1]


def test_plans_without_rows_that_are_commands_and_rest_unknown():
    made = ladder()
    made.take(lambda: None, 0.01)
    assert made.late(0.02, np.zeros(1))[0] == "hold"
    assert made.late(0.02, None) == ("hold", None)


@pytest.mark.parametrize("numbers", [(0.0, 0.1, 0.5), (0.6, 0.1, 0.5), (0.1, -0.1, 0.5), (0.1, 0.1, np.inf)])
def test_patience_that_makes_no_sense_is_refused(numbers):
    with pytest.raises(ValueError, match="expected"):
        Patience(*numbers)


@pytest.mark.parametrize(
    ("period", "given", "expected"),
    [
        (0.01, {}, (0.1, 0.1, 0.5)),
        (0.05, {}, (0.125, 0.1, 0.5)),  # the rows of two late ticks, and what they may be late themselves
        (0.2, {}, (0.5, 0.4, 1.0)),
        (0.2, {"expiry": 0.3, "fade": 0.0}, (0.3, 0.0, 1.0)),
        (0.01, {"expiry": 2.0}, (2.0, 0.1, 2.0)),
        (0.01, {"stop": 0.2}, (0.1, 0.1, 0.2)),
    ],
)
def test_patience_suits_the_period_where_nothing_is_said(period, given, expected):
    made = Patience.at(period, **given)
    assert (made.expiry, made.fade, made.stop) == pytest.approx(expected)
