"""Processes that train together (DDP): each has its share of every batch, and the loss is that of the whole batch.

Which process this is stands in the environment, as ``torchrun`` and ``onestride train NAME --devices N`` write it.
Noise is drawn for the whole batch everywhere, and each process takes that of its own rows: a loss that is a mean over
rows then has the same curve in one process as in several.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Of the environment: the process that began all of them, which they do not outlive.
LAUNCHER = "ONESTRIDE_LAUNCHER"
CHECKED = 32  # rows of each half in the check that a loss is a mean over rows
TOLERANCE = 1e-3  # of the gradient's norm, in that check
DRAWS = (torch.randn, torch.rand, torch.randint)


@dataclass(frozen=True)
class Ranks:
    """Which process this is (``rank``), of how many (``world``), so many of them on this machine (``local``)."""

    rank: int = 0
    world: int = 1
    local: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return what the environment says; alone where it says nothing."""
        world = int(os.environ.get("WORLD_SIZE", 1))
        if world < 2 or "RANK" not in os.environ:
            return cls()
        return cls(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_WORLD_SIZE", world)))

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.world == 1

    def fabric(self, accelerator: str, precision: Any) -> Any:
        """Return a Fabric of these processes, launched."""
        from lightning_fabric import Fabric  # takes a second to import: only those who train pay it

        if self.alone:
            made = Fabric(accelerator=accelerator, devices=1, precision=precision)
        else:
            from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
            from lightning_fabric.strategies.ddp import DDPStrategy

            end_with_launcher()
            made = Fabric(
                accelerator=accelerator, devices=self.local, num_nodes=self.world // self.local, precision=precision,
                strategy=DDPStrategy(find_unused_parameters=True),  # a phase's loss is of some of the parameters
                plugins=[TorchElasticEnvironment()],
            )  # fmt: skip
        made.launch()
        return made

    def check_batch(self, batch_size: int) -> None:
        """Raise ValueError unless every process has as many rows of a batch."""
        if batch_size % self.world:
            raise ValueError(
                f"training.batch_size is {batch_size}, which {self.world} processes cannot share alike: take a "
                f"multiple of {self.world}, such as {-(-batch_size // self.world) * self.world}"
            )

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's of a batch's rows."""
        return rows if self.alone else rows[self.rank :: self.world]

    def drawing(self, rng: torch.Generator, rows: int) -> AbstractContextManager[Any]:
        """Return the context in which ``rng`` draws for this process's share of a batch of so many rows in all."""
        return nullcontext() if self.alone else SharedDraws(rng, rows // self.world, self.rank, self.world)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether any process says so; all have to ask."""
        if self.alone:
            return flag
        said = torch.tensor(float(flag), device=device)
        torch.distributed.all_reduce(said)  # how many say so
        return bool(said)


class SharedDraws(TorchFunctionMode):
    """Draws from one generator are made for the whole batch, and thinned out to this process's rows.

    It is the first dimension, or the second, that counts the rows, or a multiple of them where a row has several draws
    in a row. What is drawn once for all rows is the same everywhere.
    """

    def __init__(self, rng: torch.Generator, rows: int, rank: int, world: int) -> None:
        super().__init__()
        self.rng, self.rows, self.rank, self.world = rng, rows, rank, world

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        said = dict(kwargs or {})
        if func not in DRAWS or said.get("generator") is not self.rng:
            return func(*args, **said)
        before, size = _size(func, args, said)
        dim = next((i for i, n in enumerate(size[:2]) if n and n % self.rows == 0), None)
        if dim is None:
            return func(*before, size, **said)
        whole = (*size[:dim], size[dim] * self.world, *size[dim + 1 :])
        drawn = func(*before, whole, **said).unflatten(dim, (self.rows * self.world, -1))
        return drawn[(*[slice(None)] * dim, slice(self.rank, None, self.world))].flatten(dim, dim + 1)


def _size(func: Callable[..., Any], args: Sequence[Any], said: dict[str, Any]) -> tuple[list[Any], tuple[int, ...]]:
    """The arguments of a draw before its size, and its size."""
    if "size" in said:
        return list(args), tuple(said.pop("size"))
    if func is torch.randint or not isinstance(args[0], int):
        return list(args[:-1]), tuple(args[-1])
    return [], tuple(args)


def check_shared(
    learner: nn.Module, ranks: Ranks, rows: Tensor, batch: Callable[[Tensor], dict[str, Tensor]], seed: int
) -> None:
    """Raise ValueError unless processes can share a batch of what is trained; see ``disagreement``."""
    off = disagreement(learner, rows, batch, seed)
    worst = max(off, key=off.__getitem__)
    if off[worst] > TOLERANCE:
        loss = f"its loss '{worst}'" if worst else "its loss"
        raise ValueError(
            f"{ranks.world} processes cannot share a batch of this method: {loss} is no mean over rows, or draws other "
            f"noise than row by row (the gradient would be off by {off[worst]:.1%}). Train it with --devices 1"
        )


def disagreement(
    learner: nn.Module, rows: Tensor, batch: Callable[[Tensor], dict[str, Tensor]], seed: int
) -> dict[str, float]:
    """Return how far each phase's gradient of two halves of a batch is from that of the whole, as a part of its norm.

    Args:
        learner: see ``Learner``; it stays as it is.
        rows: numbers of a step's rows (B,), of which a few are looked at.
        batch: numbers (B,) -> a batch.
        seed: of the noise.
    """
    count = min(len(rows) // 2 * 2, 2 * CHECKED)
    rows = rows[:: len(rows) // count][:count]  # of every part of the data
    found: dict[str, float] = {}
    for group in learner.groups():  # type: ignore[operator]
        whole = _gradient(learner, group.phase, batch(rows), seed, Ranks(), count)
        halves = [Ranks(rank, 2, 2) for rank in range(2)]
        parts = [_gradient(learner, group.phase, batch(each.share(rows)), seed, each, count) for each in halves]
        found[group.phase] = float((torch.stack(parts).mean(0) - whole).norm() / whole.norm().clamp(min=1e-30))
    return found


def _gradient(
    learner: nn.Module, phase: str, batch: dict[str, Tensor], seed: int, ranks: Ranks, rows: int
) -> Tensor:  # fmt: skip
    """The gradient of a phase's loss with respect to its parameters, as one vector, of a copy of the learner."""
    trial: Any = copy.deepcopy(learner)
    rng = torch.Generator(next(iter(batch.values())).device).manual_seed(seed)
    with ranks.drawing(rng, rows):
        loss = trial.loss(phase, batch, rng)["loss"]
    (group,) = (group for group in trial.groups() if group.phase == phase)
    parameters = [p for p in group.parameters if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    each = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True))
    return torch.cat([gradient.flatten() for gradient in each])


# ---------------------------------------------------------------- what all processes do


def wait_for_all() -> None:
    """Wait until every process that trains together is here, where there is more than this one."""
    if not Ranks.here().alone and torch.distributed.is_initialized():
        torch.distributed.barrier()


def end_with_launcher() -> None:
    """End this process when the one that launched it is gone, or it would wait for the others for ever."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is not None and not any(thread.name == LAUNCHER for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(int(launcher),), name=LAUNCHER, daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)
