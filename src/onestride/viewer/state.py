"""What a viewer knows of a loop: its newest records, and the last seconds of its ticks and decisions."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
import torch

from onestride.tasks.task import Task
from onestride.viewer.records import LEVELS, PHASES, Link

WINDOW = 10.0  # how far back plots go [s]
BINS = 200  # points of a plot
KEPT = 1000  # observations, for their plot
#: A level's number in plots; 0 is a decision of the tick's own.
NUMBERS = {"plan": 1, "hold": 2, "standing": 2, "stop": 3}


class LoopState:
    """The viewer's end of a link. ``update`` reads what is new.

    Attributes:
        link: the rings.
        tick: the newest reading, or None.
        decision: the newest decision, or None.
        fresh: whether ``update`` found a new decision.
        phase: what the loop is doing, one of ``PHASES``.
        scene: number of its scene.
        synchronous: whether it waits for its decisions.
        text: a line about it.
        latencies: (when [s], decision time [s]) of the last ``WINDOW`` seconds.
        levels: (when [s], number of the fallback's level) of the same ticks.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.tick: Any = None
        self.decision: Any = None
        self.fresh = False
        self.phase, self.scene, self.synchronous, self.text = PHASES[0], 0, False, ""
        self.latencies: deque[tuple[float, float]] = deque()
        self.levels: deque[tuple[float, int]] = deque()
        self._observations: deque[tuple[float, np.ndarray]] = deque(maxlen=KEPT)
        self._counts = {"ticks": 0, "decisions": 0}
        self._wishes: Any = np.zeros((), link.wishes.dtype)
        self._writing = threading.Lock()  # browsers' events come in threads of their own

    def update(self) -> None:
        """Read what the loop has published since the last call."""
        ticks, self._counts["ticks"] = self.link.ticks.since(self._counts["ticks"])
        for tick in ticks:
            before, self.tick = self.tick, tick
            self._observations.append((float(tick["time"]), tick["observation"]))
            if before is not None and before["episode"] == tick["episode"] and tick["ticks"] > before["ticks"]:
                self.levels.append((float(tick["time"]), _level(before, tick)))
        decisions, self._counts["decisions"] = self.link.decisions.since(self._counts["decisions"])
        self.latencies.extend((float(each["time"]), float(each["took"])) for each in decisions)
        self.fresh = len(decisions) > 0
        if self.fresh:
            self.decision = decisions[-1]
        status = self.link.status.newest()
        if status is not None:
            self.phase, self.scene = PHASES[int(status["phase"])], int(status["scene"])
            self.synchronous, self.text = bool(status["synchronous"]), _text(status["text"])
        oldest = time.perf_counter() - WINDOW
        for kept in (self.latencies, self.levels):
            while kept and kept[0][0] < oldest:
                kept.popleft()

    def numbers(self, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the times (n,) [s] and first numbers (n, columns) of the observations of the last seconds."""
        kept = [(when, seen[:columns]) for when, seen in self._observations if when > time.perf_counter() - WINDOW]
        when, seen = zip(*kept, strict=True) if kept else ((), ())
        return np.array(when, np.float64), np.array(seen, np.float64).reshape(len(when), columns)

    @property
    def reason(self) -> str:
        """The last reason for which an observation or a command was refused, or ""."""
        return "" if self.tick is None else _text(self.tick["reason"])

    # ------------------------------------------------------------ wishes

    def move(self, handle: int, position: np.ndarray) -> None:
        """Ask for a thing to be moved (3,) [m]. ``handle`` is its number among the view's."""
        with self._writing:
            self._wishes["position"][handle] = position
            self._wishes["moved"][handle] += 1
            self.link.wishes.write(self._wishes)

    def inject(self, fault: int, length: float) -> None:
        """Ask for a fault, by its number in ``FAULTS``, that lasts ``length`` [s]."""
        with self._writing:
            self._wishes["fault"], self._wishes["length"] = fault, length
            self._wishes["faults"] += 1
            self.link.wishes.write(self._wishes)

    def restart(self, scene: int) -> None:
        """Ask for a new episode in a scene."""
        with self._writing:
            self._wishes["scene"] = scene
            self._wishes["restarts"] += 1
            self.link.wishes.write(self._wishes)

    def quit(self) -> None:
        """Ask the loop to end."""
        with self._writing:
            self._wishes["quit"] = True
            self.link.wishes.write(self._wishes)


def _text(given: bytes) -> str:
    return bytes(given).decode(errors="replace")


def _level(before: Any, after: Any) -> int:
    """Return the highest level of the fallback between two readings; 0: a decision was sent in time."""
    rose = [NUMBERS[level] for level in LEVELS if after[level] > before[level]]
    return max(rose, default=0)


def binned(points: deque[tuple[float, float]] | deque[tuple[float, int]], now: float) -> np.ndarray:
    """Return the largest value of each of ``BINS`` parts of the last ``WINDOW`` seconds (BINS,), NaN where none is."""
    made = np.full(BINS, np.nan)
    if points:
        when, values = np.array(points).T
        place = np.floor((when - now + WINDOW) * BINS / WINDOW).astype(int)
        inside = (place >= 0) & (place < BINS)
        np.fmax.at(made, place[inside], values[inside])
    return made


def candidate_paths(task: Task, decision: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the candidates' positions (N, H, 3), their scores (N,) and the chosen plan's positions (H, 3)."""
    count, rows = int(decision["candidates"]), int(decision["rows"])
    plans = np.concatenate((decision["plans"][:count, :rows], decision["plan"][None, :rows]))
    observation = torch.from_numpy(np.array(decision["observation"], np.float32))[None]
    paths = task.positions(torch.from_numpy(plans)[None], observation)[0].numpy()
    return paths[:-1], np.array(decision["scores"][:count]), paths[-1]
