"""Put a trained policy on a robot: implement four methods, choose a clock, run the loop.

    python examples/drive.py runs/demo/dnk-0

Replace ``SimulatedArm`` by a class with the same four methods that talks to your arm: ``read()`` gives the
observation, ``write(command)`` takes a Cartesian position target [m], ``stop()`` stops, ``fault()`` says why the arm
cannot go on. Everything that is not finite or out of limits is held back before ``write`` is called.
"""

import sys

from onestride import Policy
from onestride.control.clock import RealClock
from onestride.control.loop import run_episode
from onestride.tasks.kinova.simulation import SimulatedArm

policy = Policy.from_pretrained(sys.argv[1])
scene = policy.task.scenes(1, 0)[0]
policy.warm_up(policy.task.first_observation(scene))  # before the clock starts: the first decisions are slow

clock = RealClock()
arm = SimulatedArm(scene, clock)
log = run_episode(arm, clock, policy, policy.task, timeout=30.0)

decisions_ms = sorted(1e3 * d for d in log.decisions)
print(f"{log.outcome} after {log.duration:.2f} s, {log.executed} commands, {log.overruns} late, held: {dict(log.held)}")
print(f"decisions: median {decisions_ms[len(decisions_ms) // 2]:.1f} ms, slowest {decisions_ms[-1]:.1f} ms")
