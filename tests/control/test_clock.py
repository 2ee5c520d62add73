"""Clocks: absolute, monotonic, and honest about what a computation costs."""

import time

import pytest

from onestride.robot.clock import ChargedClock, RealClock


def test_charged_time_passes_only_by_waiting_and_by_charging():
    clock = ChargedClock()
    time.sleep(0.01)
    assert clock.now() == 0.0
    clock.sleep_until(1.0)
    clock.charge(0.25)
    assert clock.now() == 1.25


def test_charged_time_never_goes_back():
    clock = ChargedClock()
    clock.sleep_until(2.0)
    clock.sleep_until(1.0)
    assert clock.now() == 2.0
    with pytest.raises(ValueError, match="cannot cost"):
        clock.charge(-0.1)


def test_real_clock_wakes_after_the_deadline_never_before():
    clock = RealClock()
    for wait in (0.0, 0.003, 0.02):
        deadline = clock.now() + wait
        clock.sleep_until(deadline)
        assert clock.now() >= deadline


def test_real_clock_returns_at_once_when_late_and_ignores_charges():
    clock = RealClock()
    before = clock.now()
    clock.sleep_until(before - 10.0)
    clock.charge(1e6)
    assert clock.now() - before < 1e3
