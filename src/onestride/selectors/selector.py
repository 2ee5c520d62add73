"""A selector: what ranks the candidates of a decision. One file defines one kind.

A selector of a policy is called with plans (B, N, H, D), observations (B, observation_dim) and the frame, all in task
units, and returns scores (B, N), higher is better. Those of a kind are an ``nn.Module`` that also has ``kind``, the
name, ``model`` (what was learnt, an ``nn.Module``, or None), ``normalizer`` and ``options``: so much is stored of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from onestride.networks.normalizer import Normalizer
from onestride.plans.spec import PlanSpec
from onestride.robot.control_spec import ControlSpec


@dataclass(frozen=True)
class NoOptions:
    """A selector that can be asked for in one way only."""


@dataclass(frozen=True, kw_only=True)
class SelectorKind:
    """What the rest of the house knows of a kind of selectors.

    name: of its command, of its folder in a run, of its entry in a checkpoint. label: what a reader calls it.
    make: (model or None, normaliser, the task's ControlSpec, options) -> the selector.
    options: how it ranks, a frozen dataclass, as it is by default; another choice needs no other training. Where it
        has ``sampling``, a ``CandidateSampling`` or None, candidates are drawn so.
    config: what its model is, a frozen dataclass, as it is by default; None: there is nothing to learn.
    build: (config, PlanSpec) -> an untrained model, which has ``config`` and a ``training_step``.
    data: (``training.material.Material``, config) -> what it is trained on: a dataset, or columns of equal length.
    """

    name: str
    label: str
    make: Callable[[nn.Module | None, Normalizer, ControlSpec, Any], nn.Module]
    options: Any = NoOptions()
    config: Any = None
    build: Callable[[Any, PlanSpec], nn.Module] | None = None
    data: Callable[[Any, Any], Any] | None = None

    @property
    def learnt(self) -> bool:
        """Whether it has to be trained."""
        return self.build is not None
