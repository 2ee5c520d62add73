"""A link that is wrong is bound without complaint, and the doctor names its column from a minute of readings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onestride.doctor.diagnose import diagnose
from onestride.doctor.log import record
from onestride.doctor.reference import Reference
from onestride.robot.binding import Binding, BoundRobot, Link
from onestride.robot.clock import ChargedClock
from onestride.robot.fields import columns_of
from onestride.tasks.kinova import demonstrations
from onestride.tasks.kinova.control_spec import control_spec

EPISODES = 33  # about a minute
SPEC = control_spec()
COLUMNS = columns_of(SPEC)
UNITS = {f"base/{column.name}": column.unit or "1" for column in COLUMNS}


class Replay:
    """A driver that shows what was demonstrated, in the robot's own names."""

    def __init__(self, rows, clock):
        self.observation, self.command = UNITS, {f"base/position[{i}]": "m" for i in range(3)}
        self.rows, self.clock = iter(rows), clock

    def read(self):
        return dict(zip(UNITS, next(self.rows).tolist(), strict=True)), self.clock.now()

    def write(self, command):
        raise AssertionError("nothing moves before the doctor is silent")

    stop = write

    def fault(self):
        return None


def found(episodes, reference, *wrong: Link) -> set:
    """What the doctor finds in what was read through these links, a minute of episodes that are marked."""
    rows, marks = np.concatenate(episodes), np.repeat(np.arange(len(episodes)), [len(e) for e in episodes])
    links = {column.name: Link(column.name, f"base/{column.name}", unit=column.unit or "1") for column in COLUMNS}
    commands = Binding(COLUMNS[:3], {f"base/position[{i}]": "m" for i in range(3)}, list(links.values())[:3])
    links |= {link.column: link for link in wrong}
    clock = ChargedClock()
    robot = BoundRobot(Replay(rows, clock), Binding(COLUMNS, UNITS, links.values()), commands)
    log = record(robot, clock, SPEC, seconds=len(rows) * SPEC.control_dt)
    log = replace(log, episodes=marks)
    return {(each.kind, each.columns) for each in diagnose(log, reference, SPEC, blind=False).findings}


@pytest.mark.slow
def test_a_wrong_sign_and_swapped_names_are_found_before_anything_moves():
    episodes = [episode.observations.astype(np.float64) for episode in demonstrations.chunk(5, 0)[0]]
    half = len(episodes) // 2
    reference, shown = Reference.of(SPEC, episodes[:half]), episodes[half : half + EPISODES]
    assert not found(shown, reference)
    x, y = ("base/position[0]", "base/position[1]")
    assert ("negated", ("position[1]",)) in found(shown, reference, Link("position[1]", y, sign=-1))
    swapped = found(shown, reference, Link("position[0]", y), Link("position[1]", x))
    assert ("swapped", ("position[0]", "position[1]")) in swapped
