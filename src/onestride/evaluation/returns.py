"""Returns in an environment that waits for its planner: the protocol of the DNK paper's Table I (section V-B).

Seeds x episodes. Every generator is also run unselected, since a good selector can hide a collapsed student.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import gymnasium
import numpy as np
import torch

from onestride.checkpoint import CONFIG
from onestride.data.episode import Episode
from onestride.evaluation.candidates import candidates_at, measure_candidates
from onestride.evaluation.entries import DRAWS, Entry, all_candidates_of, policy_of
from onestride.evaluation.metrics import PAUSE
from onestride.evaluation.provenance import data_returns
from onestride.evaluation.records import MOTION, SHOWN, STATES, TIMES, Record
from onestride.evaluation.rollouts import FIRST_SEED, Batch, Stage, rolled
from onestride.evaluation.units import rolled_on, said_of
from onestride.policy.policy import Policy, Precision
from onestride.progress import track
from onestride.runs.run import CRITIC, RETURNS, TEACHER, task_of
from onestride.runs.settings import ReturnsConfig
from onestride.scale.place import current
from onestride.seals import read_result, seal
from onestride.tasks.metric import EPISODE
from onestride.tasks.task import Task
from onestride.tensors import load_tensors, save_tensors
from onestride.training.loop import fast_precision

COMPARED = 32  # of a planner's states: so many times 64 candidates of the teacher, from each of which it samples anew
WARM_UP = 30  # decisions thrown away before the first that is timed


class Returns:
    """How planners are evaluated by the returns of a benchmark: see ``evaluate``."""

    unit, files, together = "episode", (TIMES, STATES, SHOWN), (SHOWN, TIMES, MOTION)
    places = (None,)

    def __init__(
        self, run: Path, config: ReturnsConfig, folder: Path, entries: Sequence[Entry], device: str,
        task: Task | None = None,
    ) -> None:  # fmt: skip
        task = task or task_of(run)
        assert task.benchmark is not None
        self.run, self.config, self.folder, self.entries, self.device = run, config, folder, entries, device
        self.task, self.benchmark, self.count, self.width = task, task.benchmark, config.episodes, config.width
        self.precision: Precision = fast_precision() if config.precision == "auto" else config.precision
        self.settings = {"width": config.width, "states": config.states, "precision": self.precision, "task": task.name}
        self.seeds, self.metrics = {"episodes": FIRST_SEED}, dict.fromkeys((*EPISODE, *task.metrics))
        ranked = {e.variant.selector for e in entries} - {"none", "task"}
        self.selectors = frozenset(ranked | {name for name in (RETURNS, CRITIC) if (run / name / CONFIG).is_file()})
        self.reference = f"{entries[0].row}-{entries[0].seed}"

    def roll(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Record]]]:
        """Return every batch's records; states that a planner visits by itself are kept for its candidates."""
        width = min(self.config.width, self.config.episodes)
        stage = Stage(self.run, self.task.name, self.benchmark.environment, width, self.device, self.precision)
        states = dict(load_tensors(self.folder / STATES)[0]) if (self.folder / STATES).exists() else {}
        cluster = current()
        if cluster is None:
            made = ((batch, *self._said(episodes)) for batch, episodes in rolled(stage, batches, self.config.workers))
        else:
            made = rolled_on(cluster, stage, batches, self.folder, self.settings)
        for batch, records, seen in made:
            key = f"{batch.entry.row}-{batch.entry.seed}"
            if key not in states or batch.first == 0:
                states[key] = seen
                save_tensors(self.folder / STATES, states)
            yield batch, records

    def _said(self, episodes: Sequence[Episode]) -> tuple[list[Record], torch.Tensor]:
        return said_of(self.task, episodes, self.config.states)

    def progress(self, made: Sequence[Record]) -> str:
        """Return what a progress bar says of the last batch."""
        return f"{np.mean([r['return_normalised'] for r in made]):.3f}"

    # ------------------------------------------------------------ candidates

    @cached_property
    def states(self) -> dict[str, torch.Tensor]:
        """States (n, O) by row and seed."""
        return load_tensors(self.folder / STATES)[0]

    @cached_property
    def teacher(self) -> Policy:
        """The run's teacher; where it has none, the first planner that is evaluated."""
        folder = self.run / TEACHER
        return Policy.from_pretrained(folder if folder.exists() else self.entries[0].folder, device=self.device)

    def measure(self, entry: Entry) -> list[Record]:
        """Return how the entry's candidates spread, and how far they are from the teacher's from the same noise.

        At states that the first entry visits and, as ``own_``, at those that the planner visits, usually ranked.
        """
        policy, made = all_candidates_of(entry, self.device), {}
        usual, own = f"{entry.variant.generator}-{entry.seed}", f"{entry.row}-{entry.seed}"
        for where, key in (("", self.reference), ("own_", usual if usual in self.states else own)):
            few = self.states[key][:: -(-len(self.states[key]) // COMPARED)].to(self.device)
            made |= {
                f"{where}{name}": value
                for name, value in measure_candidates(policy, self.teacher, few, entry.seed).items()
            }
        return [made]

    def show(self, entries: Sequence[Entry]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return plans of every generator that plans as far as its task, at states spread over the reference's way."""
        states, kept = self.states[self.reference], {}
        spread = torch.linspace(0, len(states) - 1, min(self.config.shown, len(states))).long()
        observations = states[spread].to(self.device)
        for entry in entries:
            policy = all_candidates_of(entry, self.device)
            if policy.control.horizon == self.task.control.horizon:
                kept[f"plans.{entry.variant.generator}"] = candidates_at(policy, observations, 0).cpu().contiguous()
        return kept, {}

    # ------------------------------------------------------------ latency

    def times(self) -> dict[str, list[float]]:
        """Return the wall time of single decisions [s], all rows in turns on the same observations.

        Before each a pause and a decision that is not counted, as in ``bench``: a row is not to pay for the one before.
        """
        path = self.folder / TIMES
        if path.exists():
            return read_result(path, dict[str, list[float]])
        chosen = {e.variant.generator for e in self.entries if e.variant.selector != "none"}
        alone = {e.variant.generator for e in self.entries} - chosen  # those whose candidates nobody ranks
        rows = (e for e in reversed(self.entries) if e.variant.selector != "none" or e.variant.generator in alone)
        first = {e.row: e for e in rows}
        policies = {row: policy_of(self.run, entry, self.device) for row, entry in sorted(first.items())}
        observations = self.states[self.reference].double().numpy()
        for policy in policies.values():
            policy.warm_up(observations[0], WARM_UP)
        times: dict[str, list[float]] = {row: [] for row in policies}
        with track("latency", self.config.decisions) as bar:
            for i in range(self.config.decisions):
                for row, policy in policies.items():
                    time.sleep(PAUSE)
                    policy.decide(observations[i % len(observations)])
                    times[row].append(policy.decide(observations[i % len(observations)]).timings["total"])
                bar.update(i + 1)
        seal(path, times)
        return times

    def notes(self) -> list[str]:
        """Return what a reader of the numbers has to know."""
        steps = gymnasium.spec(self.benchmark.environment).max_episode_steps
        reference = (self.benchmark.random, self.benchmark.expert)
        scores = "not normalised" if reference == (0.0, 1.0) else "normalised by D4RL's reference scores"
        return [
            f"Environment {self.benchmark.environment}, which waits for the planner; {self.count} episodes of at most "
            f"{steps} steps per seed, the same starts for every row; returns {scores}.",
            "Data was collected in this environment: numbers are not comparable with those on D4RL's own files.",
            "return_normalised: mean and population standard deviation over seeds of each seed's mean; students' seeds "
            "are training seeds, the teacher has one training and its seeds are those of its noise and starts.",
            "Rows ending in -unselected draw one candidate and take it: what the generator is worth by itself.",
            "action_spread: standard deviation of the first action over 64 candidates, normalised, at states the "
            "teacher visits; own_: at states the row's planner visits. teacher_distance: root mean square distance of "
            "first actions from the teacher's from the same noise (DDIM). plan_spread: of all entries of a plan. "
            "plan_dimensions: in how many directions they spread, the participation ratio of their variances.",
            f"Episodes: generators of many calls in {self.precision}, one-step generators, selectors and engines in "
            "32-true (-int8: large products in 8 bits). Latencies: single decisions, everything in 32-true, all rows "
            "in turns on the same observations, warm-up thrown away.",
            f"Engines (rows -engine, -int8) take their noise from a seeded bank that comes round after {DRAWS} "
            "decisions; everybody else draws noise anew for every decision.",
            "Rows ct and cd ranked by Q: an argmax over candidates of one action rewards the critic's errors; their "
            "rows -unselected are without it.",
            data_returns(self.run, self.benchmark),
            *self.task.notes,
        ]
