"""A decision in torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from onestride.engine.graph import quiet
from onestride.engine.runners import Answer
from onestride.engine.whole import DecisionModule, beside_of


class TorchRunner:
    """The module in torch, as it is or compiled."""

    checks = False

    def __init__(self, decision: DecisionModule, device: torch.device | str = "cpu", *, compiled: bool = False) -> None:
        self.name = "compile" if compiled else "torch"
        self.module = decision.to(device)
        self._call: Callable[..., Any] = self.module
        self._process = os.getpid() if compiled else None
        self._observation = torch.zeros(decision.control.observation_dim, device=device)
        self._draws = torch.arange(decision.draws, device=device).view(-1, 1)
        beside = beside_of(decision)
        self._beside = () if beside is None else (torch.full(beside[1], torch.nan, device=device),)
        if compiled:  # now, not in the first decision
            with quiet():
                self._call = torch.compile(self.module)
                self.run(np.zeros(decision.control.observation_dim, np.float32), 0)

    @torch.inference_mode()
    def ask(self, numbers: np.ndarray) -> None:
        """Ask for these conditions (K,), or commit these columns (P, A), from the next decision on; NaN: not."""
        for beside in self._beside:
            beside.copy_(torch.from_numpy(numbers))

    @torch.inference_mode()
    def run(self, observation: np.ndarray, draw: int) -> Answer:
        if self._process is not None and self._process != os.getpid():
            raise RuntimeError(
                "compiled code waits for threads that a forked process does not have; make the engine there, or start "
                'the process by multiprocessing.get_context("spawn")'
            )
        self._observation.copy_(torch.from_numpy(observation))
        choice = self._call(self._observation, self._draws[draw], *self._beside)
        plan = None if choice.plan is None else choice.plan.cpu().numpy()
        return Answer(
            choice.action.cpu().numpy(), float(choice.score), int(choice.winner), choice.scores.cpu().numpy(), plan
        )
