"""A policy: normaliser + generator + selector. ``decide(observation)`` is all that a robot needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onestride.checkpoint import CONFIG, CheckpointError, load_config, load_weights, save_checkpoint
from onestride.data.normalize import Normalizer
from onestride.diffusion.planner import DiffusionPlanner, TeacherConfig
from onestride.students.koopman import KoopmanConfig, KoopmanStudent
from onestride.tasks import TASKS
from onestride.tasks.task import Task

#: How candidates' noise is scaled, and what share of them each way (DNK, section V-A).
TEMPERATURES, SHARES = (0.3, 0.5, 0.7), (0.25, 0.5, 0.25)
#: What a checkpoint's config holds beside its schema.
ENTRIES = ("kind", "task", "generator", "candidates", "temperatures", "shares", "training")
#: What a checkpoint's "kind" may be.
GENERATORS: dict[str, tuple[type, type]] = {
    "teacher": (TeacherConfig, DiffusionPlanner),
    "student": (KoopmanConfig, KoopmanStudent),
}


@dataclass(frozen=True)
class Decision:
    """action (A,) in the robot's units; the chosen plan (H, D) in task units; every candidate's plan and score.

    timings [s]: encode, generate, select, total; total is what a robot waits.
    """

    action: np.ndarray
    plan: np.ndarray
    plans: Tensor
    scores: np.ndarray
    timings: dict[str, float]


def conditioned_prior(
    noise: Tensor, temperature: Tensor, start: Tensor, normalizer: Normalizer, fixed: Tensor
) -> Tensor:
    """Noise (B, H, D) times temperature (B,), with the observation (B or 1, O) in its fixed entries; normalised."""
    prior = noise * temperature[:, None, None]
    known = nn.functional.pad(normalizer.start(start), (0, noise.shape[-1] - start.shape[-1]))
    return torch.where(fixed, known[:, None], prior)


class NoPlanError(ArithmeticError):
    """Not one candidate is finite: there is nothing to send, the robot holds."""


class Policy:
    """Candidates from the generator, the best of them by the selector, its first action for the robot.

    candidates: how many plans are drawn per decision. temperatures, shares: candidate noise is scaled as the
    student's training noise was, in the same proportions.
    """

    def __init__(
        self,
        task: Task,
        generator: Any,
        normalizer: Normalizer,
        *,
        candidates: int = 64,
        temperatures: Sequence[float] = TEMPERATURES,
        shares: Sequence[float] = SHARES,
        seed: int = 0,
        device: str | torch.device = "cpu",
        config: dict[str, Any] | None = None,
    ) -> None:
        if candidates < 1:
            raise ValueError(f"a decision needs at least one candidate, got {candidates}")
        self.task, self.device = task, torch.device(device)
        self.generator = generator.to(self.device).eval().requires_grad_(False)
        self.normalizer = normalizer.to(self.device)
        self.fixed = task.fixed.to(self.device)
        self.candidates = candidates
        self.config = config or {}
        self.temperatures, self.shares = tuple(temperatures), tuple(shares)
        bounds = (torch.tensor(shares).cumsum(0) * candidates).round()
        which = torch.searchsorted(bounds, torch.arange(candidates) + 0.5)
        self.temperature = torch.tensor(temperatures)[which.clamp(max=len(temperatures) - 1)].to(self.device)
        self.rng = torch.Generator(self.device)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start the candidates' noise over: the same seed and observations give the same actions."""
        self.rng.manual_seed(seed)

    @torch.inference_mode()
    def decide(self, observation: np.ndarray) -> Decision:
        """The best plan's first action for one observation (observation_dim,), in the robot's units.

        Raises:
            NoPlanError: not one candidate is finite.
            ObservationError: it cannot be acted on (shape, non-finite, goal out of reach); see the task's check.
        """
        began = time.perf_counter()
        observation = np.asarray(observation)
        self.task.check(observation)
        row = torch.from_numpy(observation).to(self.device, torch.float32)[None]
        start = self.task.encode(row)
        context = self.normalizer.context(start.context)  # (1, C)
        shape = (self.candidates, self.task.horizon, self.task.transition_dim)
        noise = torch.randn(shape, generator=self.rng, device=self.device)
        prior = conditioned_prior(noise, self.temperature, start.start, self.normalizer, self.fixed)
        encoded = self._now()
        plans = self.normalizer.unnormalize(self.generator.sample(prior, context, generator=self.rng))
        generated = self._now()
        scores = self.task.score(plans[None], row, start.frame)[0]
        # A candidate that is not a number never wins.
        best = torch.where(scores.isfinite(), scores, -torch.inf).argmax()
        plan = plans[best]
        action = self.task.command(plan[None], start.frame)[0].double().cpu().numpy()
        if not (np.isfinite(action).all() and bool(scores[best].isfinite())):
            raise NoPlanError(f"none of {self.candidates} candidates is finite; is the checkpoint trained?")
        done = self._now()
        timings = {
            "encode": encoded - began,
            "generate": generated - encoded,
            "select": done - generated,
            "total": done - began,
        }
        return Decision(action, plan.cpu().numpy(), plans, scores.cpu().numpy(), timings)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def warm_up(self, observation: np.ndarray, calls: int = 50) -> None:
        """Decide and throw away, so that the first decision that counts is as fast as the rest."""
        for _ in range(calls):
            self.decide(observation)

    # ------------------------------------------------------------ on disk

    def save(self, folder: Path, training: dict[str, Any]) -> None:
        """Write the checkpoint: config, weights and normaliser."""
        kind = next(kind for kind, (_, made) in GENERATORS.items() if isinstance(self.generator, made))
        config = {
            "kind": kind,
            "task": self.task.name,
            "generator": asdict(self.generator.config),
            "candidates": self.candidates,
            "temperatures": list(self.temperatures),
            "shares": list(self.shares),
            "training": training,
        }
        save_checkpoint(folder, _whole(self.generator, self.normalizer), config)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        task: str | None = None,
        device: str = "cpu",
        seed: int = 0,
        candidates: int | None = None,
    ) -> Policy:
        """Load a trained policy from a checkpoint's folder.

        task: the task it must be of, where the caller needs a certain one.

        Raises:
            CheckpointError: no checkpoint there, altered, without its normaliser, or of another task.
        """
        folder = Path(path)
        config = load_config(folder)
        missing = [key for key in ENTRIES if key not in config]
        if missing:
            raise CheckpointError(f"{folder / CONFIG} lacks {', '.join(missing)}; it was altered: train it again")
        if config["task"] not in TASKS:
            raise CheckpointError(f"{folder} is of task '{config['task']}', this version has {', '.join(TASKS)}")
        if task is not None and config["task"] != task:
            raise CheckpointError(f"{folder} was trained for task '{config['task']}', not for '{task}'")
        if config["kind"] not in GENERATORS:
            raise CheckpointError(f"{folder} is of kind '{config['kind']}', this version has {', '.join(GENERATORS)}")
        record = TASKS[config["task"]]()
        try:
            generator = make_generator(record, config["kind"], config["generator"])
        except (TypeError, ValueError) as error:  # a setting of another version
            raise CheckpointError(f"{folder / CONFIG} has settings this version does not know: {error}") from error
        normalizer = Normalizer.empty(record.transition_dim, record.context_dim)
        load_weights(folder, _whole(generator, normalizer))
        return cls(
            record,
            generator,
            normalizer,
            candidates=config["candidates"] if candidates is None else candidates,
            temperatures=config["temperatures"],
            shares=config["shares"],
            seed=seed,
            device=device,
            config=config,
        )


def make_generator(task: Task, kind: str, settings: dict[str, Any]) -> Any:
    """An untrained generator from its kind and its config's fields as JSON gives them."""
    config_class, generator_class = GENERATORS[kind]
    config = config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    return generator_class(config, task.fixed, task.context_dim, task.state_dim)


def _whole(generator: nn.Module, normalizer: Normalizer) -> nn.Module:
    return nn.ModuleDict({"generator": generator, "normalizer": normalizer})
