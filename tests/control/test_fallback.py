"""The late-command fallback in closed form."""

import numpy as np
import pytest

from onestride.control.fallback import Fallback, FallbackTimeouts

ROW = 0.05  # [s] between a plan's rows
PLAN = np.array([[0.0], [1.0], [2.0], [3.0]])


def followed(until: float, **settings):
    """One whose plan has been followed without a gap."""
    made = fallback(**settings)
    for k in range(1, round(until / ROW + 0.499999)):
        made.mark_sent(PLAN[0], np.array([-1.0]), k * ROW)
    return made


def always(command):
    return True


def fallback(max_observation_age=0.15, deceleration_time=0.1, stop=0.5, observed: float | None = 0.0, positions=True):
    made = Fallback(FallbackTimeouts(max_observation_age, deceleration_time, stop), ROW, began=0.0, positions=positions)
    if observed is not None:
        made.take(lambda: PLAN, observed)
        made.mark_sent(PLAN[0], np.array([-1.0]), observed)
    return made


@pytest.mark.parametrize(("now", "row"), [(0.0, 0), (0.04, 0.8), (0.05, 1), (0.0625, 1.25), (0.1, 2), (0.15, 3)])
def test_a_row_is_for_its_own_time_after_the_observation(now, row):
    """Between two rows, what is sent until the next tick is as much of each as it has time of."""
    level, command = followed(now).late(now, np.zeros(1), always)
    assert level == "plan"
    assert command == pytest.approx(row)  # PLAN counts its rows


@pytest.mark.parametrize(("now", "row"), [(0.0, 0), (0.049, 0), (0.05, 1), (0.0999, 1), (0.1, 2), (0.15, 3)])
def test_a_row_that_is_no_position_is_for_its_whole_period_whatever_was_sent(now, row):
    assert fallback(positions=False).late(now, np.zeros(1), always) == ("plan", [PLAN[row, 0]])


def test_a_robot_that_got_nothing_goes_on_where_it_is():
    """A command moves it for one row: from 50 ms on it has waited."""
    for now in (0.05, 0.1, 0.15):
        assert fallback().late(now, np.zeros(1), always) == ("plan", [1.0])


def test_one_that_was_never_sent_anything_begins_with_the_first_row():
    made = Fallback(FallbackTimeouts(0.15, 0.1, 0.5), ROW, began=0.0, positions=True)
    made.take(lambda: PLAN, 0.0)
    assert made.late(0.14, np.zeros(1), always) == ("plan", [0.0])


@pytest.mark.parametrize(
    ("observed", "now", "rows"), [(0.0, 0.02, 0.4), (0.02, 0.12, 1.8), (0.06, 0.4, 1.6), (0.2, 0.3, 0.0)]
)
def test_what_of_a_plan_was_followed_is_counted_while_commands_move_the_robot(observed, now, rows):
    made = fallback(observed=None)
    made.mark_sent(PLAN[0], None, 0.0)
    made.mark_sent(PLAN[0], None, 0.04)
    made.mark_sent(PLAN[0], None, 0.1)
    assert made.rows_since(observed, now) == pytest.approx(rows)


def test_beyond_the_last_row_that_row_is_meant():
    assert followed(0.18, max_observation_age=0.4).late(0.18, np.zeros(1), always) == ("plan", [3.0])


def test_where_its_plan_may_not_be_followed_the_robot_slows_down():
    made = fallback()
    made.mark_sent(np.array([7.0]), np.array([3.0]), 0.1)
    assert made.late(0.125, np.array([3.0]), lambda command: False) == ("hold", [3.0 + 0.75 * 4.0])


def test_what_is_no_number_is_not_followed():
    made, plan = fallback(), PLAN.copy()
    plan[2] = np.nan
    made.take(lambda: plan, 0.0)
    made.mark_sent(PLAN[0], np.zeros(1), 0.05)
    assert made.late(0.06, np.zeros(1), lambda command: bool(np.isfinite(command).all()))[0] == "hold"
    assert made.late(0.05, np.zeros(1), lambda command: bool(np.isfinite(command).all())) == ("plan", [1.0])


def test_nothing_of_a_plan_is_sent_once_it_has_expired():
    level, command = fallback(max_observation_age=0.15).late(0.1501, np.zeros(1), always)
    assert (level, command) == ("hold", [0.0])


def test_nothing_is_sent_beyond_a_plans_rows():
    assert followed(0.2, max_observation_age=0.4).late(0.2, np.zeros(1), always)[0] == "hold"


def test_the_way_to_hold_is_a_straight_line_from_what_was_sent_last():
    made = fallback(max_observation_age=0.05)
    made.take(lambda: PLAN, 0.9)
    made.mark_sent(np.array([7.0]), np.array([3.0]), 1.0)  # 4 more than rest
    sent = [made.late(1.0 + t, np.array([rest]), always)[1] for t, rest in ((0.025, 3.0), (0.05, 5.0), (0.075, 5.0))]
    np.testing.assert_allclose(np.concatenate([c for c in sent if c is not None]), [3.0 + 3.0, 5.0 + 2.0, 5.0 + 1.0])


def test_at_rest_the_same_command_is_sent_again_wherever_the_robot_sags_to():
    made = fallback(max_observation_age=0.05, deceleration_time=0.1)
    assert made.late(0.1, np.array([5.0]), always) == ("hold", [5.0])
    assert made.late(0.2, np.array([4.0]), always) == ("hold", [5.0])


def test_without_deceleration_hold_comes_at_once():
    assert fallback(max_observation_age=0.05, deceleration_time=0.0).late(0.06, np.array([5.0]), always) == (
        "hold",
        [5.0],
    )


def test_before_anything_was_sent_the_robot_stands():
    assert fallback(observed=None).late(0.3, np.zeros(1), always) == ("standing", None)


def test_stop_comes_after_its_time_and_is_latched():
    made = fallback(stop=0.5)
    assert made.late(0.5, np.zeros(1), always)[0] == "hold"
    assert made.late(0.501, np.zeros(1), always) == ("stop", None)
    made.take(lambda: PLAN, 0.501)
    assert made.late(0.502, np.zeros(1), always) == ("stop", None)


def test_a_robot_that_never_got_a_decision_is_stopped_too():
    assert fallback(observed=None).late(0.51, np.zeros(1), always) == ("stop", None)


def test_a_new_plan_leads_back_up_and_an_older_one_does_not():
    made = fallback()
    assert made.late(0.2, np.zeros(1), always)[0] == "hold"
    made.take(lambda: 10 + PLAN, 0.15)
    assert made.late(0.2, np.zeros(1), always) == ("plan", [10.0])
    made.take(lambda: PLAN, 0.1)
    assert made.late(0.2, np.zeros(1), always) == ("plan", [10.0])


def test_rows_are_made_once_and_only_when_needed():
    made, calls = fallback(observed=None), []

    def rows():
        calls.append(1)
        return PLAN

    made.take(rows, 0.0)
    assert calls == []
    made.late(0.01, np.zeros(1), always)
    made.late(0.06, np.zeros(1), always)
    assert calls == [1]


def test_plans_without_rows_that_are_commands_and_rest_unknown():
    made = fallback()
    made.take(lambda: None, 0.01)
    assert made.late(0.02, np.zeros(1), always)[0] == "hold"
    assert made.late(0.02, None, always) == ("hold", None)


@pytest.mark.parametrize("numbers", [(0.0, 0.1, 0.5), (0.6, 0.1, 0.5), (0.1, -0.1, 0.5), (0.1, 0.1, np.inf)])
def test_timeouts_that_make_no_sense_is_refused(numbers):
    with pytest.raises(ValueError, match="expected"):
        FallbackTimeouts(*numbers)


@pytest.mark.parametrize(
    ("period", "given", "expected"),
    [
        (0.01, {}, (0.1, 0.1, 0.5)),
        (
            0.05,
            {},
            (0.175, 0.1, 0.5),
        ),  # of the tick before, through two late ones, and what they may be late themselves
        (0.2, {}, (0.7, 0.4, 1.0)),
        (0.2, {"max_observation_age": 0.3, "deceleration_time": 0.0}, (0.3, 0.0, 1.0)),
        (0.01, {"max_observation_age": 2.0}, (2.0, 0.1, 2.0)),
        (0.01, {"stop": 0.2}, (0.1, 0.1, 0.2)),
    ],
)
def test_timeouts_suit_the_period_where_nothing_is_said(period, given, expected):
    made = FallbackTimeouts.at(period, **given)
    assert (made.max_observation_age, made.deceleration_time, made.stop) == pytest.approx(expected)
