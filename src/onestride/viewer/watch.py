"""Loops in processes of their own and a viewer of them, from the start to the end."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from onestride.checkpoint import load_config
from onestride.control.realtime import in_the_background
from onestride.engine.folder import CONTRACT, load_contract
from onestride.errors import install
from onestride.files import CheckpointError
from onestride.robot.clock import RealClock
from onestride.runs.trained import trained, trained_folder
from onestride.tasks import TASKS
from onestride.tasks.task import Task
from onestride.viewer.loops import LOOK, Driven, drive, end_with_the_parent
from onestride.viewer.records import Link
from onestride.viewer.server import Viewer, check_port
from onestride.viewer.tap import Place, Tap
from onestride.viewer.views import GROUP, view_of

ENDS_WITHIN = 5.0  # then a loop is terminated [s]
#: What is shown of a run where nothing is named.
USUAL = ("teacher", "dnk-0")


def folders_of_run(run: Path, methods: Sequence[str] = ()) -> tuple[Path, ...]:
    """Return the folders of a run's policies by their names; by default teacher and student, or the first there is.

    Raises:
        ValueError: the run has no policy, or none of such a name.
    """
    there = trained(run)
    usual = [name for name in USUAL if name in there] or [*there[:1], USUAL[0]][:1]
    return tuple(trained_folder(run, name) for name in (methods or usual))


def task_of_folders(folders: Sequence[Path]) -> Task:
    """Return the task that all these policies and engines are of.

    Raises:
        CheckpointError: one holds neither, or is of a task that is not known here.
        ValueError: they are of several tasks, or the task has no simulated robot.
    """
    names = {}
    for folder in folders:
        config = load_contract(folder) if (folder / CONTRACT).is_file() else load_config(folder)
        names[str(folder)] = config["task"]
        if config["task"] not in TASKS:
            raise CheckpointError(f"{folder} is of a task that is not known here: {TASKS.unknown(config['task'])}")
    if len(set(names.values())) > 1:
        raise ValueError(f"these are of several tasks: {json.dumps(names)}; view those of one task at a time")
    return TASKS[next(iter(names.values()))]()


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each folder, its own; where two have the same, with a number."""
    plain = [folder.resolve().name for folder in folders]
    return [f"{name}-{number}" if plain.count(name) > 1 else name for number, name in enumerate(plain)]


@contextmanager
def loops(driven: Sequence[Driven], task: Task) -> Iterator[tuple[list[Link], list[Any]]]:
    """Start loops, and give the links to them and their processes; they are ended when the context is left."""
    context = get_context("spawn")
    links = [Link.of(name, task.control) for name in names_of([each.folder for each in driven])]
    processes = [
        context.Process(target=drive, args=(each, link), name=f"loop of {link.name}", daemon=True)
        for each, link in zip(driven, links, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        yield links, processes
    finally:
        for process in processes:
            process.join(ENDS_WITHIN)
            if process.is_alive():
                process.terminate()  # run_episode stops the robot first
                process.join(ENDS_WITHIN)


@contextmanager
def viewer_beside(
    name: str, task: Task, host: str = "127.0.0.1", port: int = 8080, place: Place | None = None
) -> Iterator[Tap]:
    """Show a loop of this process by a viewer in a process of its own, and give the tap for it.

    Args:
        name: of what decides.
        task: of the loop; the other process makes it again by its name.
        host: that the viewer listens at.
        port: that the viewer listens at.
        place: see ``Tap``; by default nothing can be dragged and no fault injected, as on a robot.

    Raises:
        ModuleNotFoundError: viser is not installed.
        OSError: the port is taken, or the viewer does not start.
    """
    check_viser()
    check_port(host, port)
    view, link, context = view_of(task), Link.of(name, task.control), get_context("spawn")
    ready = context.Event()
    process = context.Process(daemon=True, target=show, args=([link], task.name, host, port, ready, place is not None))
    process.start()
    try:
        while not ready.wait(LOOK):
            if not process.is_alive():
                raise OSError(f"the viewer ended with code {process.exitcode}; what it said stands above")
        yield Tap(link, task.control, () if view is None else view.handles, place)
    finally:
        process.terminate()
        process.join(ENDS_WITHIN)


def show(links: Sequence[Link], task: str, host: str, port: int, ready: Event, interactive: bool) -> None:
    """Show loops until the process that started this one ends; ``ready`` is set when the page is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    end_with_the_parent()
    in_the_background()
    viewer = Viewer(links, TASKS[task](), host, port, interactive)
    ready.set()
    viewer.run(threading.Event())


def check_viser() -> None:
    """Raise ModuleNotFoundError where viser is not installed."""
    if find_spec("viser") is None:
        raise ModuleNotFoundError(f"this needs viser: {install('viewer')}", name="viser")


def watch(
    driven: Sequence[Driven], host: str, port: int, say: Callable[[str], None], over: threading.Event | None = None
) -> None:
    """Show loops in a browser until Ctrl-C, or ``over`` is set. Everything that can be wrong is said before.

    say: told the page's address, and where there is no view of the task.

    Raises:
        ValueError, CheckpointError: see ``task_of_folders``.
        ModuleNotFoundError: viser is not installed.
        OSError: the port is taken.
    """
    task = task_of_folders([each.folder for each in driven])
    check_viser()
    check_port(host, port)
    if task.environment(task.scenes(driven[0].scene + 1, 0)[driven[0].scene], RealClock()) is None:
        raise ValueError(f"task '{task.name}' has no simulated robot to drive")
    if view_of(task) is None:
        say(f"task '{task.name}' has no view: its numbers are plotted (entry points '{GROUP}' add views)")
    over = over or threading.Event()
    with loops(driven, task) as (links, _processes):
        viewer = Viewer(links, task, host, port)
        say(f"viewer: http://{host}:{port}  (Ctrl-C ends it)")
        try:
            viewer.run(over)
        except KeyboardInterrupt:
            pass
        finally:
            viewer.close()
