"""A program that drives the fake robot for ever: ``python control_program.py LOG WATCHDOG [fork]``."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "robots"))
from robot_process import RobotProcess


def say(what):
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    arm = RobotProcess(
        [sys.executable, str(Path(__file__).with_name("fake_robot.py")), "--log", sys.argv[1]],
        watchdog=float(sys.argv[2]),
    )
    if sys.argv[3:] == ["fork"] and os.fork() == 0:  # it holds the sockets too, and does nothing
        say(os.getpid())
        time.sleep(120)
        os._exit(0)
    for n in range(10_000):
        arm.write({"left.vel": 5.0, "right.vel": 0.0})
        time.sleep(0.02)
        if n == 10:
            say("driving")
