"""What is evaluated as one row of a table: a method, and how its candidates are drawn, ranked and computed.

A result's row carries these fields under ``"variant"``; a reader takes them from there and never parses a row's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec

from onestride.files import CheckpointError
from onestride.methods import METHODS
from onestride.methods.method import Method, Stepped

#: ``Variant.ranking`` -> its name for a reader, in the order of every table.
RANKINGS = {
    "task": "the task's own", "iql": "IQL", "engine": "IQL, engine", "int8": "IQL, engine in 8 bits",
    "mixture": "IQL, λ of training", "first": "IQL, first action", "classifier": "return model",
    "unselected": "unselected",
}  # fmt: skip
ALL = 1_000_000  # steps of a teacher, in the order of rows, where it takes its own sampler's
OTHER = Stepped("ddim", "DDIM, {} step", lambda config, _steps: config)
_SELECTORS = {"returns": "classifier", "none": "unselected"}  # in rows' names
_BACKENDS = {"torch": "", "engine": "engine", "engine-int8": "int8"}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of an evaluation.

    method: "teacher", "dnk", "kdm", "kdm-f", "mlp", "ct", "cd", or the name of another one.
    selector: "iql", "returns", "task" (the task's own score), "none" (one candidate), or another one's name.
    backend: what computes decisions.
    candidates: drawn per decision, where not as many as the checkpoint says.
    sampling: how candidates' noise is scaled: as the selector asks, or as in training.
    scored_steps: of a plan, where not as many as the selector's own; 1 scores the first action alone.
    steps: that the method is sampled in (``Method.stepped``), such as a teacher by DDIM, where not as it was trained.
    actions: of a plan that are carried out before the next one is made, where not as many as the task says.
    setting: what of an ablation's training differs, such as "no-spectral".
    asked: conditions that are asked for where not as the checkpoint says, by name.
    weight: of classifier-free guidance, where not as the checkpoint says.
    """

    method: str
    selector: str
    backend: Literal["torch", "engine", "engine-int8"] = "torch"
    candidates: int | None = None
    sampling: Literal["selector", "training"] = "selector"
    scored_steps: int | None = None
    steps: int | None = None
    actions: int | None = None
    setting: str = ""
    asked: tuple[tuple[str, float], ...] = ()
    weight: float | None = None

    def __post_init__(self) -> None:
        for name in ("candidates", "scored_steps", "steps", "actions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} of a variant is {value}, expected at least 1 or None")

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Variant:
        """Return the variant of a result's row.

        Raises:
            CheckpointError: it has none, or one of another version.
        """
        try:
            return msgspec.convert(row["variant"], cls)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"a row of the result names no variant ({error}); evaluate again") from error

    def fields(self) -> dict[str, Any]:
        """Return the variant as a result's row holds it."""
        return asdict(self)

    @property
    def _stepped(self) -> Stepped:
        """How the method is sampled in ``steps``; rows of methods that are not known here are as the teacher's."""
        known = method_of(self.method)
        return OTHER if known is None or known.stepped is None else known.stepped

    @property
    def generator(self) -> str:
        """The part of the row's name that says where candidates come from: "dnk", "teacher-ddim-5", "no-spectral"."""
        name = self.method
        if self.setting:
            name = self.setting if name == "dnk" else f"{name}-{self.setting}"
        if self.steps is not None:
            name += f"-{self._stepped.name}-{self.steps}"
        if self.candidates is not None:
            name = f"{'' if name == 'dnk' else name + '-'}candidates-{self.candidates}"
        name += "".join(f"-{condition}-{value:g}" for condition, value in self.asked)
        name += "" if self.weight is None else f"-w-{self.weight:g}"
        return name if self.actions is None else f"{name}-actions-{self.actions}"

    @property
    def ranking(self) -> str:
        """The part of the row's name that says who ranks the candidates and how: "iql", "classifier", "engine"."""
        first_action = self.sampling == "training" and self.scored_steps == 1
        how = [_BACKENDS[self.backend], "mixture" if self.sampling == "training" and not first_action else ""]
        how.append("first" if first_action else f"scored-{self.scored_steps}" if self.scored_steps else "")
        how = [name for name in how if name]
        implied = how and self.selector in ("iql", "task")
        return "-".join(how if implied else [_SELECTORS.get(self.selector, self.selector), *how])

    @property
    def row(self) -> str:
        """The row's name: the generator, and the ranking where it is not the generator's usual one."""
        usual, known = "iql", method_of(self.method)
        if self.method == "teacher":
            usual = "classifier" if self.steps is None else "iql"
        elif known is not None and known.conditions:  # it is asked for what is good, and nobody ranks
            usual = "unselected"
        return self.generator if self.ranking in (usual, "task") else f"{self.generator}-{self.ranking}"

    @property
    def label(self) -> str:
        """The row's name for a reader: "DNK (return model)", "Teacher, DDIM, 5 steps"."""
        known = method_of(self.method)
        name = known.label if known is not None else self.method
        if self.setting:
            name += f", {self.setting}"
        counts = (self.steps, self._stepped.label), (self.candidates, "{} candidate"), (self.actions, "{} action")
        for count, what in counts:
            if count is not None:
                name += f", {what.format(count)}{'' if count == 1 else 's'}"
        name += "".join(f", {condition} {value:g}" for condition, value in self.asked)
        name += "" if self.weight is None else f", w = {self.weight:g}"
        if self.row == self.generator:
            return name
        who = RANKINGS.get(self.ranking, self.ranking)
        return f"{name} ({who.removeprefix('IQL, ') if self.selector == 'task' else who})"

    @property
    def order(self) -> tuple[Any, ...]:
        """Key to sort rows by: as ``METHODS`` lists them, each one's usual ranking first, then as ``RANKINGS`` does."""
        ranking = list(RANKINGS).index(self.ranking) if self.ranking in RANKINGS else len(RANKINGS)
        counts = -(self.steps or ALL), self.candidates or 0, self.actions or 0
        return (
            place(self.method),
            self.method,
            self.setting,
            *counts,
            self.asked,
            self.row != self.generator,
            ranking,
            self.ranking,
        )


def method_of(name: str) -> Method | None:
    """Return the method that is called so in rows, by its folder in a run where it has one; None: not known here."""
    if name in METHODS:
        return METHODS[name]()
    return next((each for each in (make() for make in METHODS.values()) if each.folder == name), None)


def place(name: str) -> int:
    """Return where a method stands among all, as ``METHODS`` lists them; those that are not known come last."""
    known = method_of(name)
    return len(METHODS) if known is None else list(METHODS).index(known.name)
