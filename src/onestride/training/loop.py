"""The only optimisation loop: any method with a ``training_step``, resumable to the bit on the same CPU.

Nothing random is kept between steps: which rows step t sees and which noise it draws are functions of the
seed and of t, so a run that was killed and started again ends with the weights of one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from onestride.checkpoint import typed
from onestride.files import CheckpointError, decode, exclusive
from onestride.memory import keep_freed_memory
from onestride.progress import track
from onestride.tensors import load_tensors, save_tensors
from onestride.training.muon import Muon, cpu_multiplies_bfloat16

STATE = "training_state.safetensors"
LOOK_EVERY = 50  # steps between looks at the loss: a look waits for the device
Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how, with a short warm-up and a cosine to zero.

    optimizer: "muon" turns every matrix's momentum into the nearest orthogonal one (Jordan et al. 2024), scaled to the
    size of AdamW's steps (Liu et al. 2025), and leaves what is no matrix to AdamW. It costs as much per step whatever
    the batch, so give it large ones.
    """

    steps: int = 10_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    warmup: int = 200
    ema_decay: float = 0.999
    grad_clip: float = 1.0
    seed: int = 0
    precision: str = "auto"  # Fabric's names; "auto": bf16-mixed where the machine is fast at it, else 32-true
    accelerator: str = "auto"
    checkpoint_every: float = 30.0  # [s]
    optimizer: Optimizer = "adamw"

    def identity(self) -> dict[str, Any]:
        """What a result depends on. What came later counts where it is used: what was trained before stays itself."""
        return {k: v for k, v in asdict(self).items() if (k, v) != ("optimizer", "adamw")}

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"training needs steps and batch_size of at least 1, got {self.steps}, {self.batch_size}")
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(f"training.optimizer is {self.optimizer!r}; there are {', '.join(get_args(Optimizer))}")


class Method(Protocol):
    """What can be trained: an ``nn.Module`` whose step returns a dict with "loss", a scalar."""

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]: ...


class Asked:
    """Ctrl-C during a training, in the process's main thread, waits for the end of a step; a second one does not."""

    to_stop = False
    _before: Any = None

    def __enter__(self) -> Asked:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: Any) -> None:
        del number, frame
        if self.to_stop:
            raise KeyboardInterrupt
        self.to_stop = True

    def stop(self) -> None:
        if self.to_stop:
            raise KeyboardInterrupt


class NonFiniteLossError(ArithmeticError):
    """Training met a loss that is not a number; the last good state is kept."""


def train(
    method: nn.Module,
    data: dict[str, Tensor],
    config: TrainConfig,
    folder: Path,
    *,
    title: str,
    identity: dict[str, Any],
) -> tuple[nn.Module, dict[str, Any]]:
    """Train ``method`` on rows of ``data`` (every tensor (M, ...)) and return its EMA copy and what happened.

    ``folder`` keeps the state every ``checkpoint_every`` seconds and at Ctrl-C; the same call after a kill goes on.
    ``identity`` is what else decides the result (data, network): a state made under another one is refused.

    Raises:
        NonFiniteLossError: the loss stopped being a number.
        CheckpointError: the state in ``folder`` belongs to other settings, or another process trains there.
    """
    rows = len(next(iter(data.values())))
    if any(len(v) != rows for v in data.values()):
        raise ValueError(f"data columns differ in length: { {k: len(v) for k, v in data.items()} }")
    if rows < config.batch_size:
        raise ValueError(
            f"{rows} rows are fewer than one batch of {config.batch_size}; collect more, or lower training.batch_size"
        )
    from lightning_fabric import Fabric  # takes a second to import: only those who train pay it

    precision = fast_precision() if config.precision == "auto" else config.precision
    fabric = Fabric(accelerator=config.accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    device = fabric.device
    if device.type == "cpu":
        keep_freed_memory()
    data = {name: value.to(device) for name, value in data.items()}  # held on the device, gathered there
    ema = copy.deepcopy(method).to(device).requires_grad_(False)
    parameters = list(method.parameters())
    step_module, *optimizers = fabric.setup(_Step(method), *_optimizers(parameters, config))
    ema_parameters = list(ema.parameters())

    fingerprint = _fingerprint(config, {**identity, "precision": precision})
    state_file = folder / STATE
    step, spent, history, total = 0, 0.0, [], 0.0
    if state_file.exists():
        step, spent, history, total = _restore(state_file, method, ema, optimizers, fingerprint)
    started = saved = time.monotonic()
    generator = torch.Generator(device)
    order = _Order(rows, config, device)
    running = torch.full((), total, device=device)  # losses since the last look
    with exclusive(folder), Asked() as asked, track(title, config.steps, done=step) as bar:
        while step < config.steps:
            for group in chain(*(o.param_groups for o in optimizers)):
                group["lr"] = config.learning_rate * _schedule(step, config)
            generator.manual_seed(_mix(config.seed, step))
            index = order.rows(step)
            losses = step_module(partial(_rows_of, data, index), generator)
            fabric.backward(losses["loss"])
            norm = nn.utils.clip_grad_norm_(parameters, config.grad_clip, foreach=True)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            # Early steps average over few: the EMA forgets its random start.
            decay = min(config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(ema_parameters, parameters, 1 - decay)  # type: ignore
                running += losses["loss"] + 0 * norm  # a gradient that is no number is seen at the next look too
            look = step % LOOK_EVERY == 0 or step == config.steps
            if look or asked.to_stop:
                total = running.item()
                mean = total / (step % LOOK_EVERY or LOOK_EVERY)
                if mean != mean or abs(mean) == float("inf"):
                    raise NonFiniteLossError(
                        f"{title}: the loss or its gradient is not finite ({mean}) at step {step}; the state of "
                        f"{'an earlier step' if state_file.exists() else 'no earlier step'} is kept in {folder}. "
                        "Lower the learning rate, or look for wild values in the data"
                    )
                if look:
                    running.zero_()
                    total = 0.0
                    history.append([step, mean])
                    bar.update(step, f"loss {mean:.4f}")
                now = time.monotonic()
                due = now - saved > config.checkpoint_every and step < config.steps
                if asked.to_stop or due:
                    _save(state_file, method, ema, optimizers, fingerprint, step, spent + now - started, history, total)
                    saved = time.monotonic()
            asked.stop()
    seconds = spent + time.monotonic() - started
    return ema, {"seconds": seconds, "steps": step, "precision": precision, "device": str(device), "history": history}


def finish(folder: Path) -> None:
    """Drop the state once the checkpoint it led to is on disk."""
    if (folder / STATE).exists():  # a disk that is read-only refuses to remove nothing
        (folder / STATE).unlink()


def fast_precision() -> Literal["bf16-mixed", "32-true"]:
    """bf16-mixed on a GPU, or on a CPU with units for it."""
    return "bf16-mixed" if torch.cuda.is_available() or cpu_multiplies_bfloat16() else "32-true"


def _optimizers(parameters: list[nn.Parameter], config: TrainConfig) -> list[torch.optim.Optimizer]:
    """One, or two that share the parameters between them; the learning rate is set anew in every step."""
    rate, decay = config.learning_rate, config.weight_decay
    matrices = [p for p in parameters if p.ndim == 2] if config.optimizer == "muon" else []
    rest = [p for p in parameters if config.optimizer != "muon" or p.ndim != 2]
    made: list[torch.optim.Optimizer] = []
    if rest:
        made.append(torch.optim.AdamW(rest, lr=rate, weight_decay=decay, fused=True, betas=(0.9, 0.999)))
    if matrices:
        made.append(Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return made


class _Step(nn.Module):
    """``training_step`` as ``forward``, which is where Fabric sets precision (and, with more devices, gradients).

    The batch is gathered inside: tensors that pass Fabric's door are rounded to the precision of the products.
    """

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Callable[[], dict[str, Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        return self.method.training_step(batch(), generator)  # type: ignore[operator]


def _rows_of(data: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {name: column[index] for name, column in data.items()}


class _Order:
    """Which rows a step sees: every epoch its own shuffle, a function of seed and epoch alone."""

    def __init__(self, rows: int, config: TrainConfig, device: torch.device) -> None:
        self.size, self.count, self.seed, self.device = config.batch_size, rows, config.seed, device
        self.per_epoch = rows // config.batch_size
        self.epoch, self.shuffle = -1, torch.empty(0)

    def rows(self, step: int) -> Tensor:
        epoch, at = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffler = torch.Generator().manual_seed(_mix(self.seed, ~epoch))
            self.shuffle = torch.randperm(self.count, generator=shuffler).to(self.device)
            self.epoch = epoch
        return self.shuffle[at * self.size : (at + 1) * self.size]


def _mix(seed: int, step: int) -> int:
    """A 63-bit number that differs for every (seed, step)."""
    text = f"{seed}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def _schedule(step: int, config: TrainConfig) -> float:
    """Warm-up, then a cosine to zero, as a factor of the learning rate."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return warm * 0.5 * (1 + torch.cos(torch.tensor(step / config.steps * torch.pi)).item())


def _fingerprint(config: TrainConfig, identity: dict[str, Any]) -> str:
    """What must agree for a state to be gone on from; how often it is saved does not matter."""
    settings = {k: v for k, v in config.identity().items() if k not in ("checkpoint_every", "accelerator")}
    return hashlib.sha256(json.dumps([settings, identity], sort_keys=True).encode()).hexdigest()


def _save(
    path: Path, method: nn.Module, ema: nn.Module, optimizers: list[Any], fingerprint: str, step: int, seconds: float,
    history: list[list[float]], running: float,
) -> None:  # fmt: skip
    tensors = {f"method.{k}": v for k, v in method.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    first = 0
    for optimizer in optimizers:  # their parameters are numbered one after another
        for i, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{first + i}.{name}": value for name, value in slots.items()}
        first += _count(optimizer)
    header = {"fingerprint": fingerprint, "step": str(step), "seconds": str(seconds), "history": json.dumps(history)}
    header["running"] = str(running)
    save_tensors(path, tensors, header)


@dataclass(frozen=True)
class _Said:
    """The header of a state."""

    fingerprint: str
    step: int
    seconds: float
    history: str  # JSON
    running: float = 0.0


def _restore(
    path: Path, method: nn.Module, ema: nn.Module, optimizers: list[Any], fingerprint: str
) -> tuple[int, float, list[list[float]], float]:
    tensors, header = load_tensors(path, advice="delete that file to start over")
    said = typed(header, _Said, f"{path}, header", strict=False)
    if said.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} was left by a run with other settings or other data. Run with the same ones to go on, choose "
            "another --run, or delete that file to start over"
        )
    parts: dict[str, dict[str, Tensor]] = {"method": {}, "ema": {}, "optimizer": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    method.load_state_dict(parts["method"])
    ema.load_state_dict(parts["ema"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        i, _, slot = name.partition(".")
        state.setdefault(int(i), {})[slot] = value
    first = 0
    for optimizer in optimizers:
        mine = {i: state[first + i] for i in range(_count(optimizer)) if first + i in state}
        optimizer.load_state_dict({"state": mine, "param_groups": optimizer.state_dict()["param_groups"]})
        first += _count(optimizer)
    history: list[list[float]] = decode(said.history, list[list[int | float]], f"{path}, header, history")
    return said.step, said.seconds, history, said.running


def _count(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)
