"""The teacher: a diffusion model of trajectory windows, with the start inpainted and the rest as context."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from onestride.diffusion.guidance import classifier_free
from onestride.diffusion.samplers import SOLVERS, sample, x0_from_eps
from onestride.diffusion.schedule import Schedule, Spacing
from onestride.methods.method import Method, Stepped
from onestride.networks.conditions import ConditionEmbedding, left_out, of_batch
from onestride.networks.plan_network import plan_network
from onestride.networks.unet1d import FilmUNet, FilmUNetConfig
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher's shape and how it samples. The defaults are the arm's on a CPU."""

    network: Literal["mlp", "unet", "film-unet", "transformer"] = "mlp"  # Diffuser's U-Net; Diffusion Policy's
    width: int = 640
    blocks: int = 6
    unet_width: int = 32
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8)
    film_unet: FilmUNetConfig = field(default_factory=FilmUNetConfig)
    n_steps: int = 30  # reverse steps (DNK, section V-C)
    schedule: Literal["cosine", "squared-cosine"] = "cosine"  # in continuous time; of Diffusion Policy
    prediction: Literal["x0", "eps"] = "x0"  # what the network is trained to say: "x0" or "eps" (DNK, eq. 5)
    solver: Literal["ddim", "ddpm", "dpm++2m"] = "ddim"
    sample_steps: int | None = None  # network calls of a decision; None: all n_steps
    spacing: Spacing = "even"  # where they are; Diffusion Policy's: "leading"
    clip: float | None = None  # estimates of x0 are held within -clip ... clip; Diffusion Policy's: 1
    first_action_weight: float = 10.0  # of the executed action in the loss, as in Diffuser
    condition_dropout: float = 0.25  # of each condition by itself, in training (Ajay et al. 2023: 0.25)
    condition_weight: float = 0.0  # w of classifier-free guidance, where a condition is asked for

    def __post_init__(self) -> None:
        choices = {
            "network": ("mlp", "unet", "film-unet", "transformer"), "schedule": ("cosine", "squared-cosine"),
            "prediction": ("x0", "eps"), "solver": tuple(SOLVERS), "spacing": ("even", "leading"),
        }  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"teacher.{name} is {getattr(self, name)!r}; there are {', '.join(known)}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"teacher.clip is {self.clip}, expected a number above 0, or None")


class DiffusionPlanner(nn.Module):
    """A generator with ``n_steps`` network calls; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    loss_weight: Tensor

    def __init__(self, config: TeacherConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        make = Schedule.cosine if config.schedule == "cosine" else Schedule.squared_cosine
        self.schedule = make(config.n_steps)
        self.conditions = ConditionEmbedding(spec.conditions) if spec.conditions else None
        asked = 0 if self.conditions is None else self.conditions.width
        shape = (spec.horizon, spec.row_dim, spec.context_dim + asked)
        if config.network == "film-unet":
            self.network: nn.Module = FilmUNet(*shape, config.film_unet)
        else:
            self.network = plan_network(config, *shape, n_steps=config.n_steps)  # type: ignore[arg-type]
        fixed, weight = mask_of(spec), torch.ones(shape[:2])
        weight[0, spec.state_dim :] = config.first_action_weight
        self.register_buffer("fixed", fixed, persistent=False)
        self.register_buffer("loss_weight", weight * ~fixed, persistent=False)

    @property
    def nfe(self) -> int:
        """Network calls per decision."""
        return self.config.sample_steps or self.config.n_steps

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Denoising loss (DDPM, Ho et al. 2020; DNK eq. 5) of batch {"plans" (B, H, D), "context" (B, C)}.

        The start is put back after noising and weighs nothing; with x0-prediction the target is the plan.
        """
        x0 = batch["plans"]
        k = torch.randint(1, self.schedule.n_steps + 1, (len(x0),), generator=generator, device=x0.device)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device)
        alpha, sigma = self.schedule.at(k, x0)
        x_k = torch.where(self.fixed, x0, alpha * x0 + sigma * eps)
        output = self.network(x_k, k, self._with_conditions(batch, generator))
        target = x0 if self.config.prediction == "x0" else eps
        return {"loss": ((output - target).square() * self.loss_weight).mean()}

    def _with_conditions(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """The context (B, C + E) of a batch, each of whose conditions is left out by itself in some rows."""
        context = batch["context"]
        if self.conditions is None:
            return context
        asked = left_out(of_batch(batch), self.config.condition_dropout, generator)
        return torch.cat((context, self.conditions(asked)), 1)

    def asking(self, context: Tensor | None, conditions: Mapping[str, Tensor]) -> Callable[..., Tensor]:
        """Return a denoiser (x, k) -> x_0 that is asked for conditions (1 or B, size), by classifier-free guidance.

        Conditions that are left out, or NaN, are not asked for. With no conditions at all, or weight 0, it is one call
        of the network; else two.
        """
        assert self.conditions is not None
        rows = max((1 if context is None else len(context), *(len(value) for value in conditions.values())))
        values = {name: value.expand(rows, -1) for name, value in conditions.items()}

        def beside(asked: Mapping[str, Tensor]) -> Tensor:
            embedded = self.conditions(asked, rows=rows)  # type: ignore[misc]
            if context is None or not context.shape[-1]:
                return embedded
            return torch.cat((context.expand(rows, -1), embedded), 1)

        with_them, without, weight = beside(values), beside({}), self.config.condition_weight
        if not values or not weight:
            return lambda x, k: self.denoise(x, k, with_them)
        return lambda x, k: classifier_free(self.denoise(x, k, with_them), self.denoise(x, k, without), weight)

    def denoise(self, x: Tensor, k: Tensor | int, context: Tensor | None) -> Tensor:
        """The estimate of x_0 (B, H, D) at noise index k, one or (B,), whatever the network was trained to say."""
        output = self.network(x, k, context)
        if self.config.prediction == "x0":
            return output
        if isinstance(k, Tensor):
            return x0_from_eps(x, output, *self.schedule.at(k, x))
        return x0_from_eps(x, output, self.schedule.alpha[k], self.schedule.sigma[k])

    def sample(
        self,
        prior: Tensor,
        context: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Plans (B, H, D) from a prior (B, H, D); the context is (B, C), or (1, C) for all candidates alike.

        conditions: what is asked for, (1 or B, size) by name, of a planner that has learnt conditions.
        """
        if self.conditions is not None:
            return self.solve(self.asking(context, conditions or {}), prior, generator)
        return self.solve(lambda x, k: self.denoise(x, k, context), prior, generator)

    def solve(
        self, estimate: Callable[[Tensor, int], Tensor], prior: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Plans (B, H, D) from a prior by the planner's solver, of any estimate (x, k) -> x_0, such as a guided one."""
        return sample(
            estimate,
            prior,
            self.fixed,
            self.schedule,
            solver=self.config.solver,
            steps=self.config.sample_steps,
            spacing=self.config.spacing,
            clip=self.config.clip,
            generator=generator,
        )


DIFFUSER = Method(
    name="diffuser", label="Teacher", colour="#0072B2", folder="teacher", config=TeacherConfig(),
    build=DiffusionPlanner, conditional=True,
    stepped=Stepped("ddim", "DDIM, {} step", lambda config, steps: replace(config, solver="ddim", sample_steps=steps)),
)  # fmt: skip

#: Diffusion Policy's diffusion (Chi et al. 2023): 100 steps of the squared-cosine schedule, trained to say the noise,
#: sampled by DDPM. Its data lie in -1 ... 1, and so do its estimates: where a task's plans are standardised, set
#: ``clip`` to what they reach, or to None. The index t of its code and of diffusers is k - 1 here. In a run it is the
#: teacher.
DP = replace(DIFFUSER, name="dp", label="DP", temperatures=((1.0,), (1.0,)), config=TeacherConfig(
    n_steps=100, schedule="squared-cosine", prediction="eps", solver="ddpm", spacing="leading", clip=1.0,
    first_action_weight=1.0,
))  # fmt: skip
