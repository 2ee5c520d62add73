"""A robot that goes on with its last velocity until it is told otherwise, in a process of its own: what it was told
stands in a file. ``python fake_robot.py --log FILE ...`` is started by ``RobotProcess``."""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "robots"))
import watchdog


class Slider:
    """Two axes that move at the speeds that they were told last [mm/s]. ``stop`` fails ``stubborn`` times."""

    def __init__(self, log, stubborn=0):
        self.observation = {"left.pos": "mm", "right.pos": "mm"}
        self.command = {"right.vel": "mm/s", "left.vel": "mm/s"}
        self.log, self.stubborn = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stubborn
        self.at, self.speed, self.since = [0.0, 0.0], [0.0, 0.0], time.perf_counter()
        self.note(f"pid {os.getpid()}")

    def note(self, text):
        os.write(self.log, f"{text}\n".encode())

    def read(self):
        now = time.perf_counter()
        at = [x + v * (now - self.since) for x, v in zip(self.at, self.speed, strict=True)]
        return {"right.pos": at[1], "left.pos": at[0]}, now

    def move(self, speed):
        seen, self.since = self.read()
        self.at, self.speed = [seen["left.pos"], seen["right.pos"]], speed

    def write(self, command):
        if command["left.vel"] == 666:
            raise OSError("the bus is gone")
        if command["left.vel"] == 99:
            time.sleep(60)
        self.move([command["left.vel"], command["right.vel"]])
        self.note(f"write {command['left.vel']:g}")

    def stop(self):
        self.stubborn -= 1
        if self.stubborn >= 0:
            self.note("stop failed")
            raise OSError("the bus is busy")
        self.move([0.0, 0.0])
        self.note("stop")

    def fault(self):
        return "the left axis is hot" if self.at[0] > 1e3 else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--stubborn", type=int, default=0)
    parser.add_argument("--broken", action="store_true")

    def make(arguments):
        if arguments.broken:
            sys.exit("no robot on this port")
        return Slider(arguments.log, arguments.stubborn)

    watchdog.main(make, parser)
