"""A dry run decides about the real robot, and tells it nothing."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from dry_run import DryRun
from late_robot import DT, Clock, Stamped
from onestride.control.loop import run_episode
from onestride.tasks import CONTROL_SPECS


class Untouchable:
    """A robot that nothing may be told."""

    def __init__(self, clock):
        self.clock = clock

    def read(self):
        return np.full(17, self.clock.now())

    def write(self, command):
        raise AssertionError("it was told something")

    stop = write

    def fault(self):
        return None


def test_commands_are_logged_with_what_was_seen_and_not_sent(tmp_path):
    clock, spec = Clock({}), replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=DT, frozen_after=float("inf"))
    with DryRun(Untouchable(clock), tmp_path / "commands.csv") as dry:
        log = run_episode(dry, clock, Stamped(), spec, timeout=20 * DT - DT / 2)
    titles, *rows, last = csv.reader((tmp_path / "commands.csv").read_text().splitlines())
    assert titles == ["time", *(f"command[{i}]" for i in range(6)), *(f"observation[{i}]" for i in range(17))]
    assert len(rows) == log.executed == 20
    commanded, seen = np.array([(row[1], row[7]) for row in rows], float).T
    np.testing.assert_allclose(commanded, seen, rtol=1e-6)  # the first command says when it was seen
    assert last == ["stop"]
    with pytest.raises(FileExistsError):
        DryRun(Untouchable(clock), tmp_path / "commands.csv")
