"""A control loop in a process of its own, episode after episode, with a tap. The task's simulated robot is driven."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np

from onestride.control.async_policy import AsyncPolicy
from onestride.control.fallback import FallbackTimeouts
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.engine.backends import Backend
from onestride.latency.soak import load_policy_or_engine
from onestride.robot.clock import RealClock
from onestride.robot.control_spec import ControlSpec
from onestride.tasks.task import Task
from onestride.viewer.records import Link
from onestride.viewer.tap import Tap
from onestride.viewer.views import view_of

WARM_UP = 10  # decisions thrown away, of which the last half says how long one takes
PAUSE = 1.5  # between two episodes [s]
LOOK = 0.05  # how often a wish is looked for between episodes [s]


@dataclass(frozen=True)
class Driven:
    """What a loop drives.

    Attributes:
        folder: of a trained policy or an exported engine.
        device: of a policy.
        engine: backend of a policy that is folded, or None.
        scene: number of the first scene.
        timeout: longest duration of an episode [s].
        ends_at_goal: whether an episode ends there. If not, the robot stays, and a goal that is dragged is followed.
    """

    folder: Path
    device: str = "cpu"
    engine: Backend | None = None
    scene: int = 0
    timeout: float = 30.0
    ends_at_goal: bool = False


def drive(driven: Driven, link: Link) -> None:
    """Drive until a viewer says to quit, or the process that started this one has ended.

    What ends it early is told through the link, and its traceback printed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer, which then says to quit
    end_with_the_parent()
    try:
        link.say("loading", driven.scene)
        loaded = load_policy_or_engine(driven.folder, driven.device, driven.engine)
        view = view_of(loaded.task)
        handles, place = ((), _nothing) if view is None else (view.handles, view.place)
        tap = Tap(link, loaded.task.control, handles, place)
        _episodes(tap, loaded.decider, loaded.task, driven)
    except BaseException as error:
        link.say("failed", driven.scene, f"{type(error).__name__}: {error}")
        raise


def _episodes(tap: Tap, decider: Any, task: Task, driven: Driven) -> None:
    clock, control, scene, made = RealClock(), _staying(task.control, driven.ends_at_goal), driven.scene, {}
    tap.link.say("warming up", scene)
    took = warm_up(decider, task.first_observation(_scene(task, made, scene)))
    # Answers that are too old when they come are dropped, so that a robot would never move: it waits for them instead.
    waits = took > FallbackTimeouts.at(control.control_dt).max_observation_age
    watched = tap.decider(decider)
    with nullcontext(watched) if waits else AsyncPolicy(watched, clock) as policy:
        while True:
            robot = task.environment(_scene(task, made, scene), clock)
            log = EpisodeLog.lasting(driven.timeout, control.control_dt)
            robot = tap.begin(robot, log)
            tap.link.say("driving", scene, synchronous=waits)
            run_episode(
                robot, clock, policy, control, timeout=driven.timeout, on_decision=tap.on_decision, log=log
            )  # fmt: skip
            tap.link.say("over", scene, log.outcome, synchronous=waits)
            until = clock.now() + PAUSE
            while not any(tap.asked_for[:2]) and clock.now() < until:
                time.sleep(LOOK)
            quits, restarts, wanted = tap.asked_for
            if quits:
                return
            scene = wanted if restarts else scene


def warm_up(decider: Any, observation: np.ndarray) -> float:
    """Decide a few times, and return how long a decision takes [s]: the median of the last ones."""
    times = []
    for _ in range(WARM_UP):
        began = time.perf_counter()
        decider.decide(observation)
        times.append(time.perf_counter() - began)
        if sum(times) > WARM_UP:  # it takes seconds: that is warm enough
            break
    return float(np.median(times[len(times) // 2 :]))


def _scene(task: Task, made: dict[int, Any], number: int) -> Any:
    if number not in made:
        made[number] = task.scenes(number + 1, 0)[number]
    return made[number]


def _staying(control: ControlSpec, ends_at_goal: bool) -> ControlSpec:
    return control if ends_at_goal else replace(control, goal_reached=lambda _observation: False)


def _nothing(robot: Any, name: str, position: np.ndarray) -> None:
    """Move nothing: the task has no handles, and faults can be injected all the same."""


def end_with_the_parent() -> None:
    """End this process with its parent, which may be killed outright."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
