"""Faults on purpose: what is asked for is what comes, and it is written down."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from onestride.latency.fault_injection import Fault, FaultInjection
from onestride.robot.decision import Decision


class Quick:
    def decide(self, observation: np.ndarray) -> Decision:
        return Decision(observation, np.zeros((1, 1)), np.zeros((1, 1, 1)), np.zeros(1), {})


@pytest.mark.parametrize("times", [(0.0, 0.0), (0.1, 0.1), (math.inf, 1.0), (2.0, math.nan), (-2.0, -3.0)])
def test_times_without_a_gap_between_faults_are_refused(times):
    with pytest.raises(ValueError, match="expected 0 < length < every"):
        Fault("busy", *times)


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(ValueError, match="kind is 'bsy', expected one of busy, pause"):
        Fault("bsy", 2.0, 0.1)  # type: ignore[arg-type]


def test_a_busy_fault_happens_in_the_deciding_thread_and_only_inside_the_context():
    faulty = FaultInjection(Quick(), Fault("busy", 0.02, 0.005))
    one = np.ones(1)
    time.sleep(0.03)
    faulty.decide(one)
    assert faulty.moments == []
    with faulty:
        faulty.decide(one)
        assert faulty.moments == []
        time.sleep(0.021)
        began = time.perf_counter()
        assert faulty.decide(one).action is one
        assert time.perf_counter() - began >= 0.005
        assert len(faulty.moments) == 1
        assert began <= faulty.moments[0] <= time.perf_counter()
    time.sleep(0.03)
    faulty.decide(one)
    assert len(faulty.moments) == 1


PAUSED = """
import json, time
from onestride.latency.fault_injection import Fault, FaultInjection
gaps, last = [], time.perf_counter()
with FaultInjection(None, Fault("pause", 0.2, 0.1)) as faulty:
    while len(gaps) < 2:
        now = time.perf_counter()
        if now - last > 0.09:
            gaps.append((last, now))
        last = now
print(json.dumps([gaps, faulty.moments]))
"""


@pytest.mark.slow
def test_a_pause_stops_the_process_and_lets_it_go_on():
    done = subprocess.run([sys.executable, "-c", PAUSED], capture_output=True, text=True, timeout=60, check=True)
    gaps, moments = json.loads(done.stdout)
    assert len(gaps) == 2
    for before, after in gaps:
        assert any(before <= moment <= after for moment in moments)


DRIVEN = """
import json
from dataclasses import replace
import numpy as np, torch
from onestride.robot.clock import RealClock
from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.robot.decision import Decision
from onestride.latency.fault_injection import Fault, FaultInjection
from onestride.control.async_policy import AsyncPolicy
from onestride.tasks import TASKS

clock, sent = RealClock(), []

class Robot:
    def read(self):
        return np.full(17, clock.now() % 1)  # a sensor that froze would not be believed
    def write(self, command):
        sent.append(clock.now())
    def stop(self): pass
    def fault(self): return None

class Quick:
    def decide(self, observation):
        return Decision(np.ones(6), np.zeros((4, 23), np.float32), np.zeros((1, 4, 23)), np.zeros(1), {})

faulty = FaultInjection(Quick(), Fault("pause", 0.5, 0.2))
with AsyncPolicy(faulty, clock) as worker, faulty:
    log = run_episode(Robot(), clock, worker, TASKS["halfcheetah-v5"]().control, timeout=1.995, period=0.01,
                      fallback_timeouts=FallbackTimeouts(0.1, 0.05, 5.0))
print(json.dumps({
    "sent": [t - log.began for t in sent], "faults": [m - log.began for m in faulty.moments], "ticks": log.ticks,
    "overruns": log.overruns, "executed": log.executed, "filled": log.filled, "starved": log.starved,
    "ages": log.command_age.rows.tolist(), "outcome": log.outcome}))
"""


@pytest.mark.slow
def test_a_real_process_that_was_stopped_sends_no_burst_and_nothing_stale():
    done = subprocess.run([sys.executable, "-c", DRIVEN], capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    inside = [moment for moment in said["faults"] if 0 < moment < 1.79]
    assert len(inside) >= 2
    assert said["outcome"] == "timeout"
    assert said["ticks"] == 200
    assert said["overruns"] >= 18 * len(inside)  # of 20 periods, the first and the last may be in time
    assert said["overruns"] + said["executed"] == 200
    assert said["executed"] + said["filled"] + said["starved"] == 200
    assert max(age for _, age in said["ages"]) <= 0.1
    times = np.array(said["sent"])
    for moment in inside:
        assert not ((times > moment + 0.02) & (times < moment + 0.19)).any()
        waking = (times > moment + 0.19) & (times < moment + 0.21)
        assert waking.sum() <= 5  # not the twenty it slept through
