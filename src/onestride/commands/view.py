"""Watching policies drive, in a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from onestride.commands.base import InRun
from onestride.engine.folder import Backend


@dataclass(frozen=True)
class View(InRun):
    """Watch policies drive the task's simulated robot side by side, in a browser: drag the goal, inject faults.

    A run's:          onestride view --run runs/demo --methods teacher dnk-0
    An engine's:      onestride view --checkpoints exported/arm

    Every policy drives a loop in a process of its own, in real time, at its own latency. Ctrl-C ends it.
    """

    resumes: ClassVar[bool] = False
    doing: ClassVar[str] = "loading what drives"

    methods: tuple[str, ...] = ()
    """Policies of the run, such as dnk or dnk-1. Where none is named: teacher and dnk-0, else its first."""
    checkpoints: tuple[Path, ...] = ()
    """Folders of trained policies or exported engines anywhere, instead of the run's. All must be of one task."""
    scene: int = 0
    """The first scene's number."""
    timeout: float = 30.0
    """Longest duration of an episode [s]; the next one begins by itself."""
    ends_at_goal: bool = False
    """End an episode at its goal. Else the robot stays, and follows a goal that is dragged."""
    device: str = "cpu"
    engine: Backend | None = None
    """Run policies as one graph, see `onestride run`."""
    host: str = "127.0.0.1"
    """0.0.0.0 lets other computers in: whoever opens the page can drag things and inject faults."""
    port: int = 8080
    task: str | None = field(default=None)
    """The checkpoints' task, where it comes from FILE.py:NAME or MODULE:NAME."""

    def __call__(self) -> None:
        from onestride.latency.soak import SCENES

        if not 0 <= self.scene < SCENES * SCENES:
            raise ValueError(f"scene is {self.scene}, expected 0 or more, and less than {SCENES * SCENES}")
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout:g}, expected a positive number of seconds")
        from onestride.viewer.loops import Driven
        from onestride.viewer.watch import folders_of_run, watch

        if self.checkpoints and self.methods:
            raise ValueError("--checkpoints says what is shown; leave --methods away")
        folders = self.checkpoints or folders_of_run(self.run, self.methods)
        driven = [
            Driven(folder, self.device, self.engine, self.scene, self.timeout, self.ends_at_goal) for folder in folders
        ]
        watch(driven, self.host, self.port, lambda line: print(line, flush=True))
