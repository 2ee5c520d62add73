"""A policy: normaliser + generator + selector. ``decide(observation)`` is all that a robot needs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from onestride.device import resolve_device
from onestride.methods.prefixed import PrefixedPlanner
from onestride.methods.settings import with_settings
from onestride.networks.normalizer import Normalizer
from onestride.plans.asking import Asking
from onestride.plans.given import Given, make_prior, mask_of
from onestride.policy.embedding import embedded, inside
from onestride.policy.store import Parts, load_parts, save_parts
from onestride.robot.control_spec import ControlSpec, committed_columns
from onestride.robot.decision import Decision, chunk_of, none_finite
from onestride.robot.fields import decision_vector
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.tasks.task import Selector, Task

Precision = Literal["32-true", "bf16-mixed"]


class Policy:
    """Candidates from the generator, the best of them by the selector, its first action for the robot.

    selector: default the task's own; tasks without one need a learned one, or ``unselected``.
    precision: of the generator's products; "bf16-mixed" is several times faster where the machine has units for it.
    candidates: how many plans are drawn per decision.
    sampling: how their noise is scaled where the selector does not say: as in the student's training. A selector's own
    counts for generators whose noise may be scaled.
    conditions: what every decision asks for, by name, of a generator that has learnt conditions; see ``ask``.
    """

    def __init__(
        self,
        task: Task,
        generator: Any,
        normalizer: Normalizer,
        *,
        selector: Selector | None = None,
        candidates: int = 64,
        sampling: CandidateSampling | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        precision: Precision = "32-true",
        config: dict[str, Any] | None = None,
        conditions: Mapping[str, float | Sequence[float]] | None = None,
    ) -> None:
        if task.control.cameras and not hasattr(generator, "embed"):
            raise ValueError(f"task '{task.name}' has cameras, and this {type(generator).__name__} looks at no image")
        if candidates < 1:
            raise ValueError(f"a decision needs at least one candidate, got {candidates}")
        self.task, self.device = task, resolve_device(device)
        self.generator = generator.to(self.device).eval().requires_grad_(False)
        self.normalizer = normalizer.to(self.device)
        self.selector = _ready(selector, self.device) if selector is not None else task.score
        if self.selector is None and getattr(generator, "deterministic", False):
            self.selector = unselected  # there is nothing to rank
        self.fixed = mask_of(task.plans).to(self.device)
        self.known = torch.from_numpy(task.plans.known_entries).to(self.device)
        self.candidates, self.precision = candidates, precision
        self.config = config or {}
        self.sampling = sampling or CandidateSampling()
        prior_scaled = getattr(generator, "prior_scaled", True)
        own = getattr(getattr(self.selector, "options", None), "sampling", None) if prior_scaled else None
        drawn: CandidateSampling = own or self.sampling
        self.temperature = drawn.temperatures_of(candidates).to(self.device)
        penalty = drawn.score_penalty(candidates)
        self.score_penalty = None if penalty is None else penalty.to(self.device)
        self.asked: dict[str, Tensor] = {}
        self.asking = Asking.of(self.generator)
        self.ask(**(conditions or {}))
        self.longest_prefix = task.plans.prefix if isinstance(generator, PrefixedPlanner) else 0
        self.action_columns = torch.arange(self.control.state_dim, self.control.transition_dim, device=self.device)
        self.rng = torch.Generator(self.device)
        self.reset(seed)

    @property
    def control(self) -> ControlSpec:
        """The control interface of its task."""
        return self.task.control

    def ask(self, **conditions: float | Sequence[float]) -> None:
        """Ask for these conditions from the next decision on, such as ``ask(return_=1.0)``; for none: leave them away.

        Raises:
            ValueError: the generator has learnt no such condition, or the value has another size or is out of range.
        """
        embedding = getattr(self.generator, "conditions", None)
        self.asked_numbers = self.asking.numbers(conditions)
        numbers = torch.from_numpy(self.asked_numbers)[None].to(self.device)
        values = {} if embedding is None else embedding.by_name(numbers)
        self.asked = {name: values[name] for name in conditions}

    @property
    def nfe(self) -> int:
        """Network calls of the generator per decision."""
        return self.generator.nfe

    def with_settings(self, change: Callable[[Any], Any]) -> Policy:
        """Return this policy, its generator sampled with other settings (old -> new); all else is shared, noise too."""
        made = copy.copy(self)
        made.generator = with_settings(self.generator, change)
        return made

    def reset(self, seed: int) -> None:
        """Start the candidates' noise over: the same seed and observations give the same actions."""
        self.rng.manual_seed(seed)

    @property
    def noise(self) -> Tensor:
        """Where the candidates' noise is: the generator's state. Set it to go on from there."""
        return self.rng.get_state()

    @noise.setter
    def noise(self, state: Tensor) -> None:
        self.rng.set_state(state)

    @torch.inference_mode()
    def decide(self, observation: np.ndarray, *, committed: np.ndarray | None = None) -> Decision:
        """The best plan's first action for one observation (observation_dim,), in the robot's units.

        committed: commands that are sent in the next n control periods whatever is decided (n, A), in the robot's
        units, of a planner that was trained with a prefix; its plans go on from them.

        Raises:
            NoPlanError: not one candidate is finite.
            ObservationError: it cannot be acted on (shape, non-finite, goal out of reach); see the task's check.
            ValueError: the planner knows no prefix, or none so long.
        """
        began = time.perf_counter()
        observation = self._vector(observation)
        row = torch.from_numpy(observation.astype(np.float32)[None]).to(self.device)
        given, prior = self.encode(row)
        prefix = self._prefix(committed, observation[None])
        encoded = self._now()
        plans = self._generate(prior, given, prefix)
        generated = self._now()
        scores, best = self._select(plans, row, given.frame)
        plan = plans[0, best[0]]
        action = self.task.command(plan[None], given.frame)[0].double().cpu().numpy()
        if not (np.isfinite(action).all() and bool(scores[0, best[0]].isfinite())):
            raise none_finite(self.candidates)
        if committed is not None and len(committed):
            action = np.array(committed[0], np.float64)
        done = self._now()
        timings = {
            "encode": encoded - began,
            "generate": generated - encoded,
            "select": done - generated,
            "total": done - began,
        }
        return Decision(action, plan.cpu().numpy(), plans[0].cpu().numpy(), scores[0].cpu().numpy(), timings)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (B, A) for many observations at once (B, observation_dim): what ``decide`` does."""
        return self.predict_action_chunk(observations)[:, 0]

    @torch.inference_mode()
    def predict_action_chunk(self, observations: np.ndarray, *, committed: np.ndarray | None = None) -> np.ndarray:
        """Return the next ``n_action_steps`` actions (B, n_action_steps, A) for observations (B, observation_dim).

        They are the first rows of the best plan, in the robot's units; ``decide`` gives the first of them.

        committed: the first n of them (n, A), which are sent whatever is decided, of a planner that was trained with a
        prefix. They come back bit for bit, and the others go on from them.

        Raises:
            NoPlanError: not one candidate of some observation is finite.
            ObservationError: one cannot be acted on, as in ``decide``.
            ValueError: they have another shape, or there are none; the planner knows no prefix, or none so long.
        """
        if (isinstance(observations, np.ndarray) and observations.ndim != 2) or not len(observations):
            shape = np.shape(observations)
            raise ValueError(
                f"observations have shape {shape}, expected (B, {self.control.observation_dim}), B at least 1"
            )
        vectors = np.stack([self._vector(observation) for observation in observations])
        rows = torch.from_numpy(vectors.astype(np.float32)).to(self.device)
        given, prior = self.encode(rows)
        plans = self._generate(prior, given, self._prefix(committed, vectors))
        scores, best = self._select(plans, rows, given.frame)
        each = torch.arange(len(rows), device=self.device)
        chosen = plans[each, best]
        actions = self.task.command(chosen, given.frame)
        if not bool(actions.isfinite().all() & scores[each, best].isfinite().all()):
            raise none_finite(self.candidates)
        chunks = actions.double().cpu().numpy()[:, None]
        if self.control.n_action_steps > 1:
            plain = zip(chosen.cpu().numpy(), vectors, strict=True)
            chunks = np.stack([chunk_of(self.control, plan, vector) for plan, vector in plain])
        if committed is not None:
            rows_kept = min(len(committed), chunks.shape[1])
            chunks[:, :rows_kept] = committed[:rows_kept]
        return chunks

    def _prefix(self, committed: np.ndarray | None, vectors: np.ndarray) -> Tensor | None:
        """Committed commands (n, A) as actions of plans for observations (B, observation_dim): (B, P, A), normalised.

        NaN after row n.
        """
        if committed is None:
            return None
        made = [committed_columns(self.control, committed, vector, self.longest_prefix) for vector in vectors]
        return self.normalizer.entries(torch.from_numpy(np.stack(made)).to(self.device), self.action_columns)

    def _vector(self, observation: np.ndarray) -> np.ndarray:
        """The vector that is decided on (observation_dim,), checked."""
        control = self.control
        vector = decision_vector(control, observation, f" of {control.name}: {control.layout}")
        control.validate_observation(vector)
        return vector

    @torch.inference_mode()
    def unfamiliarity(self, observation: np.ndarray) -> float | None:
        """Return how far an observation is from what was learnt from, where the generator remembers it.

        Of the order of 1: as far as the data are from one another. Far above: never seen. None: not remembered.
        """
        if not hasattr(self.generator, "unfamiliarity"):
            return None
        rows = torch.from_numpy(self._vector(observation).astype(np.float32))[None].to(self.device)
        given, prior = self.encode(rows)
        found = self.generator.unfamiliarity(prior[:, 0], self.normalizer.context(given.context))
        return None if found is None else float(found)

    def encode(self, rows: Tensor) -> tuple[Given, Tensor]:
        """Observations (B, .) -> what plans start from, and priors (B, N, H, D)."""
        given = self.task.encode(rows)
        shape = (len(rows) * self.candidates, self.control.horizon, self.control.transition_dim)
        noise = torch.randn(shape, generator=self.rng, device=self.device)
        values = self.normalizer.entries(given.values, self.known)
        values = values if len(rows) == 1 else values.repeat_interleave(self.candidates, 0)
        prior = make_prior(noise, self.temperature.repeat(len(rows)), values, self.known)
        return given, prior.unflatten(0, (len(rows), self.candidates))

    def _generate(self, prior: Tensor, given: Given, prefix: Tensor | None = None) -> Tensor:
        """Priors -> plans (B, N, H, D) in task units."""
        context = embedded(self.generator, self.normalizer.context(given.context), given.images, self.asked, prefix)
        if len(context) > 1:
            context = context.repeat_interleave(self.candidates, 0)
        with self.products():
            more = inside(self.generator, self.asked)
            plans = self.generator.sample(prior.flatten(0, 1), context, generator=self.rng, **more).float()
        return self.normalizer.unnormalize(plans).view_as(prior)

    def products(self) -> torch.autocast:
        """The generator's products are as ``precision`` says within this."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def _select(self, plans: Tensor, rows: Tensor, frame: Any) -> tuple[Tensor, Tensor]:
        """Scores (B, N) and the winners (B,). A candidate that is not a number never wins."""
        scores = self.score(plans, rows, frame)
        if self.score_penalty is not None:
            scores = scores - self.score_penalty
        scores = torch.where(plans.isfinite().flatten(2).all(2), scores, torch.nan)
        return scores, torch.where(scores.isfinite(), scores, -torch.inf).argmax(1)

    def score(self, plans: Tensor, rows: Tensor, frame: Any) -> Tensor:
        """Plans (B, N, H, D) of observations (B, .), task units -> (B, N) by the selector.

        Raises:
            ValueError: neither the policy nor its task has one.
        """
        if self.selector is None:
            raise ValueError(
                f"task '{self.task.name}' has no selector of its own: give the policy one (selector=...), such as an "
                "IQL critic (`onestride train iql`) or a return model (`onestride train returns`)"
            )
        return self.selector(plans, rows, frame)

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
        """Write the checkpoint: config, weights and normaliser, all of it in one step."""
        asked = {name: value[0].tolist() for name, value in self.asked.items()}
        parts = Parts(self.task, self.generator, self.normalizer, self.selector, self.candidates, self.sampling, asked)
        save_parts(folder, parts, training)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        task: str | None = None,
        device: str = "cpu",
        seed: int = 0,
        candidates: int | None = None,
        selector: Selector | str | Path | None = None,
        precision: Precision = "32-true",
        conditions: Mapping[str, float | Sequence[float]] | None = None,
        n_action_steps: int | None = None,
    ) -> Policy:
        """Load a trained policy from a checkpoint's folder.

        task: the task it must be of, where the caller needs a certain one. selector: another one than the
        checkpoint's own: a function, or the folder of a learned one. conditions: what decisions ask for, in place of
        what the checkpoint says. n_action_steps: how many rows of a plan are carried out, if not as many as the task
        says.

        Raises:
            CheckpointError: no checkpoint there, altered, without its normaliser, or of another task.
        """
        parts, config = load_parts(Path(path), task, selector)
        if n_action_steps is not None:
            parts = replace(parts, task=parts.task.with_control(n_action_steps=n_action_steps))
        if parts.selector is None and parts.task.score is None and parts.asked:
            # It is asked for what is good, and nobody ranks: more candidates than one would be drawn for nothing.
            parts, candidates = replace(parts, selector=unselected), candidates or 1
        return cls(
            parts.task, parts.generator, parts.normalizer, selector=parts.selector,
            candidates=parts.candidates if candidates is None else candidates, sampling=parts.sampling, seed=seed,
            device=device, precision=precision, config=config,
            conditions=parts.asked if conditions is None else conditions,
        )  # fmt: skip


def unselected(plans: Tensor, observation: Tensor, frame: Any) -> Tensor:
    """The selector that prefers nothing: the first candidate, which is as random as any, wins."""
    del observation, frame
    return plans.new_zeros(plans.shape[:2])


def _ready(selector: Selector, device: torch.device) -> Selector:
    """A learned selector on the device, for scoring only."""
    return selector.to(device).eval().requires_grad_(False) if isinstance(selector, nn.Module) else selector
