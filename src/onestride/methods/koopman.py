"""One-step students that carry noise to data by a linear map in a learned latent space: DNK, KDM, KDM-F.

    z1 = E(prior, context)      z0 = K(z1) z1      plan = D(z0)          (DNK eq. 10-12)

``operator`` says what K is, and nothing else changes, so that an ablation is one word:

    dnk    P diag(gamma(z1)) Q: factorised, gains depend on the state (the FDK layer)
    kdm    a full matrix and a bias, the same for every state (Berman et al. 2025)
    kdm-f  P^-1 diag(lambda) P, complex, |lambda| < 1, the same for every state (the same source)
    mlp    no Koopman layer and none of its losses: two more layers, trained on the plans alone (a control)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.methods.method import Method
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec

Operator = Literal["dnk", "kdm", "kdm-f", "mlp"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)


@dataclass(frozen=True)
class KoopmanConfig:
    """Loss weights are the paper's (section V-A); the networks' shapes, which it does not give, are ours."""

    operator: Operator = "dnk"
    latent_dim: int = 512  # L
    hidden: int = 512
    gain_hidden: int = 256
    encoder_layers: int = 2  # hidden layers of the encoder; KDM's code has 5
    shared_encoder: bool = True  # one encoder for prior and target (DNK); KDM's code has two
    stop_gradient: bool = True  # L_lat leaves the target's code alone (DNK); KDM's code has both codes follow
    weighted: bool = True  # pairs weigh by their quality's rank
    latent_noise: float = (
        0.0  # KDM's code: 0.4 times N(0, I) on the code that is carried and on the one that is decoded
    )
    reconstruction: float = 0.8
    latent: float = 0.2
    prediction: float = 1.0
    action: float = 1.0
    spectral: float = 0.01
    inverse: float = 1.0
    first_action_weight: float = 1.5  # W_a
    later_action_weight: float = 0.6

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise ValueError(f"student.operator is {self.operator!r}; there are {', '.join(OPERATORS)}")
        if self.encoder_layers < 1:
            raise ValueError(f"student.encoder_layers is {self.encoder_layers}, expected at least 1")


class FDKLayer(nn.Module):
    """z0 = P (gamma(z1) * Q z1): eq. 11. Starts as the identity: Q orthogonal, P its transpose, gains 1.

    Gains are signed and unbounded: the hinge on their size (eq. 17) would be empty otherwise.
    """

    def __init__(self, latent_dim: int, gain_hidden: int) -> None:
        super().__init__()
        self.Q = nn.Linear(latent_dim, latent_dim, bias=False)
        self.P = nn.Linear(latent_dim, latent_dim, bias=False)
        self.gamma = nn.Sequential(nn.Linear(latent_dim, gain_hidden), nn.SiLU(), nn.Linear(gain_hidden, latent_dim))
        nn.init.orthogonal_(self.Q.weight)
        with torch.no_grad():
            self.P.weight.copy_(self.Q.weight.T)
            last = self.gamma[-1]
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.fill_(1.0)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z1 (B, L) -> z0 (B, L) and the gains (B, L)."""
        gains = self.gamma(z)
        return self.P(self.Q(z) * gains), gains

    def regularizers(self, gains: Tensor) -> dict[str, Tensor]:
        """L_spec (eq. 17) and L_inv (eq. 18), the latter per row so that its weight does not grow with L."""
        eye = torch.eye(len(self.P.weight), device=gains.device)
        return {
            "spectral": (gains.abs() - 1).clamp(min=0).mean(),
            "inverse": (self.P.weight @ self.Q.weight - eye).square().sum() / len(eye),
        }


class StaticLayer(nn.Module):
    """z0 = A z1 + b, the same for every state (KDM). Starts as the identity."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.A = nn.Linear(latent_dim, latent_dim)
        with torch.no_grad():
            self.A.weight.copy_(torch.eye(latent_dim))
            self.A.bias.zero_()

    def forward(self, z: Tensor) -> tuple[Tensor, None]:
        return self.A(z), None

    def regularizers(self, _gains: None) -> dict[str, Tensor]:
        return {}


class StaticFactorizedLayer(nn.Module):
    """z0 = Re(P_inv (lambda * P z1)), complex and the same for every state (KDM-F).

    |lambda| = exp(-exp(nu)) < 1, phase exp(theta). Complex products are written as real ones of twice the size.
    """

    uniform: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        scale = latent_dim**-0.5
        # Rows: real part, then imaginary part. P is orthonormal at the start, its inverse independent of it.
        basis = torch.linalg.qr(torch.randn(latent_dim, latent_dim, dtype=torch.complex64))[0]
        self.P = nn.Parameter(torch.cat((basis.real, basis.imag)).contiguous())  # (2L, L)
        self.P_inv = nn.Parameter(torch.randn(2, latent_dim, latent_dim) * scale * 0.5**0.5)
        # Moduli spread over (0, 1), as in linear recurrent units.
        self.nu = nn.Parameter(torch.linspace(0.4, 0.99, latent_dim).log().neg().log())
        self.theta = nn.Parameter(torch.log(0.05 + torch.rand(latent_dim)))
        angle, radius = 2 * torch.pi * torch.rand(latent_dim), torch.rand(latent_dim).sqrt()
        self.register_buffer("uniform", torch.stack((radius * angle.cos(), radius * angle.sin())))

    def _rows(self) -> Tensor:
        """P with rows of unit (complex) length, (2, L, L)."""
        p = self.P.view(2, -1, self.P.shape[1])
        return p / p.square().sum((0, 2), keepdim=True).sqrt()

    def _spectrum(self) -> tuple[Tensor, Tensor]:
        radius, phase = torch.exp(-torch.exp(self.nu)), torch.exp(self.theta)
        return radius * phase.cos(), radius * phase.sin()

    def forward(self, z: Tensor) -> tuple[Tensor, None]:
        real, imag = F.linear(z, self._rows().flatten(0, 1)).chunk(2, -1)  # (B, L) each
        a, b = self._spectrum()
        turned = torch.cat((a * real - b * imag, a * imag + b * real), -1)  # (B, 2L)
        return F.linear(turned, torch.cat((self.P_inv[0], -self.P_inv[1]), 1)), None

    def regularizers(self, _gains: None) -> dict[str, Tensor]:
        """Inverse both ways, and eigenvalues near a fixed uniform draw (KDM's code)."""
        p, q = self._rows(), self.P_inv
        gap = torch.stack(self._spectrum()) - self.uniform
        inverse = _from_identity(q, p) + _from_identity(p, q)
        return {"spectral": gap.square().sum(0).add(1e-12).sqrt().mean(), "inverse": inverse}


def _from_identity(left: Tensor, right: Tensor) -> Tensor:
    """Mean square over real and imaginary parts of ``left right - I``, complex as (2, L, L) of real numbers.

    One real product, which a machine may round as it rounds the network's: a complex one would cost more than all else.
    """
    (a, b), (c, d) = left, right
    rows = torch.cat((torch.cat((a, -b), 1), torch.cat((b, a), 1)))  # (2L, 2L)
    off = (rows @ torch.cat((c, d))).view(2, *a.shape).to(left.dtype)
    eye = torch.stack((torch.eye(len(a), device=a.device), torch.zeros_like(off[1])))
    return (off - eye).square().mean()


class PlainLayer(nn.Module):
    """z0 = W2 silu(W1 z1): as many products as the FDK layer, no structure."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent_dim, latent_dim), nn.SiLU(), nn.Linear(latent_dim, latent_dim))

    def forward(self, z: Tensor) -> tuple[Tensor, None]:
        return self.net(z), None

    def regularizers(self, _gains: None) -> dict[str, Tensor]:
        return {}


class Encoder(nn.Module):
    """(B, H, D) and context (B, C) or (1, C) -> (B, L)."""

    def __init__(self, plan_dim: int, context_dim: int, hidden: int, latent_dim: int, layers: int) -> None:
        super().__init__()
        self.plan = nn.Linear(plan_dim, hidden)
        self.context = nn.Linear(context_dim, hidden, bias=False) if context_dim else None
        sizes = [hidden] * (layers - 1) + [latent_dim]
        each = ((nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, size)) for size in sizes)
        self.rest = nn.Sequential(*(module for layer in each for module in layer))

    def forward(self, plans: Tensor, context: Tensor | None) -> Tensor:
        h = self.plan(plans.flatten(1))
        if self.context is not None:
            h = h + self.context(context)
        return self.rest(h)


class KoopmanStudent(nn.Module):
    """A generator with one network call; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    action_weight: Tensor
    nfe = 1

    def __init__(self, config: KoopmanConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        self.state_dim = spec.state_dim
        shape, hidden, latent = (spec.horizon, spec.row_dim), config.hidden, config.latent_dim
        size, context_dim = spec.horizon * spec.row_dim, spec.context_dim
        sizes = (size, context_dim, hidden, latent, config.encoder_layers)
        self.encoder = Encoder(*sizes)
        self.target_encoder = None if config.shared_encoder else Encoder(*sizes)
        self.operator: FDKLayer | StaticLayer | StaticFactorizedLayer | PlainLayer
        if config.operator == "dnk":
            self.operator = FDKLayer(latent, config.gain_hidden)
        elif config.operator == "kdm":
            self.operator = StaticLayer(latent)
        elif config.operator == "kdm-f":
            self.operator = StaticFactorizedLayer(latent)
        else:
            self.operator = PlainLayer(latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, size), nn.Unflatten(1, shape),
        )  # fmt: skip
        weight = torch.full((spec.horizon, spec.action_dim), config.later_action_weight)
        weight[0] = config.first_action_weight
        self.register_buffer("fixed", mask_of(spec), persistent=False)
        self.register_buffer("action_weight", weight, persistent=False)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Plans (B, H, D) from a prior (B, H, D); fixed entries come back bit for bit. Eq. 10-12.

        All its noise is in the prior: ``generator`` is for generators that draw more, and is not used.
        """
        del generator
        z0, _ = self.operator(self.encoder(prior, context))
        return torch.where(self.fixed, prior, self.decoder(z0))

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """All losses of eq. 13-19 on {"prior", "target" (B, H, D), "context" (B, C), "weight" (B,)}.

        Squared errors are means over entries, so that the weights mean the same at every plan size. Fixed
        entries are put back before the loss: they weigh nothing.
        """
        prior, target, context = batch["prior"], batch["target"], batch["context"]
        w = batch["weight"] if self.config.weighted else torch.ones_like(batch["weight"])

        if self.config.operator == "mlp":
            return self._plans_alone(prior, target, context, w)
        if self.target_encoder is None:  # one pass over both: the products are twice as large, not twice as many
            z1, z_target = self.encoder(torch.cat((prior, target)), _twice(context)).chunk(2)
        else:
            z1, z_target = self.encoder(prior, context), self.target_encoder(target, context)
        decoded = z_target
        if self.config.latent_noise:
            z1 = z1 + self.config.latent_noise * _noise(z1, generator)
            decoded = z_target + self.config.latent_noise * _noise(z_target, generator)
        z0, gains = self.operator(z1)
        plan, again = self.decoder(torch.cat((z0, decoded))).chunk(2)
        plan, again = torch.where(self.fixed, target, plan), torch.where(self.fixed, target, again)

        losses = {
            "reconstruction": _weighted((again - target).square(), w),
            "latent": _weighted((z0 - (z_target.detach() if self.config.stop_gradient else z_target)).square(), w),
            **self._plan_losses(plan, target, w),
            **self.operator.regularizers(gains),  # type: ignore[arg-type]
        }
        loss = torch.stack([getattr(self.config, name) * value for name, value in losses.items()]).sum()
        return {"loss": loss, **losses}

    def _plan_losses(self, plan: Tensor, target: Tensor, w: Tensor) -> dict[str, Tensor]:
        """Prediction and action (eq. 15 and 16)."""
        action_error = (plan - target)[..., self.state_dim :].square() * self.action_weight
        return {"prediction": _weighted((plan - target).square(), w), "action": _weighted(action_error, w)}

    def _plans_alone(self, prior: Tensor, target: Tensor, context: Tensor | None, w: Tensor) -> dict[str, Tensor]:
        """What a network without a latent dynamics learns from the same pairs."""
        plan = self.decoder(self.operator(self.encoder(prior, context))[0])
        losses = self._plan_losses(torch.where(self.fixed, target, plan), target, w)
        loss = self.config.prediction * losses["prediction"] + self.config.action * losses["action"]
        return {"loss": loss, **losses}


def _weighted(square: Tensor, w: Tensor) -> Tensor:
    """Mean over entries, weighted over rows: square (B, ...), w (B,)."""
    return (square.flatten(1).mean(1) * w).mean()


def _twice(context: Tensor | None) -> Tensor | None:
    return None if context is None else torch.cat((context, context))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


DNK = Method(
    name="dnk", label="DNK", colour="#D55E00", needs="pairs", config=KoopmanConfig(operator="dnk"), build=KoopmanStudent
)
KDM = replace(DNK, name="kdm", label="KDM", colour="#009E73").with_config(operator="kdm")
KDM_F = replace(DNK, name="kdm-f", label="KDM-F", colour="#CC79A7").with_config(operator="kdm-f")
#: KDM as its authors train it (their code's encoders, gradients, noise and weights; L_pred is their push loss).
AS_ITS_AUTHORS = {
    "operator": "kdm", "shared_encoder": False, "stop_gradient": False, "latent_noise": 0.4, "encoder_layers": 5,
    "weighted": False, "reconstruction": 1.0, "latent": 1.0, "prediction": 1.0, "action": 0.0,
}  # fmt: skip
MLP = replace(DNK, name="mlp", label="MLP", colour="#7F6000").with_config(operator="mlp")
