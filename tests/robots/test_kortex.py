"""The Kortex driver goes to its target and stands there. Kinova's library is not here: a stand-in has its names."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import kortex
import watchdog
from onestride.robot.binding import Binding, BoundRobot, Link
from onestride.robot.fields import columns_of
from onestride.tasks.kinova.control_spec import control_spec

AXES = "xyz"


class Arm:
    """Moves by the last twist, ``period`` at a time: as much of both clients as the driver uses."""

    def __init__(self):
        self.at, self.velocity, self.twists, self.modes = dict.fromkeys(AXES, 0.3), dict.fromkeys(AXES, 0.0), [], []
        self.banks = 0, 0

    def SetServoingMode(self, mode):  # noqa: N802
        self.modes.append(mode.servoing_mode)

    def SendTwistCommand(self, command):  # noqa: N802
        self.twists.append(command)
        self.velocity = {axis: getattr(command.twist, f"linear_{axis}") for axis in AXES}

    def Stop(self):  # noqa: N802
        self.velocity = dict.fromkeys(AXES, 0.0)

    def RefreshFeedback(self):  # noqa: N802
        at = {f"tool_pose_{axis}": value for axis, value in self.at.items()}
        moving = {f"tool_twist_linear_{axis}": value for axis, value in self.velocity.items()}
        banks = dict(zip(("fault_bank_a", "fault_bank_b"), self.banks, strict=True))
        return SimpleNamespace(base=SimpleNamespace(**at, **moving, **banks))

    def move(self, seconds):
        for axis in AXES:
            self.at[axis] += seconds * self.velocity[axis]


@pytest.fixture
def arm(monkeypatch):
    library = {name: ModuleType(name) for name in ("kortex_api", "kortex_api.autogen", "kortex_api.autogen.messages")}
    library["kortex_api.autogen.messages"].Base_pb2 = SimpleNamespace(
        ServoingModeInformation=SimpleNamespace, SINGLE_LEVEL_SERVOING=2, CARTESIAN_REFERENCE_FRAME_BASE=3,
        TwistCommand=lambda: SimpleNamespace(twist=SimpleNamespace()),
    )  # fmt: skip
    for name, module in library.items():
        monkeypatch.setitem(sys.modules, name, module)
    return Arm()


def test_it_goes_to_its_target_no_faster_than_told_and_stands_there_though_twists_never_expire(arm):
    driver = kortex.KortexArm(arm, arm, speed=0.05)
    assert arm.modes == [2]
    target = {"base/tool.x": 0.34, "base/tool.y": 0.27, "base/tool.z": 0.3}
    driver.write(target)
    for _ in range(80):
        driver.follow()
        assert sum(v * v for v in arm.velocity.values()) <= 0.05**2 * (1 + 1e-9)
        arm.move(driver.period)
    assert driver.read()[0] == pytest.approx(
        target | {"base/tool.vx": 0.0, "base/tool.vy": 0.0, "base/tool.vz": 0.0}, abs=1e-4
    )
    assert {twist.reference_frame for twist in arm.twists} == {3}
    assert {getattr(twist.twist, f"angular_{axis}") for twist in arm.twists for axis in AXES} == {0.0}
    assert arm.twists[0].twist.linear_x == pytest.approx(0.04)  # 0.04 and -0.03 of 0.05 m/s
    assert arm.twists[0].twist.linear_y == pytest.approx(-0.03)


def test_the_arms_faults_are_faults(arm):
    driver = kortex.KortexArm(arm, arm, speed=0.05)
    driver.read()
    assert driver.fault() is None
    arm.banks = 0, 16
    driver.read()
    assert driver.fault() == "the arm reports faults (banks A and B): 0x0, 0x10"


def test_the_watchdog_has_it_follow_and_stops_it(arm):
    driver = kortex.KortexArm(arm, arm, speed=0.05)
    watch = watchdog.Watchdog(driver, timeout=0.2)
    assert watch.wait() is None  # nothing is due before the first command
    watch.command({"write": {f"base/tool.{axis}": 0.4 for axis in AXES}, "number": 1})
    while watch.reason is None:
        threading.Event().wait(watch.wait())
        watch.check()
    assert len(arm.twists) > 1
    assert set(arm.velocity.values()) == {0.0}
    assert watch.reason == "the watchdog stopped it: no command for 0.2 s"


def test_the_arm_task_is_bound_to_it_by_name(arm):
    spec, driver = control_spec(), kortex.KortexArm(arm, arm, speed=0.05)
    columns = columns_of(spec)
    links = [Link(f"position[{i}]", f"base/tool.{axis}") for i, axis in enumerate(AXES)]
    links += [Link(f"velocity[{i}]", f"base/tool.v{axis}") for i, axis in enumerate(AXES)]
    scene = {column.name: 0.0 for column in columns[6:]} | {"goal[0]": 0.5, "goal[1]": 0.1, "goal[2]": 0.2}
    observes = Binding(columns, driver.observation, links, given=scene)
    commands = Binding(columns[:3], driver.command, links[:3])
    robot = BoundRobot(driver, observes, commands, given=lambda: scene)
    seen = robot.read().values
    spec.validate_observation(seen)
    assert seen[:9].tolist() == [0.3, 0.3, 0.3, 0.0, 0.0, 0.0, 0.5, 0.1, 0.2]
    robot.write(seen[:3] + np.array([0.01, 0.0, 0.0]))
    driver.follow()
    assert arm.twists[-1].twist.linear_x > 0
    assert arm.twists[-1].twist.linear_y == 0
