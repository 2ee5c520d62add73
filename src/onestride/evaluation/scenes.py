"""Trials in scenes, whose clock goes on while a planner decides. Methods take turns scene by scene."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.evaluation.entries import Entry, policy_of
from onestride.evaluation.metrics import TRIAL
from onestride.evaluation.records import MOTION, SHOWN, Record
from onestride.evaluation.rollouts import Batch, run_trial
from onestride.progress import console
from onestride.runs.run import task_of
from onestride.runs.settings import EvaluateConfig
from onestride.scale.place import current
from onestride.tasks.task import Task
from onestride.tensors import load_tensors, save_tensors

WARM_UP = 50  # decisions thrown away before the first that counts
SHOWN_SCENES = 6  # in figures


class Scenes:
    """How planners are evaluated in a task's scenes: see ``evaluate``."""

    unit, width, files, together = "scene", 1, (SHOWN, MOTION), (SHOWN,)
    selectors = frozenset[str]()  # folders of the run: it is the task's own

    def __init__(
        self, run: Path, config: EvaluateConfig, folder: Path, entries: Sequence[Entry], device: str,
        task: Task | None = None,
    ) -> None:  # fmt: skip
        self.config, self.folder, self.entries, self.task = config, folder, entries, task or task_of(run)
        if current() is not None:
            console.print(
                f"scenes of '{self.task.name}' are rolled by this process alone: their clock charges what a decision "
                "takes, which busy neighbours change",
                highlight=False,
            )
        self.settings, self.count = asdict(config) | {"task": self.task.name}, config.trials
        self.places = range(config.trials if self.task.measure_candidates is not None else 0)
        self.seeds, self.metrics = {"scenes": config.scene_seed}, (*TRIAL, *self.task.metrics)
        self.policy = cache(lambda entry: policy_of(run, entry, device))
        self.paths = cache(self._paths)

    @cached_property
    def scenes(self) -> Sequence[Any]:
        return self.task.scenes(self.config.trials, self.config.scene_seed)

    @cached_property
    def showcase(self) -> list[int]:
        return self.task.showcase(self.scenes)

    def roll(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Record]]]:
        """Return every scene's record; the motion in the showcase's first scene is kept for the film."""
        for entry in dict.fromkeys(batch.entry for batch in batches):
            self.policy(entry).warm_up(self.task.first_observation(self.scenes[0]), WARM_UP)
        filmed, path = (self.showcase or [0])[0], self.folder / MOTION
        real_clock, timeout = self.config.clock == "real", self.config.timeout
        for batch in batches:
            policy, scene, number = self.policy(batch.entry), self.scenes[batch.first], batch.first
            record, robot = run_trial(policy, self.task, scene, number, timeout=timeout, real_clock=real_clock)
            if self.places and number == filmed and batch.entry.seed == self.entries[0].seed:
                moved = {"joints": robot.joint_path, "times": robot.times, "path": robot.ee_path}
                motion = {f"{name}.{batch.entry.row}": array for name, array in moved.items()} | vars(scene)
                save_tensors(path, (load_tensors(path)[0] if path.exists() else {}) | _tensors(motion))
            yield batch, [record]

    def progress(self, made: Sequence[Record]) -> str:
        """Return what a progress bar says of the last trial."""
        return made[-1]["outcome"]

    def measure(self, entry: Entry) -> list[Record]:
        """Return what the task measures of the entry's candidates, at every scene's start.

        A scene's noise is the same for all: every candidate has its counterpart of the first entry, the teacher.
        """
        assert self.task.measure_candidates is not None
        pairs = ((self.paths(entry, n)[0], self.paths(self.entries[0], n)[0]) for n in self.places)
        return [
            {"scene": n} | self.task.measure_candidates(mine, theirs, self.scenes[n], n in self.showcase)
            for n, (mine, theirs) in enumerate(pairs)
        ]

    def show(self, entries: Sequence[Entry]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return paths and scores of candidates in the first scenes of the showcase, and which scenes these are.

        Nothing where the task does not measure candidates: an environment's plans are no paths, and its robot no film.
        """
        if not self.places:
            return {}, {}
        shown = (self.showcase or list(range(self.count)))[:SHOWN_SCENES]
        kept = {name: np.stack([getattr(self.scenes[n], name) for n in shown]) for name in vars(self.scenes[0])}
        for entry in entries:
            paths, scores = zip(*(self.paths(entry, n) for n in shown), strict=True)
            kept |= {f"paths.{entry.row}": np.stack(paths), f"scores.{entry.row}": np.stack(scores)}
        return _tensors(kept), {"scenes": json.dumps(shown)}

    def _paths(self, entry: Entry, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates at a scene's start as paths (N, H, 3) [m], and their scores (N,)."""
        policy = self.policy(entry)
        observation = self.task.first_observation(self.scenes[number])
        policy.reset(number)
        decision = policy.decide(observation)
        plans, seen = torch.from_numpy(decision.plans)[None], torch.from_numpy(observation).float()[None]
        return self.task.positions(plans, seen)[0].numpy(), decision.scores

    def notes(self) -> list[str]:
        """Return what a reader of the numbers has to know."""
        on_wall_time = self.config.clock == "real"
        return [
            "Wall time (real clock)."
            if on_wall_time
            else "Simulated time advanced by each decision's measured wall time (charged clock).",
            f"Methods took turns scene by scene (one that joined an evaluation later, by itself); the first {WARM_UP} "
            "decisions of each were thrown away.",
            *self.task.notes,
            "Standard deviations are over all trials of all training seeds; per_seed holds each training seed's mean.",
            "completion_time_s is over successful trials.",
        ]


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
