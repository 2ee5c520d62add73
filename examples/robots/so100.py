"""SO-100 and SO-101 arms over LeRobot's own motors bus (LeRobot 0.6), in a process of its own.

    pip install "lerobot[feetech]"          # Python 3.12, in an environment of its own
    lerobot-calibrate --robot.type=so101_follower --robot.port=/dev/ttyACM0 --robot.id=my_arm

``RobotProcess([THAT_PYTHON, "so100.py", "--port", "/dev/ttyACM0", "--id", "my_arm"])`` starts it, see
``robot_process.py``. Its numbers are LeRobot's: ``shoulder_pan.pos`` to ``wrist_roll.pos`` [deg], ``gripper.pos`` [%].

Hold the arm while it connects: LeRobot takes the torque away to write the servos' gains. A stop holds the arm where it
is, with torque, and so does the end of this process: cut the power to let it fall. The servos know no time limit of
their own. If this process is killed, they go to the last position that they were told and stay there.

Tried with LeRobot 0.6.1 and simulated servos on a serial line. Not tried on an arm.
"""

import argparse
import threading
import time
from pathlib import Path

import watchdog

#: LeRobot's ways to count a motor's position, by name -> unit.
UNITS = {"DEGREES": "deg", "RANGE_0_100": "%", "RANGE_M100_100": "%"}
#: A packet in a few hundred is damaged when several joints move.
RETRIES = 3
#: The bit of a servo's status that says that it is overloaded: a gripper is when it squeezes what it holds.
OVERLOAD = 1 << 5


class SO100:
    """A driver of LeRobot's follower arm, which is connected. One bus: reading and writing take turns."""

    def __init__(self, arm):
        self.arm, self._bus, self._hold = arm, threading.Lock(), None
        self.observation = {f"{name}.pos": UNITS[motor.norm_mode.name] for name, motor in arm.bus.motors.items()}
        self.command = dict(self.observation)

    def read(self):
        """Return the joints, and when they were asked for."""
        with self._bus:
            asked = time.perf_counter()
            return self.arm.get_observation(), asked

    def write(self, command):
        """Go to these joints; LeRobot clips what is farther away than ``--max-step``."""
        with self._bus:
            self.arm.send_action(command)

    def stop(self):
        """Hold the joints as they are now."""
        with self._bus:
            if self._hold is None:
                self._hold = self.arm.bus.sync_read("Present_Position", num_retry=RETRIES)
            self.arm.bus.sync_write("Goal_Position", self._hold, num_retry=RETRIES)

    def fault(self):
        """Return what a servo reports: voltage, sensor, temperature, current, overload."""
        with self._bus:
            status = self.arm.bus.sync_read("Status", normalize=False, num_retry=RETRIES)
        bad = {name: bits & ~OVERLOAD if name == "gripper" else bits for name, bits in status.items()}
        told = [f"{name} 0b{bits:08b}" for name, bits in bad.items() if bits]
        return f"servos report errors (register Status): {', '.join(told)}" if told else None


def connect(arguments):
    """Return the driver of a calibrated arm, which holds its position."""
    from lerobot.robots.so_follower import SOFollower, SOFollowerRobotConfig

    arm = SOFollower(
        SOFollowerRobotConfig(
            port=arguments.port,
            id=arguments.id,
            calibration_dir=arguments.calibration_dir,
            disable_torque_on_disconnect=False,  # or it falls when the program ends
            max_relative_target=arguments.max_step,
        )
    )
    if not arm.calibration:
        raise SystemExit(f"there is no calibration {arm.calibration_fpath}: run lerobot-calibrate with --robot.id")
    arm.connect(calibrate=False)  # which would ask at the keyboard
    if not arm.is_calibrated:
        raise SystemExit(f"the servos were calibrated otherwise than {arm.calibration_fpath}: run lerobot-calibrate")
    here = arm.bus.sync_read("Present_Position", num_retry=RETRIES)
    arm.bus.sync_write("Goal_Position", here, num_retry=RETRIES)
    return SO100(arm)


PARSER = argparse.ArgumentParser(description="An SO-100 or SO-101 arm; robot_process.py starts it.")
PARSER.add_argument("--port", required=True, help="such as /dev/ttyACM0 (lerobot-find-port)")
PARSER.add_argument("--id", required=True, help="the name that it was calibrated by")
PARSER.add_argument("--calibration-dir", type=Path, help="where LeRobot's calibration lies; default: LeRobot's")
PARSER.add_argument(
    "--max-step", type=float, default=5.0, help="farthest that a command may be from where a joint is [deg, %%]"
)

if __name__ == "__main__":
    watchdog.main(connect, PARSER)
