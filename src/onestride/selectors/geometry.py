"""Score plans by geometry: clearance rewarded, control effort penalised (DNK, section V-C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class GeometryScore:
    """score = clearance - effort - way left, each about 1 when it matters.

    The paper names the first two. The third is ours: effort alone is least for a plan that dawdles.

    path: plans (B, H, D) in task units, frame -> positions (B, H, 3) [m]
    clearance: positions (B, T, 3), observation (B, .) -> distance to the nearest obstacle (B, T) [m]
    goal: observation (B, .) -> (B, 3) [m]
    """

    path: Callable[[Tensor, Any], Tensor]
    clearance: Callable[[Tensor, Tensor], Tensor]
    goal: Callable[[Tensor], Tensor]
    enough: float = 0.06  # clearance beyond this earns nothing more [m]
    stride: float = 0.02  # a change of displacement of this size per period is an effort of 1 [m]
    far: float = 0.1  # a plan ending this far from the goal loses 1 [m]
    clearance_weight: float = 2.0
    effort_weight: float = 1.0
    arrival_weight: float = 1.0
    length_weight: float = 0.0  # of the plan's length [1/m]
    progress_weight: float = 0.0  # of the distance to the goal, mean over rows [1/m]: for plans that all end there
    every: int = 2  # clearance is looked at on every second row: rows are 2 cm apart at most

    def __call__(self, plans: Tensor, observation: Tensor, frame: Any) -> Tensor:
        """Plans (B, N, H, D) of observations (B, .) and their frames -> scores (B, N), higher is better."""
        b, n, h, d = plans.shape
        path = self.path(plans.reshape(b, n * h, d), frame)  # (B, N*H, 3): the frame is the observation's
        rows = path.view(b, n, h, 3)
        looked = rows[:, :, 1 :: self.every]
        clear = self.clearance(looked.reshape(b, -1, 3), observation).view(b, n, -1)
        worst = clear.amin(-1).clamp(max=self.enough) / self.enough
        effort = (rows.diff(n=2, dim=2).square().sum(-1).mean(-1)).sqrt() / self.stride
        way_left = torch.linalg.vector_norm(rows[:, :, -1] - self.goal(observation)[:, None], dim=-1) / self.far
        score = self.clearance_weight * worst - self.effort_weight * effort - self.arrival_weight * way_left
        if self.length_weight:
            score = score - self.length_weight * torch.linalg.vector_norm(rows.diff(dim=2), dim=-1).sum(-1)
        if self.progress_weight:
            off = rows - self.goal(observation)[:, None, None]
            score = score - self.progress_weight * torch.linalg.vector_norm(off, dim=-1).mean(-1)
        return score
