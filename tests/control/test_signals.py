"""A signal that ends the process: the robot is stopped first, whatever else comes meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading, time
import numpy as np
from onestride.robot.clock import RealClock
from onestride.robot.decision import Decision
from onestride.control.loop import run_episode
from onestride.tasks import CONTROL_SPECS

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests may ignore some: `nohup` does
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
first, more = int(sys.argv[1]), [int(x) for x in sys.argv[2:]]


class Robot:
    def read(self):
        return np.zeros(17)

    def write(self, command):
        pass

    def fault(self):
        return None

    def stop(self):
        print("stop begins", flush=True)
        for number in more:
            os.kill(os.getpid(), number)
            time.sleep(0.02)
        print("stopped", flush=True)


class Decider:
    count = 0

    def decide(self, observation):
        self.count += 1
        if self.count == 5 and first:
            os.kill(os.getpid(), first)
        return Decision(np.zeros(6), np.zeros((4, 23)), np.zeros((1, 4, 23)), np.zeros(1), {})


log = run_episode(Robot(), RealClock(), Decider(), CONTROL_SPECS["halfcheetah-v5"](), timeout=0.5)
print(log.outcome, flush=True)
"""


def ended(first, *more):
    command = [sys.executable, "-c", PROGRAM, str(int(first)), *(str(int(n)) for n in more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_robot_is_stopped_first(number):
    code, said = ended(number)
    assert said == ["stop begins", "stopped"]
    assert code == (-number if number == signal.SIGINT else 128 + number)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_stopping_is_not_interrupted():
    assert ended(signal.SIGINT, signal.SIGINT, signal.SIGTERM)[1] == ["stop begins", "stopped"]
    code, said = ended(0, signal.SIGTERM)  # the episode's time was over already
    assert (code, said) == (128 + signal.SIGTERM, ["stop begins", "stopped"])
    assert ended(0) == (0, ["stop begins", "stopped", "timeout"])
    code, said = ended(signal.SIGINT, *[signal.SIGINT] * 3)  # who insists
    assert said == ["stop begins"]
    assert code == -signal.SIGINT
