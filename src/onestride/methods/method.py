"""A method: how plans are generated, from what that is learnt, and how it is called. One file defines one.

A generator is an ``nn.Module`` with ``sample(prior (B, H, D), context (B, C) or None, *, generator=None)`` and ``nfe``,
its network calls per decision. It returns plans (B, H, D), normalised as the prior is; known entries come back as they
are. One with ``embed(context (B, C)) -> (B, E)`` is given that instead of the context, made once per decision, before
candidates are drawn; ``methods/sighted.py`` gives any generator one where a task has cameras. What is trained is the
generator itself, by its ``training_step(batch, rng) -> {"loss": ...}``, or a learner (``training/learner.py``) that
owns it and whatever else has to be trained beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from onestride.plans.asking import Condition
from onestride.plans.spec import PlanSpec

#: Columns of a batch: windows {"plans" (B, H, D), "context" (B, C)}, pairs {"prior", "target" (B, H, D), "context",
#: "weight" (B,)}, transitions {"plans", "next_plans" (B, 1, D), the latter without their actions, "context",
#: "next_context" (B, C), "reward", "terminated" (B,)}, rewards scaled so that episodes' returns span 1000.
Needs = Literal["windows", "pairs", "transitions"]
#: Whose episodes: the run's own, its source's (another body's, see ``runs/sources.py``), or batches half of each.
Domain = Literal["own", "source", "both"]


@dataclass(frozen=True)
class Group:
    """Parameters that are stepped by one loss.

    phase: the loss's name. Where a value is None, ``TrainConfig`` says it. every: so many steps between two of its
    own. betas: of Adam.
    """

    phase: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float | None = None
    weight_decay: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float | None = None
    every: int = 1


@dataclass(frozen=True)
class Stepped:
    """How a method is sampled in another number of steps than its settings say.

    name: of such rows: "teacher-<name>-10". label: for readers, with {} for one step. settings: (the method's settings,
    steps) -> its settings with so many.
    """

    name: str
    label: str
    settings: Callable[[Any, int], Any]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What the rest of the house knows of a method.

    name: of its command, its folder in a run and its row of a table.
    label: what a reader calls it. colour: of its line in figures; None: the next free one.
    config: its settings, a frozen dataclass, as they are by default.
    build: (settings, PlanSpec) -> an untrained generator.
    needs: what it learns from.
    teacher: the method whose checkpoint in the run it learns from too; None: it does not.
    taught_by: settings -> the folder in the run of the checkpoint that it learns from, where its settings say which.
    fitted: (settings, the method of the checkpoint that teaches it, that method's settings as JSON gives them) ->
        settings that know both; asked before data is read.
    critic: the kind of the selector whose checkpoint in the run it learns from too; None: of none.
    columns: (``training.material.Material``, that selector) -> more columns (M, ...) of its windows.
    domain: whose episodes it learns from.
    conditions: what its plans may be asked for, beside what the task says.
    asked: conditions -> what a decision asks for where nobody says anything.
    conditional: whether its generator takes conditions itself: ``sample(..., conditions=...)``, and in a batch the
        columns "condition.<name>" (B, size). Others get them as more context, see ``methods/asked.py``.
    contexts: whether its conditions are made of a run's contexts (``runs/contexts.py``), which come first.
    begins_from: the folder in the run, without its seed, of the planner whose weights and normaliser it begins with.
    learner: (generator, teacher or None, settings) -> what is trained; None: the generator as it is.
    scheduled: (settings, training steps) -> settings that know how long training is; None: they need not.
    folder: where the run keeps it; None: ``<name>-<training seed>``, a student's.
    temperatures: of its candidates' noise and their shares; None: those of the pairs it learns from, or the paper's.
    compared: whether evaluations take it in.
    neighbours: settings -> how many windows of like conditions come beside every row, from how near (see
        ``training/neighbours.py``); (0, ...): none.
    samples: settings -> how many samples of every row a training step draws: by default batches have so many times
        fewer rows.
    stepped: how it is sampled in another number of steps, which need no other training; None: in its own alone.
    shortest: whether its plans are one row where a task carries out one and knows no more than where it starts.
    ranked: whether a preset's selector ranks its candidates where nothing else is said; not where they are all alike.
    """

    name: str
    label: str
    config: Any
    build: Callable[[Any, PlanSpec], nn.Module]
    needs: Needs = "windows"
    teacher: str | None = None
    taught_by: Callable[[Any], str] | None = None
    fitted: Callable[[Any, str, dict[str, Any]], Any] | None = None
    critic: str | None = None
    columns: Callable[[Any, Any], dict[str, Tensor]] | None = None
    domain: Domain = "own"
    conditions: tuple[Condition, ...] = ()
    asked: Mapping[str, float] = field(default_factory=dict)
    conditional: bool = False
    contexts: bool = False
    begins_from: str | None = None
    learner: Callable[[nn.Module, nn.Module | None, Any], nn.Module] | None = None
    scheduled: Callable[[Any, int], Any] | None = None
    colour: str | None = None
    folder: str | None = None
    temperatures: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    compared: bool = True
    neighbours: Callable[[Any], tuple[int, float]] = lambda _config: (0, 0.0)
    samples: Callable[[Any], int] = lambda _config: 1
    stepped: Stepped | None = None
    shortest: bool = False
    ranked: bool = True

    def __post_init__(self) -> None:
        if not self.name or not set(self.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") or self.name[0] == "-":
            raise ValueError(f"a method's name is {self.name!r}; expected lower-case letters, digits, '-' and '_'")

    def with_config(self, **changes: Any) -> Method:
        """Return the same method with other settings by default."""
        return replace(self, config=replace(self.config, **changes))
