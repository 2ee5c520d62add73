"""What students of an EDM teacher share: they start from its weights, learn beside it, and follow themselves."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from onestride.methods.edm import EDMPlanner, Preconditioned
from onestride.plans.given import loss_weights, mask_of
from onestride.plans.spec import PlanSpec


class TaughtStudent(nn.Module):
    """A generator f that learns from an EDM teacher, and maybe from an average of its own weights.

    Args:
        config: its settings, with ``first_action_weight``, ``target_decay`` and the size of the network.
        spec: the plans.
        f: the network; it takes the teacher's weights.
        target: whether there is an average of f's weights, ``target``.
    """

    fixed: Tensor
    loss_weight: Tensor

    def __init__(self, config: Any, spec: PlanSpec, f: Preconditioned, *, target: bool) -> None:
        super().__init__()
        self.config = config
        self.f = f
        self.target = copy.deepcopy(f).requires_grad_(False) if target else None
        self._teacher = _Held(None)
        self.register_buffer("fixed", mask_of(spec), persistent=False)
        self.register_buffer("loss_weight", loss_weights(spec, config.first_action_weight), persistent=False)

    def distil(self, teacher: EDMPlanner) -> None:
        """Take a frozen copy of the teacher to learn from, and its weights to start from; before training.

        The copy is no part of the state: a checkpoint holds the student alone, and a resumed run calls this again.

        Raises:
            ValueError: the teacher's network or plans are of another shape or scale.
        """
        for name in ("width", "blocks", "sigma_data"):
            if getattr(self.config, name) != getattr(teacher.config, name):
                raise ValueError(
                    f"student.{name} is {getattr(self.config, name)}, the teacher's is "
                    f"{getattr(teacher.config, name)}: it starts from the teacher's weights; make them the same"
                )
        if not torch.equal(self.fixed.cpu(), teacher.fixed.cpu()):
            raise ValueError("the teacher's plans have other shapes or other fixed entries than the student's")
        self._teacher = _Held(copy.deepcopy(teacher).eval().requires_grad_(False))
        for network in (self.f, self.target):
            if network is not None:  # what the teacher's network has not, stays as it is
                network.load_state_dict(network.state_dict() | teacher.denoiser.state_dict())

    def teacher_on(self, device: torch.device) -> EDMPlanner:
        """Return the frozen teacher.

        Raises:
            ValueError: there is none yet.
        """
        teacher = self._teacher.value
        if teacher is None:
            raise ValueError("this student learns from a teacher: call distil(teacher) before training")
        return teacher.to(device)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards f; before a step, so that the optimiser's last step is in what a run saves."""
        assert self.target is not None
        ours, theirs = list(self.target.parameters()), list(self.f.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - self.config.target_decay)  # type: ignore


class _Held:
    """What a module may refer to without owning: it is in no state dict and a copy of the module shares it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return self


def taught(student: nn.Module, teacher: nn.Module | None, _config: Any) -> nn.Module:
    """Return the student, who has its teacher at hand."""
    assert isinstance(student, TaughtStudent)
    assert isinstance(teacher, EDMPlanner)
    student.distil(teacher)
    return student
