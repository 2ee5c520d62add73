"""A loop that a viewer looks at, from loading to quitting."""

import signal
import threading
import time

import pytest

from onestride.files import CheckpointError
from onestride.tasks import TASKS
from onestride.viewer.loops import Driven, drive
from onestride.viewer.records import PHASES, Link
from onestride.viewer.state import LoopState


@pytest.fixture
def link():
    """The link of an arm's loop. What ``drive`` does with Ctrl-C in its own process is undone."""
    before = signal.getsignal(signal.SIGINT)
    yield Link.of("dnk-0", TASKS["kinova"]().control)
    signal.signal(signal.SIGINT, before)


def told(link):
    return [(PHASES[int(each["phase"])], int(each["scene"])) for each in link.status.since(0)[0]]


@pytest.mark.slow
def test_a_loop_drives_scene_after_scene_until_it_is_told_to_quit(make_arm_policy, tmp_path, link):
    make_arm_policy("student").save(tmp_path / "dnk-0", {})
    state = LoopState(link)

    def watching():
        while not link.decisions.count:
            time.sleep(0.01)
        state.restart(2)
        while ("driving", 2) not in told(link):
            time.sleep(0.01)
        state.quit()

    viewer = threading.Thread(target=watching)
    viewer.start()
    drive(Driven(tmp_path / "dnk-0", scene=1, timeout=600.0), link)
    viewer.join()
    assert told(link)[:3] == [("loading", 1), ("warming up", 1), ("driving", 1)]
    assert told(link)[-2:] == [("driving", 2), ("over", 2)]
    assert b"ended by the viewer" in link.status.newest()["text"]
    state.update()
    assert state.decision["candidates"] > 0
    assert {int(each["episode"]) for each in link.ticks.since(0)[0]} >= {2}


def test_a_loop_that_cannot_begin_says_why(tmp_path, link):
    with pytest.raises(CheckpointError):
        drive(Driven(tmp_path), link)
    assert told(link) == [("loading", 0), ("failed", 0)]
    assert b"CheckpointError" in link.status.newest()["text"]
