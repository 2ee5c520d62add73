"""The interface of a task: everything that training, evaluation and control know about a robot and its problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from onestride.data.actors import Behaviour, identities
from onestride.data.collect import Source
from onestride.data.episode import Episode
from onestride.networks.normalizer import Z_SCORES, Scaling
from onestride.plans.asking import Condition
from onestride.plans.given import Given
from onestride.plans.spec import Block, PlanSpec
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec
from onestride.tasks.metric import Metric

#: Maps plans (B, N, H, D) in task units, observation (B, observation_dim) and frame to scores (B, N), higher is better.
Selector = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class Benchmark:
    """A Gymnasium environment that waits for its planner, with its reference returns.

    Attributes:
        environment: Gymnasium's id with its version.
        random: the return that counts as 0, D4RL's of a random policy.
        expert: the return that counts as 1, D4RL's of an expert.
    """

    environment: str
    random: float
    expert: float

    @property
    def referenced(self) -> bool:
        """Whether it has reference returns; without them 0 and 1 stand there, and a normalised return is a return."""
        return (self.random, self.expert) != (0, 1)

    def normalised(self, total: float) -> float:
        """Return D4RL's normalised return of an episode's return: 1 is an expert's (D4RL multiplies by 100)."""
        return (total - self.random) / (self.expert - self.random)


@dataclass(frozen=True)
class Native:
    """How the engine's C files compute ``validate_observation``, ``encode``, ``score`` and ``command``.

    Attributes:
        kind: "plain": plan rows are [observation | action] in the robot's units, a command is a plan's first action
            within the limits, there is no context, and any finite observation can be acted on. "arm": see
            ``engine/c/arm.h``.
        constants: the numbers that the C file reads, in its order.
    """

    kind: Literal["plain", "arm"]
    constants: Tensor | None = None


@dataclass(frozen=True)
class Demonstrations:
    """Where a task's own demonstrations come from.

    Attributes:
        source: makes their chunks, see ``data/collect.py``.
        metadata: what they depend on besides the seed, written with the data set.
        reference: maps seeds of evaluations' starts to the demonstrator's own episodes from there, with which planners'
            are compared; None: it has none.
    """

    source: Source
    metadata: dict[str, Any]
    reference: Callable[[Iterable[int]], Iterator[Episode]] | None = None


@dataclass(frozen=True)
class NeedsActor:
    """Where a task's own demonstrations come from, if its demonstrator needs a trained actor that the user gives.

    Attributes:
        what: such an actor does, and where there is one.
        observation_dim: numbers that it maps.
        action_dim: numbers that it maps them to.
        demonstrations: maps the actor to where its demonstrations come from.
    """

    what: str
    observation_dim: int
    action_dim: int
    demonstrations: Callable[[Behaviour], Demonstrations]

    def of(self, task: str, actors: Sequence[Behaviour]) -> Demonstrations:
        """Return where the demonstrations of the one actor that was given come from.

        Raises:
            ValueError: there is none, there are several, or it has other shapes.
        """
        sizes = f"{self.observation_dim} numbers to {self.action_dim}"
        if len(actors) != 1:
            raise ValueError(
                f"task '{task}' needs one actor for its demonstrations, got {len(actors)}: give with --behaviours one "
                f"that {self.what}; it maps {sizes}"
            )
        (actor,) = actors
        found = (actor.observation_dim, actor.action_dim)
        if None not in found and found != (self.observation_dim, self.action_dim):
            raise ValueError(
                f"behaviour policy '{actor.name}' maps {found[0]} numbers to {found[1]}; task '{task}' needs an actor "
                f"that {self.what}, and maps {sizes}"
            )
        made = self.demonstrations(actor)
        return replace(made, metadata={**made.metadata, "behaviours": identities(actors)})


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: its control interface, and what planners are trained and evaluated on.

    Functions are batched torch unless stated otherwise.

    Attributes:
        control: the control interface: name, sizes of observations and plans, control period and limits.
        context_dim: C, size of the context.
        encode: maps observations (B, observation_dim) to ``Given``.
        plan_window: maps observations (B, n_obs_steps - 1 + H, step_dim), whose first rows are the history, and actions
            (B, H, A) to plans (B, H, D) and context (B, C).
        command: maps plans (B, H, D) and their frame to the first command (B, A) in the robot's units.
        score: maps plans (B, N, H, D), observations (B, observation_dim) and frame to scores (B, N), higher is better:
            the task's own selector. None where the selector is learnt.
        paths: maps plans (B, M, D) and B frames to positions (B, M, 3) for figures [m].
        scenes: maps a count and a seed to problems for evaluation, which are never trained on.
        environment: maps a scene and a clock to a simulated robot in that scene.
        first_observation: maps a scene to the robot's first observation.
        measure: maps a robot and its scene to the task's own metrics of a finished trial, with units in their names.
        measure_candidates: maps paths (N, H, 3), the teacher's from the same noise, a scene and whether ``showcase``
            names it to metrics of candidates before any selector; None: nothing is measured of them.
        showcase: maps scenes to the numbers of those that figures and films show; all of them by default.
        measure_episode: maps an episode of a benchmark to metrics of its own, None for one that does not apply to it;
            None: its return is all.
        metrics: what of ``measure`` and ``measure_candidates``, or of a benchmark's episodes, goes into tables.
        notes: what readers of these tables have to know.
        known: which entries of a plan the observation gives, see ``PlanSpec``; None: the observation columns of row 0.
        scaling: how plans and context are normalised.
        conditions: what may be asked for beside the context, such as a return.
        prefix: how many of a plan's first commands may be committed before it is made, see ``methods/prefixed.py``.
        padding: how windows end an episode. "hold" repeats the last row (position commands), "none" takes only
            complete windows.
        early_oversampling: (steps, times): windows that begin in an episode's first steps are used that many times. In
            long episodes that start from rest, the transient at the start is a small part of the data.
        terminates: whether an episode can end for good, by a fall or at a goal, instead of being cut off.
        benchmark: the environment and reference returns of a benchmark of returns, or None.
        demonstrations: where episodes to learn from come from, perhaps once there is an actor; None where they are
            recorded, or the arm's.
        native: how ``engine/c`` computes the task's functions; None where it cannot.
    """

    control: ControlSpec
    context_dim: int
    encode: Callable[[Tensor], Given]
    plan_window: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    command: Callable[[Tensor, Any], Tensor]
    score: Selector | None
    paths: Callable[[Tensor, Any], Tensor]
    scenes: Callable[[int, int], Sequence[Any]]
    environment: Callable[[Any, Clock], Any]
    first_observation: Callable[[Any], np.ndarray]
    measure: Callable[[Any, Any], dict[str, Any]]
    measure_candidates: Callable[[np.ndarray, np.ndarray, Any, bool], dict[str, float]] | None = None
    showcase: Callable[[Sequence[Any]], list[int]] = lambda scenes: list(range(len(scenes)))
    metrics: tuple[Metric, ...] = ()
    measure_episode: Callable[[Episode], Mapping[str, float | None]] | None = None
    notes: tuple[str, ...] = ()
    known: tuple[Block, ...] | None = None
    scaling: Scaling = Z_SCORES
    conditions: tuple[Condition, ...] = ()
    prefix: int = 0
    padding: Literal["hold", "none"] = "hold"
    early_oversampling: tuple[int, int] = (0, 1)
    terminates: bool = True
    benchmark: Benchmark | None = None
    demonstrations: Demonstrations | NeedsActor | None = None
    native: Native | None = None

    @property
    def name(self) -> str:
        """The task's name, its control interface's."""
        return self.control.name

    def positions(self, plans: Tensor, observations: Tensor) -> Tensor:
        """Return the positions (B, N, H, 3) [m] of plans (B, N, H, D) for observations (B, observation_dim)."""
        frame = self.encode(observations).frame
        return self.paths(plans.flatten(1, 2), frame).unflatten(1, plans.shape[1:3])

    @property
    def has_demonstrator(self) -> bool:
        """Whether the task makes its own episodes, instead of behaviour policies in its environment."""
        return self.benchmark is None or self.demonstrations is not None

    @property
    def needs_actor(self) -> bool:
        """Whether its demonstrator needs a trained actor that the user gives."""
        return isinstance(self.demonstrations, NeedsActor)

    def demonstrations_by(self, actors: Sequence[Behaviour]) -> Demonstrations:
        """Return where the task's own demonstrations come from.

        Args:
            actors: that were given, for a demonstrator that needs one.

        Raises:
            ValueError: the task has no demonstrator, or it needs other actors than these.
        """
        own = self.demonstrations
        if isinstance(own, NeedsActor):
            return own.of(self.name, actors)
        if own is None or actors:
            raise ValueError(
                f"task '{self.name}' has {'no demonstrations of its own' if own is None else 'a planner of its own'}, "
                f"which {'behaviour policies make' if own is None else 'needs no behaviour policy'}"
            )
        return own

    def with_control(self, **changes: Any) -> Task:
        """Return the task with these fields of its control interface changed, such as ``horizon``."""
        return replace(self, control=replace(self.control, **changes))

    @property
    def shortest(self) -> int:
        """Rows of the shortest plan to learn: 1, or all where several are carried out or a later row is known."""
        return 1 if self.control.n_action_steps == 1 and self.known is None else self.control.horizon

    @property
    def plans(self) -> PlanSpec:
        """The shape of the task's plans, and which of their entries are known."""
        return PlanSpec(
            horizon=self.control.horizon,
            state_dim=self.control.state_dim,
            action_dim=self.control.action_dim,
            context_dim=self.context_dim,
            known=self.known,
            conditions=tuple((each.name, each.size) for each in self.conditions),
            prefix=self.prefix,
        )
