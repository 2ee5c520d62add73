"""What generators around another one share: cameras, conditions, prefixes and guidance are each such a wrapper.

The generator inside knows nothing of it. What it is told more is in its context, of a batch (``seen``) and at a
decision (``embed``); or its estimates are changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onestride.methods.method import Group


class WrappedPlanner(nn.Module):
    """A generator around another one, with its settings and its calls.

    Args:
        planner: the generator inside.
    """

    method: str

    def __init__(self, planner: Any) -> None:
        super().__init__()
        self.planner = planner
        self.deterministic = getattr(planner, "deterministic", False)
        self.prior_scaled = getattr(planner, "prior_scaled", True)

    @property
    def config(self) -> Any:
        """The method's settings."""
        return self.planner.config

    @property
    def nfe(self) -> int:
        """Network calls of the method's generator per decision."""
        return self.planner.nfe

    def sample(
        self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None, **more: Any
    ) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D) and what ``embed`` made (1 or B, .)."""
        return self.planner.sample(prior, context, generator=generator, **more)

    def seen(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return a batch as the generator inside learns from it."""
        del rng
        return batch

    def training_step(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the method's loss of a batch."""
        return self.planner.training_step(self.seen(batch, rng), rng)


class WrappedLearner(nn.Module):
    """A method's learner, whose batches a wrapper changes anew in each of its phases.

    Args:
        generator: with the method's generator inside, which ``learner`` trains.
        learner: the method's.
    """

    def __init__(self, generator: WrappedPlanner, learner: Any) -> None:
        super().__init__()
        self.deployed, self.learner = generator, learner

    def groups(self) -> Sequence[Group]:
        """Return the method's groups."""
        return self.learner.groups()

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the loss of a phase of the method."""
        return self.learner.loss(phase, self.deployed.seen(batch, rng), rng)
