"""The only optimisation loop: any module with a ``training_step`` or any learner, resumable to the bit on one CPU.

Several processes may train together (``ranks``): the first one writes.

Nothing random is kept between steps: which rows step t sees and which noise it draws are functions of the
seed and of t, so a run that was killed and started again ends with the weights of one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onestride.files import exclusive
from onestride.memory import keep_freed_memory
from onestride.progress import console, track
from onestride.training.config import TrainConfig
from onestride.training.datasets import Columns, Dataset, Order, as_dataset, mix
from onestride.training.interrupt import DeferredInterrupt
from onestride.training.learner import Group, LossTerms, PhaseLoss, as_learner
from onestride.training.log import Log
from onestride.training.muon import Muon, cpu_multiplies_bfloat16
from onestride.training.ranks import Ranks, check_shared
from onestride.training.state import STATE, MadeBy, Progress, TrainingState

LOOK_EVERY = 50  # steps between looks at the loss: a look waits for the device


class NonFiniteLossError(ArithmeticError):
    """Training met a loss that is not a number; the last good state is kept."""


def train(
    module: nn.Module,
    data: Dataset | Columns,
    config: TrainConfig,
    folder: Path,
    *,
    title: str,
    identity: dict[str, Any],
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a module on rows of ``data``; returns the EMA of what is deployed, and the training's log.

    Args:
        module: has a ``training_step(batch, rng) -> {"loss": a scalar, and named terms of it}``, or is a ``Learner``.
        data: what a batch is made of, see ``datasets``.
        config: how long and how.
        folder: keeps the state every ``checkpoint_every`` seconds and when it is told to end; the same call goes on.
            ``log/metrics.csv`` in it has the loss and all its terms.
        title: of the progress bar.
        identity: what else decides the result (data, network): a state made under another one is refused.

    Raises:
        NonFiniteLossError: a loss or a gradient stopped being a number.
        CheckpointError: the state in ``folder`` belongs to other settings, or another process trains there.
        ValueError: the data is less than one batch, or several processes cannot share one.
        KeyboardInterrupt, Terminated: Ctrl-C, SIGTERM or SIGHUP came, and the state is kept.
    """
    learner = as_learner(module)
    data, ranks = as_dataset(data), Ranks.here()
    ranks.check_batch(config.batch_size)
    precision = fast_precision() if config.precision == "auto" else config.precision
    fabric = ranks.fabric(config.accelerator, precision)
    device = fabric.device
    order = Order(data, config.batch_size, config.seed, device)
    if device.type == "cpu":
        keep_freed_memory()
    data = data.to(device)
    if not ranks.alone:
        check_shared(learner.to(device), ranks, order.rows(0), data.rows, config.seed)
    deployed: nn.Module = learner.deployed  # type: ignore[assignment]
    ema = copy.deepcopy(deployed).to(device).requires_grad_(False)
    phases = [_Phase(group, config) for group in learner.groups()]  # type: ignore[operator]
    optimizers = [each for phase in phases for each in phase.optimizers]
    loss_of, *optimizers = fabric.setup(PhaseLoss(learner), *optimizers)
    for phase in phases:
        phase.take(optimizers)
    parameters, ema_parameters = list(deployed.parameters()), list(ema.parameters())

    state_file = folder / STATE
    progress = Progress()
    kept = TrainingState(state_file, module, ema, [o for phase in phases for o in phase.optimizers])
    made_by = _made_by(config, {**identity, "precision": precision})
    terms = LossTerms(device)
    if state_file.exists():
        progress = kept.restore(made_by)
        terms.restore(progress.terms)
        if ranks.first:
            console.print(f"{title}: going on at step {progress.step} of {config.steps}", highlight=False)
    log = Log(folder / "log", progress.history, config.tensorboard, written=ranks.first)
    started = saved = time.monotonic()
    rng = torch.Generator(device)
    step, spent = progress.step, progress.seconds
    held = exclusive(folder) if ranks.first else nullcontext()
    with held, DeferredInterrupt() as interrupt, track(title, config.steps, done=step) as bar:
        while step < config.steps:
            rng.manual_seed(mix(config.seed, step))
            batch = cache(
                partial(data.rows, ranks.share(order.rows(step)))
            )  # gathered once, however many phases there are
            for phase in phases:
                if step % phase.group.every:
                    continue
                phase.schedule(_schedule(step, config))
                with ranks.drawing(rng, config.batch_size):
                    losses = loss_of(phase.group.phase, batch, rng)
                fabric.backward(losses["loss"])
                norm = phase.step()
                with torch.no_grad():  # a gradient that is no number is seen at the next look too
                    terms.add(phase.group.phase, losses | {"loss": losses["loss"] + 0 * norm})
            step += 1
            # Early steps average over few: the EMA forgets its random start.
            decay = min(config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(ema_parameters, parameters, 1 - decay)  # type: ignore
            look = step % LOOK_EVERY == 0 or step == config.steps
            stop = interrupt.requested if ranks.alone else look and ranks.any(interrupt.requested, device)
            if look or stop:
                if not ranks.alone:
                    terms.join(partial(fabric.all_reduce, reduce_op="mean"))
                known = terms.kept()
                bad = next((name for name, (total, _) in known.items() if not math.isfinite(total)), None)
                if bad is not None:
                    raise NonFiniteLossError(
                        f"{title}: '{bad}' or its gradient is not finite ({known[bad][0]}) at step {step}; the state "
                        f"of {'an earlier step' if state_file.exists() else 'no earlier step'} is kept in {folder}. "
                        "Lower the learning rate, or look for wild values in the data"
                    )
                if look:
                    known = {}
                    means = terms.means()
                    log.add(step, means)
                    said = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items() if name.endswith("loss"))
                    bar.update(step, said)
                now = time.monotonic()
                due = now - saved > config.checkpoint_every and step < config.steps
                if ranks.first and (stop or due):
                    _take_buffers(ema, deployed)
                    kept.save(made_by, Progress(step, spent + now - started, log.history, known))
                    log.flush()
                    saved = time.monotonic()
            if stop:
                raise interrupt.end()
        log.flush()
    _take_buffers(ema, deployed)
    seconds = spent + time.monotonic() - started
    made = {"seconds": seconds, "steps": step, "precision": precision, "device": str(device), "history": log.history}
    return ema, made


def _take_buffers(ema: nn.Module, deployed: nn.Module) -> None:
    """Buffers are no weights: the average has them as they are, such as running statistics or a count of steps."""
    with torch.no_grad():
        for mine, theirs in zip(ema.buffers(), deployed.buffers(), strict=True):
            mine.copy_(theirs)


class _Phase:
    """A group of parameters and what steps it: one optimiser, or two that share the parameters between them."""

    def __init__(self, group: Group, config: TrainConfig) -> None:
        self.group = group
        self.rate = config.learning_rate if group.learning_rate is None else group.learning_rate
        self.clip = config.grad_clip if group.grad_clip is None else group.grad_clip
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        self.parameters = list(group.parameters)
        muon = config.optimizer == "muon"
        matrices = [p for p in self.parameters if muon and p.ndim == 2]
        rest = [p for p in self.parameters if not muon or p.ndim != 2]
        self.optimizers: list[Any] = []
        if rest:
            made = torch.optim.AdamW(rest, lr=self.rate, weight_decay=decay, fused=True, betas=group.betas)
            self.optimizers.append(made)
        if matrices:
            made = Muon(matrices, lr=self.rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self.optimizers.append(made)

    def take(self, optimizers: list[Any]) -> None:
        """Take this phase's optimisers, as Fabric made them, off the front of the list."""
        self.optimizers = [optimizers.pop(0) for _ in self.optimizers]

    def schedule(self, factor: float) -> None:
        """Set the learning rate of a step, and forget gradients that other phases' losses left."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = self.rate * factor

    def step(self) -> Tensor:
        """Clip and step; returns the gradient's norm before that."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return norm


def finish(folder: Path) -> None:
    """Drop the state once the checkpoint it led to is on disk."""
    if (folder / STATE).exists():  # a disk that is read-only refuses to remove nothing
        (folder / STATE).unlink()


def fast_precision() -> Literal["bf16-mixed", "32-true"]:
    """bf16-mixed on a GPU, or on a CPU with units for it."""
    return "bf16-mixed" if torch.cuda.is_available() or cpu_multiplies_bfloat16() else "32-true"


def _schedule(step: int, config: TrainConfig) -> float:
    """Warm-up, then a cosine to zero, as a factor of the learning rate."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return warm * 0.5 * (1 + torch.cos(torch.tensor(step / config.steps * torch.pi)).item())


def _made_by(config: TrainConfig, identity: dict[str, Any]) -> MadeBy:
    """What must agree for a state to be gone on from; how often it is saved does not matter."""
    settings = {k: v for k, v in config.identity().items() if k not in ("checkpoint_every", "accelerator")}
    return MadeBy(settings, identity)
