"""One-step students that are consistent along the noise: f(x, sigma) is the same plan all the way (Song et al. 2023).

    plan = f(x, sigma_max)      x = sigma_max * noise      f(x, sigma_min) = x, exactly

``method`` says where neighbours x on one path come from, and nothing else needs to be told:

    ct    one plan with one noise at two levels: no teacher (consistency training as improved by Song & Dhariwal 2023)
    cd    a Heun step of an EDM teacher from one level to the one below (consistency distillation)

A horizon of 1 is an action-level policy, a longer one plans a trajectory; the mask of fixed entries is all they
differ in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from onestride.methods.edm import EDMPlanner, NoiseLevels, Preconditioned, heun_step, noised
from onestride.methods.method import Method
from onestride.methods.taught import TaughtStudent, taught
from onestride.plans.spec import PlanSpec

Kind = Literal["ct", "cd"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class ConsistencyConfig(NoiseLevels):
    """Levels and losses are those of the papers above; the network is the teacher's, which cd starts from."""

    method: Kind = "ct"
    width: int = 640
    blocks: int = 6
    curriculum_steps: int = 10_000  # ct: how many training steps there will be (``TrainConfig.steps``)
    s0: int = 10  # ct: intervals between levels at the first step
    s1: int = 1280  # ct: and at the end
    p_mean: float = -1.1  # ct: log sigma ~ N(p_mean, p_std^2), within sigma_min ... sigma_max
    p_std: float = 2.0
    huber: float = 0.00054  # ct: the loss is quadratic below this error per entry, and the error's norm above
    levels: int = 18  # cd: of the teacher's grid
    target_decay: float = 0.95  # cd: of the average of the weights that the student is compared with
    first_action_weight: float = 1.0  # of the executed action in the loss; the papers weigh all entries alike

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in KINDS:
            raise ValueError(f"student.method is {self.method!r}; there are {', '.join(KINDS)}")
        if self.curriculum_steps < 1 or not 1 <= self.s0 <= self.s1 or self.levels < 2:
            raise ValueError(
                "a consistency student needs curriculum_steps >= 1, 1 <= s0 <= s1 and levels >= 2, got "
                f"{self.curriculum_steps=}, {self.s0=}, {self.s1=}, {self.levels=}"
            )
        if not 0 <= self.target_decay < 1:
            raise ValueError(f"student.target_decay is {self.target_decay}, expected 0 <= target_decay < 1")
        if self.p_std <= 0 or self.huber <= 0 or self.first_action_weight <= 0:
            raise ValueError(
                "a consistency student needs p_std, huber and first_action_weight above 0, got "
                f"{self.p_std=}, {self.huber=}, {self.first_action_weight=}"
            )


class ConsistencyStudent(TaughtStudent):
    """A generator with one network call; plans (B, H, D) and context (B, C) are normalised.

    What f says at the lower of two levels is a target, behind a stop-gradient. ct asks the present weights, since an
    average of past ones biases it (Song & Dhariwal 2023, section 3.2). cd asks a short average, a network of its own
    beside f: on a fixed grid of few levels the present weights chase themselves, and the student stays far from its
    teacher (on the toy of the tests three to four times as far).
    """

    step: Tensor
    nfe = 1
    prior_scaled = False  # it starts from its highest noise level as it is

    def __init__(self, config: ConsistencyConfig, spec: PlanSpec) -> None:
        f = Preconditioned(
            spec, width=config.width, blocks=config.blocks, sigma_data=config.sigma_data, boundary=config.sigma_min
        )
        super().__init__(config, spec, f, target=config.method == "cd")
        self.c = config.huber * math.sqrt(len(spec.free_entries))
        # Training steps taken; saved with the weights, so that a resumed run goes on with its curriculum.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def distil(self, teacher: EDMPlanner) -> None:
        """Take a teacher, as ``TaughtStudent`` does; before training with cd.

        Raises:
            ValueError: the method is ct, or the teacher's network or plans are of another shape or scale.
        """
        if self.target is None:
            raise ValueError(f"student.method is {self.config.method!r}, which has no teacher; 'cd' has one")
        super().distil(teacher)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Plans (B, H, D) from a prior (B, H, D); fixed entries come back bit for bit.

        The context is (B, C), or (1, C) for all candidates alike. All noise is in the prior: ``generator`` is not used.
        """
        del generator
        x = torch.where(self.fixed, prior, self.config.sigma_max * prior)
        return self.f(x, self.config.sigma_max, context)

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """How far f is from consistent at neighbouring levels, on batch {"plans" (B, H, D), "context" (B, C)}.

        The network has no dropout, so the two sides share all their randomness by sharing the noise. Neighbours differ
        by less than bfloat16 resolves: this is done in float32 whatever the precision of training.
        """
        x0, context = (batch[name].to(self.loss_weight.dtype) for name in ("plans", "context"))
        with torch.autocast(x0.device.type, enabled=False):
            sigma, lower = self._neighbours(len(x0), generator, x0.device)
            eps = torch.randn(x0.shape, generator=generator, device=x0.device)
            x = noised(x0, sigma, self.fixed, eps)
            if self.target is None:
                with torch.no_grad():
                    target = self.f(noised(x0, lower, self.fixed, eps), lower, context)
                error = self.f(x, sigma, context) - target
                loss = pseudo_huber(error, self.loss_weight, self.c) / (sigma - lower).flatten()
            else:
                teacher = self.teacher_on(x0.device)
                with torch.no_grad():
                    self.follow()
                    below = heun_step(lambda x, s: teacher.denoise(x, s, context), x, sigma, lower)
                    target = self.target(below, lower, context)
                error = self.f(x, sigma, context) - target
                loss = (self.loss_weight * error.square()).flatten(1).mean(1)
        self.step += 1
        return {"loss": loss.mean()}

    def _neighbours(self, count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Neighbouring levels sigma > lower of the grid, (B, 1, 1) each.

        ct draws log sigma from a normal within its range and takes the interval it falls into, which gives every
        interval the probability of Song & Dhariwal 2023, section 3.5, without a table. cd draws intervals evenly.
        """
        config = self.config
        low, high = config.roots
        if config.method == "cd":
            intervals = torch.tensor(config.levels - 1, device=device)
            i = torch.randint(config.levels - 1, (count, 1, 1), generator=generator, device=device)
        else:
            intervals = curriculum(self.step, config)
            first, last = (
                0.5 * (1 + math.erf((math.log(s) - config.p_mean) / (config.p_std * math.sqrt(2))))
                for s in (config.sigma_min, config.sigma_max)
            )
            share = first + (last - first) * torch.rand(count, 1, 1, generator=generator, device=device)
            sigma = (config.p_mean + config.p_std * torch.special.ndtri(share)).exp()
            i = ((sigma ** (1 / config.rho) - low) / (high - low) * intervals).floor()
            i = torch.minimum(i.clamp(min=0), intervals - 1)

        def level(i: Tensor) -> Tensor:
            inner = (low + (high - low) * i / intervals) ** config.rho
            return torch.where(i == 0, config.sigma_min, inner)  # exact, for the boundary condition

        return level(i + 1), level(i)


def curriculum(step: Tensor, config: ConsistencyConfig) -> Tensor:
    """Intervals between noise levels at a training step (from 0): s0, doubled at even distances until it is s1.

    ``N(k) - 1 = min(s0 2^floor(k / K'), s1)``, ``K' = floor(K / (log2 floor(s1 / s0) + 1))`` (Song & Dhariwal 2023,
    section 3.4). The first doubling is at step K', not before.
    """
    doublings = math.log2(config.s1 // config.s0)
    period = max(1, math.floor(config.curriculum_steps / (doublings + 1)))
    times = (step // period).clamp(max=math.ceil(doublings) + 1)
    return (config.s0 * 2**times).clamp(max=config.s1)


def pseudo_huber(error: Tensor, weight: Tensor, c: float) -> Tensor:
    """``sqrt(|error|^2 + c^2) - c`` per row, (B, ...) -> (B,), entries weighted; written so that nothing cancels."""
    square = (weight * error.square()).flatten(1).sum(1)
    return square / ((square + c * c).sqrt() + c)


def _scheduled(config: ConsistencyConfig, steps: int) -> ConsistencyConfig:
    return replace(config, curriculum_steps=steps)


# Both start from their noise as it was in training.
CT = Method(
    name="ct", label="CT", colour="#56B4E9", config=ConsistencyConfig(method="ct"), build=ConsistencyStudent,
    scheduled=_scheduled, temperatures=((1.0,), (1.0,)),
)  # fmt: skip
CD = replace(CT, name="cd", label="CD", colour="#E69F00", teacher="edm", learner=taught).with_config(method="cd")
