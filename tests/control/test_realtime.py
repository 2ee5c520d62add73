"""What is changed for real-time scheduling is put back, and what is refused is said."""

import gc
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onestride.control import realtime
from onestride.control.realtime import realtime_scheduling


def test_nothing_is_asked_for_unless_wanted(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("not asked for"))
    before = sys.getswitchinterval()
    with realtime_scheduling(False) as granted:
        assert granted == {"scheduler": "normal", "memory": "not locked", "garbage_collector": "on"}
        assert gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(realtime.SWITCH)
    assert sys.getswitchinterval() == pytest.approx(before)


@pytest.mark.slow
def test_a_refusal_is_said_and_the_collector_comes_back(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime_scheduling(True) as granted:
        assert "refused (Operation not permitted)" in granted["scheduler"]
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_was_granted_is_given_back_also_after_an_error(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda process, policy, param: calls.append((process, policy)))

    def breaks():
        with realtime_scheduling(True) as granted:
            assert granted["scheduler"] == f"SCHED_FIFO, priority {realtime.PRIORITY}; who decides one below"
            raise RuntimeError("the robot's fault")

    with pytest.raises(RuntimeError, match="the robot's fault"):
        breaks()
    half = len(calls) // 2
    normal = os.sched_getscheduler(0)
    assert threading.get_native_id() in dict(calls)
    assert calls == [(t, os.SCHED_FIFO) for t, _ in calls[:half]] + [(t, normal) for t, _ in calls[:half]]
    assert gc.isenabled()


def test_a_thread_that_is_gone_is_not_missed(monkeypatch):
    def gone(*_):
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)  # or this process keeps what it was granted
    with realtime_scheduling(True):
        monkeypatch.setattr(os, "sched_setscheduler", gone)
    assert gc.isenabled()


def locked_kb():
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmLck")).split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_locked_or_the_refusal_is_said():
    before = locked_kb()
    with realtime_scheduling(True) as granted:
        assert granted["memory"] == "locked" if locked_kb() > before else "refused (" in granted["memory"]
    assert locked_kb() == before


def test_what_only_looks_goes_to_the_back(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *given: calls.append(given[:2]))
    realtime.leave_realtime()
    assert calls == [(0, os.SCHED_OTHER)]


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no such scheduling")
def test_what_shows_a_loop_computes_when_nothing_else_wants_to_and_so_does_what_it_starts():
    def scheduled():
        realtime.in_the_background()
        with ThreadPoolExecutor(1) as started:
            return os.sched_getscheduler(0), started.submit(os.sched_getscheduler, 0).result()

    with ThreadPoolExecutor(1) as other:
        assert other.submit(scheduled).result() == (os.SCHED_IDLE, os.SCHED_IDLE)
    assert os.sched_getscheduler(0) != os.SCHED_IDLE


def test_who_decides_stands_behind_the_loop(monkeypatch):
    given = {}
    monkeypatch.setattr(os, "sched_setscheduler", lambda thread, policy, param: given.setdefault(thread, param))
    with ThreadPoolExecutor(1) as other:
        helper = other.submit(threading.get_native_id).result()
        with realtime_scheduling(True):
            pass
    assert given[threading.get_native_id()].sched_priority == realtime.PRIORITY
    assert given[helper].sched_priority == realtime.PRIORITY - 1


@pytest.mark.parametrize(
    ("policy", "priority", "then"), [("SCHED_FIFO", 10, [9]), ("SCHED_FIFO", 1, [1]), ("SCHED_OTHER", 0, [])]
)
def test_a_worker_steps_back_where_there_is_real_time(policy, priority, then, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sched_getscheduler", lambda thread: getattr(os, policy))
    monkeypatch.setattr(os, "sched_getparam", lambda thread: os.sched_param(priority))
    monkeypatch.setattr(
        os, "sched_setscheduler", lambda thread, how, param: calls.append((thread, how, param.sched_priority))
    )
    realtime.lower_priority()
    assert calls == [(0, os.SCHED_FIFO, each) for each in then]


def test_a_system_without_it(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler")
    with realtime_scheduling(True) as granted:
        assert "not to be had" in granted["scheduler"]
