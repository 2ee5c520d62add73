"""The SO-100's driver: against a stub of LeRobot's arm here, and against LeRobot itself where it is installed."""

from __future__ import annotations

import inspect
import json
import math
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import so100
from feetech_servos import GOAL, PRESENT, STATUS, TORQUE, Servos
from onestride.robot.binding import Binding, BoundRobot
from onestride.robot.fields import Column
from robot_process import RobotProcess

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
EXAMPLES = Path(so100.__file__).parent
#: The driver, which waits longer for an answer than LeRobot does: simulated servos share a busy machine.
PATIENT = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import lerobot.motors.feetech.feetech as feetech, so100, watchdog

def set_timeout(self, length):
    self.packet_start_time, self.packet_timeout = self.getCurrentTime(), 5000.0

feetech.patch_setPacketTimeout = set_timeout
watchdog.main(so100.connect, so100.PARSER)
"""
needs_lerobot = pytest.mark.skipif(
    find_spec("lerobot") is None or find_spec("scservo_sdk") is None,
    reason="LeRobot with its Feetech extra is not installed here; `make test-lerobot` has it",
)


class StubBus:
    """As much of LeRobot's bus as the driver uses."""

    def __init__(self):
        modes = ["DEGREES"] * 5 + ["RANGE_0_100"]
        self.motors = {
            n: SimpleNamespace(norm_mode=SimpleNamespace(name=m)) for n, m in zip(JOINTS, modes, strict=True)
        }
        self.present, self.goal = dict.fromkeys(JOINTS, 10.0), {}
        self.status = dict.fromkeys(JOINTS, 0)

    def sync_read(self, data_name, motors=None, *, normalize=True, num_retry=0):
        return dict({"Present_Position": self.present, "Status": self.status}[data_name])

    def sync_write(self, data_name, values, *, normalize=True, num_retry=0):
        assert data_name == "Goal_Position"
        self.goal = dict(values)


class StubArm:
    """As much of LeRobot's arm as the driver uses."""

    def __init__(self):
        self.bus = StubBus()

    def get_observation(self):
        return {f"{name}.pos": value for name, value in self.bus.present.items()}

    def send_action(self, action):
        self.bus.goal = {name.removesuffix(".pos"): value for name, value in action.items()}
        return action


def test_it_reads_and_tells_joints_by_name_and_a_stop_holds_them_where_they_are():
    arm = StubArm()
    driver = so100.SO100(arm)
    assert (
        driver.observation
        == driver.command
        == dict.fromkeys([f"{n}.pos" for n in JOINTS[:5]], "deg") | {"gripper.pos": "%"}
    )
    before = time.perf_counter()
    values, sampled = driver.read()
    assert values == {f"{name}.pos": 10.0 for name in JOINTS}
    assert before <= sampled <= time.perf_counter()
    driver.write(values | {"elbow_flex.pos": 14.0})
    assert arm.bus.goal == dict.fromkeys(JOINTS, 10.0) | {"elbow_flex": 14.0}
    arm.bus.present["elbow_flex"] = 12.0
    driver.stop()
    assert arm.bus.goal == arm.bus.present
    held = dict(arm.bus.present)
    arm.bus.present["elbow_flex"] = 11.0  # it sags
    driver.stop()
    assert arm.bus.goal == held  # and a second stop does not follow


def test_what_servos_report_is_a_fault_but_for_a_gripper_that_squeezes():
    arm = StubArm()
    driver = so100.SO100(arm)
    assert driver.fault() is None
    arm.bus.status["gripper"] = so100.OVERLOAD
    assert driver.fault() is None
    arm.bus.status |= {"gripper": so100.OVERLOAD | 4, "elbow_flex": so100.OVERLOAD}
    assert driver.fault() == "servos report errors (register Status): elbow_flex 0b00100000, gripper 0b00000100"


def test_a_policy_in_radians_drives_it_by_name_in_any_order():
    arm = StubArm()
    driver = so100.SO100(arm)
    columns = [Column(f"{name}.pos", "1" if name == "gripper" else "rad") for name in reversed(JOINTS)]
    robot = BoundRobot(driver, Binding(columns, driver.observation), Binding(columns, driver.command))
    seen = robot.read().values
    assert seen == pytest.approx([0.1, *[math.radians(10)] * 5])
    robot.write(seen)
    assert arm.bus.goal == pytest.approx(arm.bus.present)


# ---------------------------------------------------------------- LeRobot itself


@pytest.mark.slow
@needs_lerobot
def test_the_stub_has_lerobots_names():
    from lerobot.motors import MotorNormMode
    from lerobot.motors.feetech import FeetechMotorsBus
    from lerobot.motors.feetech.tables import MODEL_CONTROL_TABLE
    from lerobot.robots.so_follower import SOFollower

    for stub, real in ((StubBus, FeetechMotorsBus), (StubArm, SOFollower)):
        for name, function in inspect.getmembers(stub, inspect.isfunction):
            if not name.startswith("_"):
                assert list(inspect.signature(function).parameters) == list(
                    inspect.signature(getattr(real, name)).parameters
                )
    assert {mode.name for mode in MotorNormMode} == set(so100.UNITS)
    assert {"Status", "Present_Position", "Goal_Position"} <= MODEL_CONTROL_TABLE["sts3215"].keys()


@pytest.fixture
def servos(tmp_path):
    """An arm's servos, and the calibration that LeRobot wrote for them."""
    low, high = 1000, 3000
    calibration = {
        name: {"id": i, "drive_mode": 0, "homing_offset": 30 * (-1) ** i, "range_min": low, "range_max": high}
        for i, name in enumerate(JOINTS, 1)
    }
    (tmp_path / "my_arm.json").write_text(json.dumps(calibration))
    return Servos(calibration, {name: 1800 + 50 * i for i, name in enumerate(JOINTS)})


def degrees(steps: int) -> float:
    return (steps - 2000) * 360 / 4095


def started(servos, folder: Path, *more: str, watchdog: float = 30.0) -> RobotProcess:
    program = [sys.executable, "-c", PATIENT, "--port", servos.port, "--id", "my_arm"]
    return RobotProcess([*program, "--calibration-dir", str(folder), *more], watchdog=watchdog)


@pytest.mark.slow
@needs_lerobot
def test_through_lerobot_the_servos_are_read_and_told_and_hold_when_the_program_is_gone(servos, tmp_path):
    with started(servos, tmp_path, "--max-step", "60") as arm:
        values, _ = arm.read()
        wanted = {f"{n}.pos": degrees(1800 + 50 * i) for i, n in enumerate(JOINTS)} | {"gripper.pos": 52.5}
        assert values == pytest.approx(wanted, abs=0.1)
        assert arm.fault() is None
        assert all(servos.get(name, TORQUE) & 0xFF == 1 for name in JOINTS)
        arm.write(values | {"shoulder_lift.pos": values["shoulder_lift.pos"] + 40.0})
        while servos.get("shoulder_lift", GOAL) == 1850:
            time.sleep(0.005)
        assert degrees(servos.get("shoulder_lift", GOAL)) == pytest.approx(values["shoulder_lift.pos"] + 40.0, abs=0.1)
        assert servos.get("wrist_roll", GOAL) == pytest.approx(2000, abs=1)
        servos.registers[3][STATUS] = 4
        assert arm.fault() == "servos report errors (register Status): elbow_flex 0b00000100"
        servos.registers[3][STATUS] = 0
    held = servos.get("shoulder_lift", GOAL)  # the driver has ended
    assert 1850 < held <= servos.get("shoulder_lift", PRESENT) + 1
    assert all(servos.get(name, TORQUE) & 0xFF == 1 for name in JOINTS)  # it does not fall


@pytest.mark.slow
@needs_lerobot
def test_through_lerobot_the_watchdog_stops_it_and_far_commands_are_clipped(servos, tmp_path):
    with started(servos, tmp_path, watchdog=0.1) as arm:
        values, _ = arm.read()
        arm.write(values | {"shoulder_lift.pos": values["shoulder_lift.pos"] + 90.0})
        end = time.monotonic() + 20
        while arm.fault() is None:
            assert time.monotonic() < end
        assert arm.fault() == "the watchdog stopped it: no command for 0.1 s"
        assert servos.get("shoulder_lift", PRESENT) - 1850 <= 5 * 4095 / 360 + 1


@pytest.mark.slow
@needs_lerobot
def test_an_arm_that_was_calibrated_otherwise_is_not_driven(servos, tmp_path, capfd):
    servos.put("elbow_flex", 9, 900)
    with pytest.raises(ConnectionError, match="did not connect"):
        started(servos, tmp_path)
    assert "the servos were calibrated otherwise than" in capfd.readouterr().err
    (tmp_path / "my_arm.json").unlink()
    with pytest.raises(ConnectionError, match="did not connect"):
        started(servos, tmp_path)
    assert "there is no calibration" in capfd.readouterr().err
