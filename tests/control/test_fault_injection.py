"""Stalls on purpose: what is asked for is what comes, and it is written down."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from onestride.control.fault_injection import FaultInjection, FaultInjector
from onestride.robot.decision import Decision


class Quick:
    def decide(self, observation: np.ndarray) -> Decision:
        return Decision(observation, np.zeros((1, 1)), np.zeros((1, 1, 1)), np.zeros(1), {})


def test_a_stall_is_read_from_its_text():
    assert FaultInjection.parse("busy:2.0:0.05") == FaultInjection("busy", 2.0, 0.05)
    assert FaultInjection.parse("pause:1:.3") == FaultInjection("pause", 1.0, 0.3)


@pytest.mark.parametrize(
    "text",
    ["", "busy", "busy:2", "busy:2:0.1:3", "bsy:2:0.1", "busy:a:0.1", "busy:0:0", "busy:0.1:0.1", "gil:inf:1",
     "gil:2:nan", "pause:-2:-3"],
)  # fmt: skip
def test_text_that_is_none_is_refused_and_quoted(text):
    with pytest.raises(ValueError, match=f"fault is '{text}'"):
        FaultInjection.parse(text)


def test_a_busy_stall_happens_in_the_deciding_thread_and_only_inside_the_context():
    stalled = FaultInjector(Quick(), FaultInjection("busy", 0.02, 0.005))
    one = np.ones(1)
    time.sleep(0.03)
    stalled.decide(one)
    assert stalled.moments == []
    with stalled:
        stalled.decide(one)
        assert stalled.moments == []
        time.sleep(0.021)
        began = time.perf_counter()
        assert stalled.decide(one).action is one
        assert time.perf_counter() - began >= 0.005
        assert len(stalled.moments) == 1
        assert began <= stalled.moments[0] <= time.perf_counter()
    time.sleep(0.03)
    stalled.decide(one)
    assert len(stalled.moments) == 1


def test_a_held_lock_stops_everything_in_python():
    with FaultInjector(Quick(), FaultInjection("gil", 0.02, 0.05)) as stalled:
        gap, last = 0.0, time.perf_counter()
        while gap < 0.04 and last - (stalled.moments or [last])[0] < 10.0:
            now = time.perf_counter()
            gap, last = max(gap, now - last), now
    assert gap >= 0.04
    assert not [t for t in threading.enumerate() if t.name == "stalls"]


PAUSED = """
import json, time
from onestride.control.fault_injection import FaultInjection, FaultInjector
gaps, last = [], time.perf_counter()
with FaultInjector(None, FaultInjection("pause", 0.2, 0.1)) as stalled:
    while len(gaps) < 2:
        now = time.perf_counter()
        if now - last > 0.09:
            gaps.append((last, now))
        last = now
print(json.dumps([gaps, stalled.moments]))
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
from onestride.control.fault_injection import FaultInjection, FaultInjector
from onestride.control.async_policy import AsyncPolicy
from onestride.tasks import TASKS

clock, sent = RealClock(), []

class Robot:
    def read(self):
        return np.zeros(17)
    def write(self, command):
        sent.append(clock.now())
    def stop(self): pass
    def fault(self): return None

class Quick:
    def decide(self, observation):
        return Decision(np.ones(6), np.zeros((4, 23), np.float32), np.zeros((1, 4, 23)), np.zeros(1), {})

stalled = FaultInjector(Quick(), FaultInjection("pause", 0.5, 0.2))
with AsyncPolicy(stalled, clock) as worker, stalled:
    log = run_episode(Robot(), clock, worker, TASKS["halfcheetah-v5"](), timeout=1.995, period=0.01,
                      fallback_timeouts=FallbackTimeouts(0.1, 0.05, 5.0))
print(json.dumps({
    "sent": [t - log.began for t in sent], "stalls": [m - log.began for m in stalled.moments], "ticks": log.ticks,
    "overruns": log.overruns, "executed": log.executed, "filled": log.filled, "starved": log.starved,
    "ages": log.command_age.rows.tolist(), "outcome": log.outcome}))
"""


@pytest.mark.slow
def test_a_real_process_that_was_stopped_sends_no_burst_and_nothing_stale():
    done = subprocess.run([sys.executable, "-c", DRIVEN], capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    inside = [moment for moment in said["stalls"] if 0 < moment < 1.79]
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
