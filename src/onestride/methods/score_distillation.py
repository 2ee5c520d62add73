"""One-step policies that match their teacher's score along its diffusion: OneDP-S and OneDP-D (Wang et al. 2024).

    A = G(z, O)        the teacher's estimate of the plan where noise z is taken for its level t_init
    A_k = alpha A + sigma eps

    OneDP-S   a score network psi learns the noise of G's own plans; G descends   w alpha / sigma (eps_phi - eps_psi)
    OneDP-D   z is zero, and psi is the noise that was drawn                      w alpha / sigma (eps_phi - eps)

with the teacher phi, w = sigma^2, and eps_phi, eps_psi what both say at A_k (eq. 5, 6 and 8, with the alpha that the
chain rule through A_k gives). In estimates D of the plan that is ``alpha^2 (D_psi - D_phi)``, which is also EDM's form
(alpha = 1): for a teacher of either form, whatever it was trained to say, it is one equation. Known entries of a plan
are never noised and have no gradient.

A teacher that takes conditions says eps_phi by classifier-free guidance, in its own weight. What is asked for is drawn
for every row, of teacher, student and score network alike (``asked.py``): the student has the guidance inside.

OneDP-D is drawn to the mean of modes that are near one another: with modes at +-0.4 and less it ends between them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from onestride.checkpoint import settings_of
from onestride.diffusion.guidance import classifier_free
from onestride.methods import METHODS
from onestride.methods.asked import without_conditions
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.methods.edm import EDMConfig, EDMPlanner
from onestride.methods.guided import GuidedPlanner
from onestride.methods.method import Group, Method
from onestride.networks.mlp import ResidualMLP
from onestride.plans.spec import PlanSpec

Planner = DiffusionPlanner | EDMPlanner

#: Generators whose methods teach, such as diffuser, dp, edm and off-dynamics; and their settings.
SETTINGS: dict[Any, type] = {DiffusionPlanner: TeacherConfig, EDMPlanner: EDMConfig}
#: Entries of the noise table that t_init, t_first and t_last are places of.
TABLE = 100
#: Rows of a batch whose plans are drawn twice, to see how they differ.
SEEN_TWICE = 32


@dataclass(frozen=True)
class ScoreDistillationConfig:
    """The paper's values, but for the learning rates, which are of nets of 67 to 256 million weights there.

    Attributes:
        deterministic: OneDP-D.
        teacher: the folder in the run of the checkpoint that teaches: a Diffuser, DP or EDM teacher.
        t_init: where G takes its noise to be, of 100 noise levels, 0 ... 99, as diffusers counts them. It amplifies
            what a network that says the noise says by sigma / alpha: 1.7 at 65, 2000 at 99.
        t_first, t_last: the levels at which scores are compared, counted likewise. A teacher of N levels is asked at
            ``k = (t + 1) N / 100``, rounded, at least 1; of 100 at k = t + 1.
        sigma_init: where G takes its noise to be if the teacher is EDM's; compared is at the teacher's own levels.
        learning_rate: of G; the paper's is 1e-6. ``training.learning_rate`` is not used.
        score_learning_rate: of psi; the paper's is 2e-5.
        beta1: of Adam, of both.
        planner, settings: the teacher's method and its settings, of which the student's network is made. Training takes
            them from the checkpoint.
    """

    deterministic: bool = False
    teacher: str = "teacher"
    t_init: int = 65
    t_first: int = 2
    t_last: int = 95
    sigma_init: float = 2.5
    learning_rate: float = 1e-4
    score_learning_rate: float = 1e-3
    beta1: float = 0.0
    planner: str = "diffuser"
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 <= self.t_first <= self.t_last < TABLE and 0 <= self.t_init < TABLE):
            raise ValueError(
                f"levels are places in a table of {TABLE}: expected 0 <= t_first <= t_last < {TABLE} and "
                f"0 <= t_init < {TABLE}, got {self.t_first=}, {self.t_last=}, {self.t_init=}"
            )
        if not (self.sigma_init > 0 and self.learning_rate > 0 and self.score_learning_rate > 0):
            raise ValueError(
                "sigma_init and learning rates must be above 0, got "
                f"{self.sigma_init=}, {self.learning_rate=}, {self.score_learning_rate=}"
            )
        if not 0 <= self.beta1 < 1:
            raise ValueError(f"config.beta1 is {self.beta1}, expected 0 <= beta1 < 1")
        if self.planner not in METHODS or METHODS[self.planner]().build not in SETTINGS:
            raise ValueError(
                f"'{self.teacher}' is a checkpoint of method '{self.planner}', which has no score to learn from; name "
                "by config.teacher a folder of a diffusion planner, such as diffuser, dp or edm"
            )


class OneStepStudent(nn.Module):
    """A generator with one network call, the teacher's at one level; plans (B, H, D) and context (B, C) normalised."""

    nfe = 1
    prior_scaled = False  # it starts from its noise as it was in training

    def __init__(self, config: ScoreDistillationConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        build: Any = METHODS[config.planner]().build
        settings = settings_of(SETTINGS[build], config.settings, f"config.settings ({config.planner})")
        self.planner: Planner = build(settings, spec)
        noise = 1.0
        if isinstance(self.planner, EDMPlanner):
            self.level: int | float = config.sigma_init
            noise = config.sigma_init
        else:
            self.level = index_of(config.t_init, self.planner.schedule.n_steps)
        self.noise = 0.0 if config.deterministic else noise

    @property
    def fixed(self) -> Tensor:
        """Known entries of a plan (H, D)."""
        return self.planner.fixed

    @property
    def folds(self) -> bool:
        """Whether the native engine takes its network."""
        return isinstance(self.planner, EDMPlanner) or isinstance(self.planner.network, ResidualMLP)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D); known entries come back bit for bit.

        The context is (B, C), or (1, C) for all candidates alike. All noise is in the prior, and OneDP-D looks at none:
        ``generator`` is not used.
        """
        del generator
        start = torch.where(self.fixed, prior, self.noise * prior)
        return torch.where(self.fixed, prior, self.planner.denoise(start, self.level, context))  # type: ignore[arg-type]


class ScoreDistillation(nn.Module):
    """What is trained: the student, and for OneDP-S the score network beside it. The teacher is no part of the state.

    Both start from the teacher's weights, which in a checkpoint are their moving average.

    Raises:
        ValueError: the teacher is another network than the student's, or its plans are of another shape.
    """

    def __init__(self, student: OneStepStudent, teacher: nn.Module) -> None:
        super().__init__()
        if type(teacher) is not type(student.planner) or teacher.config != student.planner.config:
            raise ValueError(
                f"the student is made of {type(student.planner).__name__} with {student.planner.config}, and taught by "
                f"{type(teacher).__name__} with {getattr(teacher, 'config', 'no settings')}; make them alike"
            )
        assert isinstance(teacher, DiffusionPlanner | EDMPlanner)
        if not torch.equal(student.fixed.cpu(), teacher.fixed.cpu()):
            raise ValueError("the teacher's plans have other shapes or other known entries than the student's")
        conditions = getattr(teacher, "conditions", None)
        self._embedded = 0 if conditions is None else conditions.width  # last columns of the context
        self._weight: float = getattr(teacher.config, "condition_weight", 0.0)  # of guidance
        if conditions is not None:
            teacher = without_conditions(teacher)  # type: ignore[arg-type]
        self.config, self.deployed = student.config, student
        student.planner.load_state_dict(teacher.state_dict())
        self.score = None if self.config.deterministic else copy.deepcopy(teacher).train().requires_grad_(True)
        self._teacher = (copy.deepcopy(teacher).eval().requires_grad_(False),)  # in a tuple it is not registered

    def groups(self) -> Sequence[Group]:
        """Return the score network's parameters, which are stepped first, and the generator's."""
        config, betas = self.config, (self.config.beta1, 0.999)
        generator = Group("generator", list(self.deployed.parameters()), config.learning_rate, 0.0, betas)
        if self.score is None:
            return (generator,)
        return Group("score", list(self.score.parameters()), config.score_learning_rate, 0.0, betas), generator

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return a phase's loss on {"plans" (B, H, D), "context" (B, C)}, in float32: differences of scores are small.

        "score": the loss that the teacher itself was trained with, on the student's plans (eq. 6); and ``spread``, the
        standard deviation of plans of one condition. "generator": a number whose gradient is eq. 5 or 8, and which
        means nothing else; and ``gap``, the root mean square of eps_phi - eps_psi.
        """
        own = next(self.deployed.parameters()).dtype
        plans, context = (batch[name].to(own) for name in ("plans", "context"))
        with torch.autocast(plans.device.type, enabled=False):
            if phase == "score":
                return self._score_loss(plans, context, rng)
            made = self._made(plans, context, rng)
            level = self._levels(len(plans), rng, plans.device)
            eps = torch.randn(plans.shape, generator=rng, device=plans.device, dtype=plans.dtype)
            return self.matching(made, level, eps, context)

    def matching(self, made: Tensor, level: Tensor, eps: Tensor, context: Tensor | None) -> dict[str, Tensor]:
        """Return the generator's loss where plans made (B, H, D) are noised by eps (B, H, D) to levels.

        level: noise indices (B,), or EDM's noise levels (B, 1, 1).
        """
        free = ~self.deployed.fixed
        teacher = self._teacher[0].to(made.device)
        with torch.no_grad():
            plans = made.detach()
            if isinstance(teacher, EDMPlanner):
                alpha, sigma = torch.ones_like(level), level
            else:
                alpha, sigma = teacher.schedule.at(level, plans)
            noisy = torch.where(free, alpha * plans + sigma * eps, plans)
            ours = plans if self.score is None else self.score.denoise(noisy, level, context)
            theirs = self._taught(noisy, level, context)
            apart = (ours - theirs) * free
            gap = (alpha / sigma * apart).square().sum() / (len(made) * free.sum())
        return {"loss": (alpha.square() * apart * made).mean(), "gap": gap.sqrt()}

    def _taught(self, x: Tensor, level: Tensor, context: Tensor | None) -> Tensor:
        """The teacher's estimate of plans x (B, H, D), guided to what the context's last columns ask for."""
        teacher = self._teacher[0]
        estimate = teacher.denoise(x, level, context)
        if not (self._embedded and self._weight):
            return estimate
        assert context is not None
        nothing = context.clone()
        nothing[:, -self._embedded :] = 0
        return classifier_free(estimate, teacher.denoise(x, level, nothing), self._weight)

    def _score_loss(self, plans: Tensor, context: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        assert self.score is not None
        few, free = slice(SEEN_TWICE), ~self.deployed.fixed
        with torch.no_grad():
            made = self._made(plans, context, rng)
            apart = (self._made(plans[few], context[few], rng) - made[few]) * free
        loss = self.score.training_step({"plans": made, "context": context}, rng)["loss"]
        return {"loss": loss, "spread": (apart.square().sum() / (2 * len(apart) * free.sum())).sqrt()}

    def _made(self, plans: Tensor, context: Tensor, rng: torch.Generator) -> Tensor:
        """The student's plans of a batch's conditions (B, H, D)."""
        noise = torch.randn(plans.shape, generator=rng, device=plans.device, dtype=plans.dtype)
        return self.deployed.sample(torch.where(self.deployed.fixed, plans, noise), context)

    def _levels(self, count: int, rng: torch.Generator, device: torch.device) -> Tensor:
        """Noise indices (B,) within the range, each as likely; or the EDM teacher's own levels (B, 1, 1)."""
        teacher, config = self._teacher[0], self.config
        if isinstance(teacher, EDMPlanner):
            return teacher.levels(count, rng, device)
        first, last = (index_of(t, teacher.schedule.n_steps) for t in (config.t_first, config.t_last))
        return torch.randint(first, last + 1, (count,), generator=rng, device=device)


def index_of(t: int, n_steps: int) -> int:
    """Return the noise index k in 1 ... N of place t in a table of 100 (``ScoreDistillationConfig``)."""
    return max(1, round((t + 1) * n_steps / TABLE))


def _fitted(config: ScoreDistillationConfig, planner: str, settings: dict[str, Any]) -> ScoreDistillationConfig:
    return replace(config, planner=planner, settings=settings)


def _learner(student: nn.Module, teacher: nn.Module | None, _config: ScoreDistillationConfig) -> nn.Module:
    """The student beside its teacher; one that is guided by a return model teaches without its guide."""
    assert isinstance(student, OneStepStudent)
    assert teacher is not None
    return ScoreDistillation(student, teacher.planner if isinstance(teacher, GuidedPlanner) else teacher)


# Samples are drawn from the noise that training knew.
ONEDP_S = Method(
    name="onedp-s", label="OneDP-S", colour="#117733", config=ScoreDistillationConfig(), build=OneStepStudent,
    taught_by=lambda config: config.teacher, fitted=_fitted, learner=_learner, temperatures=((1.0,), (1.0,)),
)  # fmt: skip
ONEDP_D = replace(ONEDP_S, name="onedp-d", label="OneDP-D", colour="#999933", ranked=False).with_config(
    deterministic=True
)
