"""Put a trained policy on a robot: implement four methods, choose a clock, run the loop.

    python examples/drive.py runs/demo/dnk-0

Replace ``SimulatedArm`` by a class with the same four methods that talks to your arm: ``read()`` gives the
observation, ``write(command)`` takes a Cartesian position target [m], ``stop()`` stops, ``fault()`` says why the arm
cannot go on. Everything that is not finite, out of limits or stale is refused before ``write`` is called; when a
decision is late, the arm gets the rest of the last plan, then slows down and holds, then is stopped.
"""

import sys

from onestride import Policy
from onestride.control.async_policy import AsyncPolicy
from onestride.control.loop import run_episode
from onestride.errors import report_user_errors
from onestride.robot.clock import RealClock
from onestride.tasks.kinova.simulation import SimulatedArm

if len(sys.argv) != 2:
    sys.exit("usage: python examples/drive.py CHECKPOINT, such as runs/demo/dnk-0")
with report_user_errors():  # a wrong folder is told in one line
    policy = Policy.from_pretrained(sys.argv[1])
scene = policy.task.scenes(1, 0)[0]

clock = RealClock()
with AsyncPolicy(policy, clock) as worker:  # asynchronous inference: the loop goes on when a decision is late
    worker.warm_up(policy.task.first_observation(scene))  # before the arm moves: the first decisions are slow
    arm = SimulatedArm(scene, clock)
    log = run_episode(arm, clock, worker, policy.control, timeout=30.0)

decisions_ms = sorted(1e3 * d for d in log.decisions)
print(f"{log.outcome} after {log.duration:.2f} s, {log.executed} commands, refused: {dict(log.refused)}")
print(f"{log.overruns} decisions late; instead: {dict(log.late)}; too late to be used at all: {log.dropped}")
print(f"decisions: median {decisions_ms[len(decisions_ms) // 2]:.1f} ms, slowest {decisions_ms[-1]:.1f} ms")
