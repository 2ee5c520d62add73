"""What a viewer costs the loop that it shows, and how soon a plan follows what is dragged.

python -m onestride.studies viewer runs/demo/dnk-0 [--browser /usr/bin/chromium] [--out results/viewer/NAME.json]

The loop is driven in turns without and with a viewer, in wall time, by the task's simulated robot. In turns with a
viewer its process is there, a browser has the page open if one is named, and something is dragged by a centimetre again
and again: the delay is from the wish, where the viewer's callback is, to the first decision about the moved thing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from onestride.control.async_policy import AsyncPolicy
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.realtime import in_the_background
from onestride.engine.backends import Backend
from onestride.evaluation.metrics import single
from onestride.latency.soak import WARM_UP, load_policy_or_engine
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.robot.clock import RealClock
from onestride.tasks.task import Task
from onestride.viewer.records import Link
from onestride.viewer.state import LoopState
from onestride.viewer.tap import Tap
from onestride.viewer.views import View, view_of
from onestride.viewer.watch import viewer_beside

SCENES = 50
EVERY = 0.5  # something is dragged again after this [s]
BY = 0.01  # [m]
LOOKS = 0.01  # whether a plan has followed; when it did, the loop says itself [s]
GIVES_UP = 5.0  # on a plan that does not follow [s]
#: Without a GPU, and without a window.
BROWSER = ("--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")

COLUMNS = (
    Column("decision_ms_p50", "decision p50", "ms", spread=False), Column("decision_ms_p99", "p99", spread=False),
    Column("jitter_ms_p50", "tick late by p50", "ms", 3, spread=False),
    Column("jitter_ms_p99", "p99", digits=3, spread=False),
    Column("age_ms_p50", "sees to sends p50", "ms", spread=False), Column("age_ms_p99", "p99", spread=False),
    Column("overruns", "late ticks", digits=0, spread=False), Column("ticks", "ticks", digits=0, spread=False),
    Column("tap_us_p99", "tap p99", "us", 0, spread=False),
    Column("drag_ms_p50", "drag to plan p50", "ms", 0, spread=False),
    Column("drag_ms_p99", "p99", digits=0, spread=False),
)  # fmt: skip


def measure(
    folder: tyro.conf.Positional[Path],
    turns: int = 10,
    seconds: float = 20.0,
    engine: Backend | None = None,
    browser: Path | None = None,
    port: int = 8099,
) -> dict[str, Any]:
    """Return the record of so many turns of each kind, each of so many seconds.

    browser: a Chromium that has the page open.
    """
    if turns < 1 or not seconds > 0:
        raise ValueError(f"turns is {turns} and seconds {seconds:g}, expected 1 or more, and above 0")
    if browser is not None and not browser.is_file():
        raise ValueError(f"there is no browser {browser}")
    loaded = load_policy_or_engine(folder, "cpu", engine)
    view = view_of(loaded.task)
    if view is None:
        raise ValueError(f"task '{loaded.task.name}' has no view, so that nothing can be dragged; choose another")
    logs: dict[str, list[EpisodeLog]] = {"without": [], "with": []}
    spent, delays, loads = [], [], [os.getloadavg()[0]]
    with track("driving", 2 * turns) as bar:
        for turn in range(turns):
            logs["without"] += driven(loaded.decider, loaded.task, seconds, turn)
            bar.update(2 * turn + 1)
            with viewer_beside(folder.name, loaded.task, port=port, place=view.place) as tap, page(browser, port):
                tap.spent = []
                with dragging(tap.link, view, delays):
                    logs["with"] += driven(loaded.decider, loaded.task, seconds, turn, tap)
                spent += tap.spent
            bar.update(2 * turn + 2)
            loads.append(os.getloadavg()[0])
    rows = {name: summary(each) for name, each in logs.items()}
    rows["with"] |= quantiles("tap_us", 1e6 * np.array(spent)) | quantiles("drag_ms", 1e3 * np.array(delays))
    for name in ("decision_ms_p99", "jitter_ms_p99", "age_ms_p99"):
        before, after = (rows[which][name]["mean"] for which in ("without", "with"))
        rows["with"][f"{name}_change"] = single(after / before - 1 if before and after is not None else None)
    notes = [
        "turns without and with a viewer one after another, wall time, asynchronous inference; the same scenes",
        "the browser computes here only while nothing else wants to, as if it were on another machine",
        "tap: what a reading is delayed by; drag to plan: from a wish to the first decision about what was moved",
        f"one-minute load average before, and after each turn: {', '.join(f'{load:.1f}' for load in loads)}",
    ]
    config = {
        "task": loaded.task.name, "turns": turns, "seconds": seconds, "engine": loaded.about.get("engine"),
        "browser": browser is not None, "control_dt_s": loaded.task.control.control_dt, "dragged": len(delays),
    }  # fmt: skip
    return {"config": config, "seeds": {"scenes": 0}, "rows": rows, "notes": notes}


def driven(decider: Any, task: Task, seconds: float, turn: int, tap: Tap | None = None) -> list[EpisodeLog]:
    """Drive for so long, scene after scene, and return the episodes' logs."""
    clock, logs, scenes = RealClock(), [], task.scenes(SCENES, 0)
    control = replace(task.control, goal_reached=lambda _observation: False)  # the robot stays at its goal
    with AsyncPolicy(decider, clock) as policy:
        policy.warm_up(task.first_observation(scenes[turn % SCENES]), WARM_UP)
        until = clock.now() + seconds
        while (left := until - clock.now()) > 0:
            robot = task.environment(scenes[(turn + len(logs)) % SCENES], clock)
            log = EpisodeLog.lasting(left, control.control_dt)
            run_episode(
                robot if tap is None else tap.begin(robot, log), clock, policy, control, timeout=left, log=log,
                on_decision=None if tap is None else tap.on_decision,
            )  # fmt: skip
            logs.append(log)
    return logs


@contextmanager
def page(browser: Path | None, port: int) -> Iterator[None]:
    """Have a browser open the viewer's page."""
    if browser is None:
        yield
        return
    with tempfile.TemporaryDirectory() as profile:
        address = f"http://127.0.0.1:{port}"
        command = [str(browser), *BROWSER, f"--user-data-dir={profile}", "--remote-debugging-port=0", address]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        in_the_background(process.pid)  # usually it is on another machine
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def dragging(link: Link, view: View, delays: list[float]) -> Iterator[None]:
    """Drag something to and fro while the context lasts; how soon a plan followed is added to ``delays`` [s]."""
    over = threading.Event()

    def drag() -> None:
        state, sign = LoopState(link), 1.0
        while not over.wait(EVERY):
            state.update()
            if state.tick is None or (found := dragged_part(view, state.tick["observation"])) is None:
                continue
            number, position = found
            target, sign, step = position + np.array([0.0, sign * BY, 0.0]), -sign, state.tick["observation"].size
            began = time.perf_counter()
            state.move(number, target)
            while time.perf_counter() - began < GIVES_UP and not over.wait(LOOKS):
                state.update()
                if state.fresh and follows(view, number, state.decision["observation"][-step:], target):
                    delays.append(float(state.decision["time"]) - began)
                    break

    hand = threading.Thread(target=drag, name="hand", daemon=True)
    hand.start()
    try:
        yield
    finally:
        over.set()
        hand.join()


def dragged_part(view: View, observation: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Return the number and the position (3,) of what is dragged: an obstacle, or the first thing that can be."""
    parts = {part.handle: part for part in reversed(view.parts(observation)) if part.handle}
    name = next((name for name in (*view.handles[1:], *view.handles) if name in parts), None)
    return None if name is None else (view.handles.index(name), parts[name].position)


def follows(view: View, number: int, observation: np.ndarray, target: np.ndarray) -> bool:
    """Return whether an observation (step_dim,) has the thing of this number at ``target`` (3,)."""
    parts = (part for part in view.parts(observation) if part.handle == view.handles[number])
    return any(bool(np.abs(part.position - target)[:2].max() < 1e-6) for part in parts)


def quantiles(name: str, values: np.ndarray) -> dict[str, Any]:
    """Return the median, the 99th percentile and the largest of values; None of none."""
    if not len(values):
        return {f"{name}_{which}": single(None) for which in ("p50", "p99", "max")}
    found = np.quantile(values, (0.5, 0.99, 1.0))
    return {f"{name}_{which}": single(float(each)) for which, each in zip(("p50", "p99", "max"), found, strict=True)}


def summary(logs: list[EpisodeLog]) -> dict[str, Any]:
    """Return a row of results."""
    return {
        **quantiles("decision_ms", 1e3 * np.concatenate([log.decisions for log in logs])),
        **quantiles("jitter_ms", 1e3 * np.concatenate([log.tick_jitter.rows[:, 1] for log in logs])),
        **quantiles("age_ms", 1e3 * np.concatenate([log.command_age.rows[:, 1] for log in logs])),
        "overruns": single(sum(log.overruns for log in logs)),
        "ticks": single(sum(log.ticks for log in logs)),
        "episodes": single(len(logs)),
    }


def table(record: dict[str, Any]) -> Table:
    """Return a line without and a line with the viewer."""
    config = record["config"]
    with_it = "with a viewer and a browser" if config["browser"] else "with a viewer"
    rows = {"without": record["rows"]["without"], with_it: record["rows"]["with"]}
    engine, each = config["engine"] or "torch", f"{config['turns']} turns of {config['seconds']:g} s each way"
    said = f"Task {config['task']}, {engine}; {each}"
    return Table(COLUMNS, rows, (said, *record["notes"]))


def tables(results: Path) -> dict[str, Table]:
    """Return a table of each measured run."""
    return {f"viewer-{name}": table(record) for name, record in records(results / "viewer").items()}
