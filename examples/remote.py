"""Drive a robot by a policy on another machine: the loop is here, the network's computing there.

    onestride serve runs/demo/dnk-0                  # on the machine that computes
    python examples/remote.py ws://127.0.0.1:8000    # on the robot's

Replace ``SimulatedArm`` by a class with the same four methods that talks to your arm, see ``examples/drive.py``. When
the server is late or gone, the arm gets the rest of the last plan, then slows down and holds, then is stopped: the loop
never waits for the network.
"""

import os
import sys

from onestride.control.async_policy import AsyncPolicy
from onestride.control.loop import run_episode
from onestride.robot.clock import RealClock
from onestride.serving.client import RemotePolicy
from onestride.tasks import TASKS
from onestride.tasks.kinova.simulation import SimulatedArm

if len(sys.argv) != 2:
    sys.exit("usage: python examples/remote.py URL, such as ws://127.0.0.1:8000")
clock = RealClock()
with RemotePolicy(sys.argv[1], api_key=os.environ.get("ONESTRIDE_API_KEY"), timeout=0.1) as policy:
    arm = SimulatedArm(TASKS["kinova"]().scenes(1, 0)[0], clock)
    with AsyncPolicy(policy, clock) as worker:
        worker.warm_up(arm.read())  # before the arm moves: the first requests are slow
        log = run_episode(arm, clock, worker, policy.control, timeout=30.0)
print(f"{log.outcome} after {log.duration:.2f} s, {log.executed} commands, refused: {dict(log.refused)}")
print(f"{log.overruns} decisions late; instead: {dict(log.late)}; too late to be used at all: {log.dropped}")
