"""What is trained where one network with one loss is not enough: several, each with its phase, optimiser and loss.

A step of training goes through the phases in their order, on one batch. A learner owns what has to be trained beside
the generator, such as a score network that is not deployed; a teacher that is only asked may be held without being
registered, since everything registered is part of the state that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from onestride.methods.method import Group


@runtime_checkable
class Learner(Protocol):
    """An ``nn.Module`` with the generator that is deployed, the groups of its parameters, and a loss for each phase.

    loss(phase, batch, rng) -> {"loss": a scalar, and named terms of it to be logged}.
    """

    deployed: nn.Module

    def groups(self) -> Sequence[Group]: ...

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]: ...


class Alone(nn.Module):
    """A module with a ``training_step`` as a learner: one phase, all its parameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.deployed = module

    def groups(self) -> Sequence[Group]:
        """Return all of the module's parameters as one group."""
        return (Group("", list(self.deployed.parameters())),)

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return what the module's ``training_step`` does."""
        del phase
        return self.deployed.training_step(batch, rng)  # type: ignore[operator]


def as_learner(module: nn.Module) -> nn.Module:
    """Return a learner: the module itself if it is one.

    Raises:
        TypeError: it is none, and has no ``training_step`` either.
        ValueError: two groups share a parameter, one has none, or a phase has two groups.
    """
    if isinstance(module, Learner):
        groups = module.groups()
        phases, parameters = [g.phase for g in groups], [id(p) for g in groups for p in g.parameters]
        if not groups or len(set(phases)) < len(phases) or not all(len(g.parameters) for g in groups):
            raise ValueError(f"a learner needs phases of one group of parameters each, got {phases}")
        if len(set(parameters)) < len(parameters):
            raise ValueError(f"two of the phases {phases} step the same parameter; give it to one of them")
        return module
    if not hasattr(module, "training_step"):
        raise TypeError(f"a {type(module).__name__} has no training_step and is no Learner: there is nothing to train")
    return Alone(module)


class PhaseLoss(nn.Module):
    """``loss`` as ``forward``, which is where Fabric sets precision and, with more devices, joins gradients.

    Of the named terms no gradient is taken, and none is waited for.

    The batch is gathered inside: tensors that pass Fabric's door are rounded to the precision of the products.
    """

    def __init__(self, learner: nn.Module) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, phase: str, batch: BatchOf, rng: torch.Generator) -> dict[str, Tensor]:
        """Return a phase's loss and its named terms."""
        losses = self.learner.loss(phase, batch(), rng)  # type: ignore[operator]
        return {name: value if name == "loss" else value.detach() for name, value in losses.items()}


class BatchOf(Protocol):
    """Gathers a step's batch."""

    def __call__(self) -> dict[str, Tensor]: ...


class LossTerms:
    """Every named term of every phase, summed on the device between looks, averaged when somebody looks.

    A look waits for the device; adding does not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: list[str] = []
        self.sums: dict[str, Tensor] = {}
        self.steps: dict[str, int] = {}

    def add(self, phase: str, losses: dict[str, Tensor]) -> None:
        """Take in a step's losses."""
        for name, value in losses.items():
            key = f"{phase}/{name}" if phase else name
            if key not in self.sums:
                self.sums[key] = torch.zeros((), device=self.device)
                self.steps[key] = 0
            self.sums[key] += value.detach()
            self.steps[key] += 1

    def restore(self, kept: dict[str, tuple[float, int]]) -> None:
        """Go on from what ``kept`` gave."""
        self.sums = {name: torch.full((), total, device=self.device) for name, (total, _) in kept.items()}
        self.steps = {name: steps for name, (_, steps) in kept.items()}

    def join(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Replace the sums by their mean over all processes, each of which has to ask.

        Args:
            mean: of a tensor over processes.
        """
        if self.sums:
            joined = mean(torch.stack(list(self.sums.values())))
            self.sums = dict(zip(self.sums, joined.unbind(), strict=True))

    def kept(self) -> dict[str, tuple[float, int]]:
        """Return sums and steps since the last look."""
        return {name: (total.item(), self.steps[name]) for name, total in self.sums.items()}

    def means(self) -> dict[str, float]:
        """Return every term's mean since the last look, and start over."""
        found = dict(self._means())
        for name in self.sums:
            self.sums[name].zero_()
            self.steps[name] = 0
        return found

    def _means(self) -> Iterator[tuple[str, float]]:
        for name, total in self.sums.items():
            if self.steps[name]:
                yield name, total.item() / self.steps[name]
