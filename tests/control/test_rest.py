"""What cannot be acted on: nothing is sent, but to a robot that can be brought to rest whatever is observed."""

from itertools import repeat

import numpy as np

from late_robot import DT, TIMEOUTS, drive

#: A robot of which nobody knows how to bring it to rest without seeing it.
NO_REST = {"rest": None, "hold_command": lambda _observation: np.zeros(6)}


def test_observations_that_are_not_numbers_send_nothing_and_are_counted():
    log, robot = drive(repeat(0.002), broken=lambda t: 0.2995 < t < 0.3495, **NO_REST)
    assert sum(log.refused.values()) == 5
    assert all(reason.startswith("observation refused") for reason in log.refused)
    assert log.overruns == 0
    assert log.executed == 95
    assert not log.late  # shortly before the end of a period they were no better
    assert [t for t, _ in robot.sent if 0.2995 < t < 0.3495] == []


def test_observations_that_stay_broken_stop_the_robot():
    log, robot = drive(repeat(0.002), broken=lambda t: t > 0.2995, **NO_REST)
    assert log.outcome.startswith("stopped: no decision for 0.305 s (observation refused: observation[0] is nan")
    assert max(t for t, _ in robot.sent) < 0.3


def test_a_robot_that_can_be_brought_to_rest_unseen_is_braked_at_once():
    broken, rest = (lambda t: 0.2995 < t < 0.3495), np.full(6, 0.05)
    log, robot = drive(repeat(0.002), broken=broken, rest=rest)
    assert (sum(log.refused.values()), log.executed, log.late, log.overruns) == (5, 95, {"hold": 5}, 0)
    sent = np.array([command[0] for t, command in robot.sent if broken(t)])
    passed = np.arange(5) * DT + 0.309 - 0.292  # each 1 ms before its period ends, since the last command, 0.29
    left = (1 - passed / TIMEOUTS.deceleration_time).clip(0)
    np.testing.assert_allclose(sent, 0.05 + (0.29 - 0.05) * left, atol=1e-6)


def test_it_stays_at_rest_until_the_stop():
    log, robot = drive(repeat(0.002), broken=lambda t: t > 0.2995)
    assert log.outcome.startswith("stopped: no decision for 0.305 s (observation refused: observation[0] is nan")
    assert log.late["hold"] == log.filled > 25
    assert not any(command.any() for t, command in robot.sent if t > 0.36)
    assert log.starved == 1  # the tick that stops it
