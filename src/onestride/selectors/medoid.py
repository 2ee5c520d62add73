"""For imitation, where nobody says what a plan is worth: the plan in the middle of what most candidates do.

Candidates are put into clusters by the distance of their free entries, normalised: two of them are of one cluster where
a chain of neighbours nearer than ``radius`` leads from one to the other. The largest cluster is what the generator most
likely does; its medoid, the candidate with the least mean distance to its others, is one that was really drawn, where
a mean could lie between two ways round an obstacle. Where no two candidates are neighbours there is no cluster, and the
first candidate wins, which is as random as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onestride.networks.normalizer import Normalizer
from onestride.robot.control_spec import ControlSpec
from onestride.selectors.selector import SelectorKind

FEW = 25  # candidates


@dataclass(frozen=True)
class MedoidOptions:
    """radius: root mean square distance of neighbours, in standard deviations of the data. steps: rows of a plan that
    are compared, from the first; None: all."""

    radius: float = 0.2
    steps: int | None = None

    def __post_init__(self) -> None:
        if not self.radius > 0 or (self.steps is not None and self.steps < 1):
            raise ValueError(f"medoid needs radius > 0 and steps >= 1, got {self.radius} and {self.steps}")


class MedoidSelector(nn.Module):
    """Plans (B, N, H, D) in task units -> scores (B, N): minus the mean distance to the largest cluster's members.

    Candidates of other clusters score lower than all of the largest.
    """

    kind = "medoid"
    model = None
    training_record: dict[str, Any] | None = None

    def __init__(self, normalizer: Normalizer, options: MedoidOptions) -> None:
        super().__init__()
        self.normalizer, self.options = normalizer, options

    def forward(self, plans: Tensor, observation: Tensor, frame: Any) -> Tensor:
        del observation, frame
        n = plans.shape[1]
        flat = self.normalizer.plans(plans[:, :, : self.options.steps]).flatten(2)  # (B, N, K)
        distance = _distances(flat) / flat.shape[-1] ** 0.5
        near = (distance <= self.options.radius).float()
        for _ in range(max(1, (n - 1).bit_length())):  # chains of neighbours, twice as long each time
            near = ((near @ near) > 0).float()
        size = near.sum(-1)  # (B, N) of each candidate's cluster
        largest = size.argmax(-1)  # the first candidate of the largest cluster
        member = near[torch.arange(len(plans), device=plans.device), largest]  # (B, N)
        to_members = (distance * member[:, None]).sum(-1) / member.sum(-1, keepdim=True)
        score = -to_members - (1 - member) * (1 + distance.flatten(1).amax(-1, keepdim=True))
        first = torch.zeros_like(score)
        first[:, 0] = 1.0
        return torch.where(size.amax(-1, keepdim=True) > 1, score, first)


def _distances(flat: Tensor) -> Tensor:
    """Distances (B, N, N) of candidates (B, N, K).

    ``cdist`` takes differences of up to 25 candidates, and products of matrices above. No graph is made of the first,
    so that they are written out.
    """
    if flat.shape[1] > FEW:
        return torch.cdist(flat, flat)
    return (flat[:, :, None] - flat[:, None]).square().sum(-1).sqrt()


def _make(_model: nn.Module | None, normalizer: Normalizer, _control: ControlSpec, options: Any) -> MedoidSelector:
    return MedoidSelector(normalizer, options)


MEDOID = SelectorKind(name="medoid", label="medoid", make=_make, options=MedoidOptions())
