"""The return model: what a plan will have earned, told from the plan at any noise level (Janner et al. 2022).

At k = 0 it ranks candidates; its gradient at k > 0 guides the teacher's sampling towards better ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onestride.diffusion.schedule import Schedule
from onestride.networks.mlp import ResidualMLP
from onestride.networks.normalizer import Normalizer
from onestride.networks.unet1d import TemporalValue
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec
from onestride.robot.control_spec import ControlSpec
from onestride.selectors.selector import NoOptions, SelectorKind


@dataclass(frozen=True)
class ReturnConfig:
    """Discount and penalty are CleanDiffuser's (which replaces the last reward; here it is added, as in Diffuser)."""

    network: Literal["mlp", "unet"] = "mlp"
    width: int = 256
    blocks: int = 3
    unet_width: int = 32
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8)
    n_steps: int = 20  # the teacher's noise levels
    discount: float = 0.997
    terminal_penalty: float = 0.0  # -100 in the source

    def __post_init__(self) -> None:
        if self.network not in ("mlp", "unet"):
            raise ValueError(f"returns.network is {self.network!r}; there are mlp, unet")
        if not 0 < self.discount < 1:
            raise ValueError(f"returns.discount is {self.discount}, expected between 0 and 1")


class ReturnModel(nn.Module):
    """Noisy plans (B, H, D), k -> standardised return (B,)."""

    fixed: Tensor

    def __init__(self, config: ReturnConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        self.schedule = Schedule.cosine(config.n_steps)
        shape = (spec.horizon, spec.row_dim, spec.context_dim)
        if config.network == "mlp":
            self.network: nn.Module = ResidualMLP(
                *shape, n_steps=config.n_steps, width=config.width, blocks=config.blocks, scalar=True
            )
        else:
            self.network = TemporalValue(*shape, width=config.unet_width, multipliers=config.unet_multipliers)
        self.register_buffer("fixed", mask_of(spec), persistent=False)

    def forward(self, x: Tensor, k: Tensor | int, context: Tensor | None) -> Tensor:
        return self.network(x, k, context)

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Squared error on {"plans" (B, H, D), "context" (B, C), "value" (B,)} at k uniform in 0 ... N."""
        x0 = batch["plans"]
        k = torch.randint(0, self.schedule.n_steps + 1, (len(x0),), generator=generator, device=x0.device)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device)
        alpha, sigma = self.schedule.at(k, x0)
        x_k = torch.where(self.fixed, x0, alpha * x0 + sigma * eps)
        return {"loss": (self.network(x_k, k, batch["context"]) - batch["value"]).square().mean()}

    def gradient(self, x: Tensor, k: int, context: Tensor | None) -> Tensor:
        """d value / d x (B, H, D), also inside ``torch.inference_mode``."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_(True)
            context = None if context is None else context.detach().clone()
            return torch.autograd.grad(self.network(x, k, context).sum(), x)[0]


class ReturnSelector(nn.Module):
    """Scores plans by the return model at k = 0: plans (B, N, H, D) in task units -> (B, N).

    For tasks without a context: plans alone say all.
    """

    kind = "returns"
    options = NoOptions()
    training_record: dict[str, Any] | None = None  # how it was trained, as its checkpoint says

    def __init__(self, model: ReturnModel, normalizer: Normalizer) -> None:
        super().__init__()
        self.model, self.normalizer = model, normalizer

    def forward(self, plans: Tensor, observation: Tensor, frame: Any) -> Tensor:
        del observation, frame
        return self.model(self.normalizer.plans(plans).flatten(0, 1), 0, None).view(plans.shape[:2])


def _make(model: nn.Module | None, normalizer: Normalizer, _control: ControlSpec, _options: Any) -> ReturnSelector:
    assert isinstance(model, ReturnModel)
    return ReturnSelector(model, normalizer)


def _data(material: Any, config: ReturnConfig) -> Any:
    """Normalised windows, and the standardised return from each one's first step on."""
    value = material.returns(config.discount, config.terminal_penalty)
    if len(value) > 1 and not value.std() > 0:
        raise ValueError(f"every window of {material.source} earns {value[0]:g}: there is nothing to rank plans by")
    return material.plans(value=(value - value.mean()) / value.std().clamp(min=1e-6))


RETURNS = SelectorKind(
    name="returns", label="return model", make=_make, config=ReturnConfig(), build=ReturnModel, data=_data
)
