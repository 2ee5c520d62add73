"""The state of a training on disk, from which a killed one goes on to the same bits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onestride.checkpoint import typed
from onestride.differences import differing
from onestride.files import CheckpointError, decode
from onestride.tensors import load_tensors, save_tensors

STATE = "training_state.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a training is. terms: sums of the losses since the last look, and of how many steps."""

    step: int = 0
    seconds: float = 0.0
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    terms: dict[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class MadeBy:
    """What must agree for a state to be gone on from: how it is trained, and what else decides the result."""

    training: dict[str, Any]
    identity: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Return the digest of both."""
        return hashlib.sha256(json.dumps([self.training, self.identity], sort_keys=True).encode()).hexdigest()

    @property
    def named(self) -> dict[str, Any]:
        """Return both by names."""
        return {"training": self.training, **self.identity}


@dataclass(frozen=True)
class _Header:
    """The header of a state. made_by: JSON, what its fingerprint is of, for people; earlier versions had none."""

    fingerprint: str
    step: int
    seconds: float
    history: str  # JSON
    terms: str = "{}"  # JSON
    made_by: str = "null"


@dataclass(frozen=True)
class TrainingState:
    """The state of a training on disk."""

    path: Path
    module: nn.Module
    ema: nn.Module
    optimizers: list[Any]

    def save(self, made_by: MadeBy, progress: Progress) -> None:
        """Write it, all or nothing."""
        tensors = {f"method.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        first = 0
        for optimizer in self.optimizers:  # their parameters are numbered one after another
            for i, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{first + i}.{name}": value for name, value in slots.items()}
            first += _count(optimizer)
        header = {"fingerprint": made_by.fingerprint, "made_by": json.dumps(made_by.named)}
        header |= {"step": str(progress.step), "seconds": str(progress.seconds)}
        header |= {"history": json.dumps(progress.history), "terms": json.dumps(progress.terms)}
        save_tensors(self.path, tensors, header)

    def restore(self, made_by: MadeBy) -> Progress:
        """Load it into module, EMA and optimisers; returns how far it is.

        Raises:
            CheckpointError: it is damaged, or of other settings.
        """
        path = self.path
        tensors, header = load_tensors(path, advice="delete that file to start over")
        said = typed(header, _Header, f"{path}, header", strict=False)
        if said.fingerprint != made_by.fingerprint:
            there = decode(said.made_by, dict[str, Any] | None, f"{path}, header, made_by")
            which = "" if there is None else differing(there, made_by.named)
            raise CheckpointError(
                f"{path} was left by a run with other settings or other data{which}. Run with the same ones to go on, "
                "choose another --run, or delete that file to start over"
            )
        parts: dict[str, dict[str, Tensor]] = {"method": {}, "ema": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.module.load_state_dict(parts["method"])
        self.ema.load_state_dict(parts["ema"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            i, _, slot = name.partition(".")
            state.setdefault(int(i), {})[slot] = value
        first = 0
        for optimizer in self.optimizers:
            mine = {i: state[first + i] for i in range(_count(optimizer)) if first + i in state}
            optimizer.load_state_dict({"state": mine, "param_groups": optimizer.state_dict()["param_groups"]})
            first += _count(optimizer)
        history = decode(said.history, dict[str, list[list[int | float]]], f"{path}, header, history")
        terms = decode(said.terms, dict[str, tuple[float, int]], f"{path}, header, terms")
        return Progress(said.step, said.seconds, history, terms)


def _count(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)
