"""Which of two bodies a step was made by: a classifier, an inverse model, and the scores of plans made of them.

    p(s, a, s')         the probability that a transition is the target's, not the source's        (003, eq. 5)
    c_dyn of a window   the mean of [log(p + eps) - log(1 - p + eps)] / kappa, -1 source ... 1 target       (eq. 3)
    I(s, s')            the action that the target's data have between two observations                    (eq. 6)
    c_inv of a window   the mean of log(1 + |I(s, s') - a|), scaled to 0 ... 1                             (eq. 4)

kappa = log((1 + eps) / eps), so that c_dyn is exactly 1 at p = 1. A classifier tells bodies apart by what their
behaviours do too; ``score="dara"`` takes that share away with a second one that sees no next state (Liu et al. 2022).
The few target transitions are scored by classifiers that were not shown them (cross-fitting).

Source: "Off-dynamics Conditional Diffusion Planners", which weighs both data sets as they are; balanced is the default
here, since otherwise log(n_target / n_source) is added to every score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.networks.ensemble import Ensemble

SOURCE = -1  # a transition's fold, where it is none of the target's
MOST = 10.0  # of DARA's log ratio, as in its authors' code


@dataclass(frozen=True)
class ContextsConfig:
    """How transitions are told apart. Networks have two hidden layers of 32, as the paper's.

    Attributes:
        hidden: width of every network.
        folds: into so many parts target episodes are divided; each is scored by classifiers that have not seen it.
        noise: standard deviation of what is added to the classifiers' standardised inputs in training (DARC: 1).
        score: "classifier", or "dara", which also subtracts what the behaviours' difference explains.
        balanced: source and target weigh the same in the classifiers' loss; else as much as there is of each.
        epsilon: of eq. 3.
    """

    hidden: int = 32
    folds: int = 5
    noise: float = 0.0
    score: Literal["classifier", "dara"] = "classifier"
    balanced: bool = True
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.folds < 2 or self.hidden < 1:
            raise ValueError(f"contexts need at least 2 folds and 1 hidden unit, got {self.folds} and {self.hidden}")
        if self.score not in ("classifier", "dara"):
            raise ValueError(f"config.score is {self.score!r}; there are classifier, dara")
        if self.noise < 0 or not 0 < self.epsilon < 1:
            raise ValueError(f"contexts want noise >= 0 and 0 < epsilon < 1, got {self.noise} and {self.epsilon}")


class Standardizer(nn.Module):
    """Subtracts means and divides by standard deviations (K,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def fit(self, rows: Tensor) -> None:
        """Take them of rows (M, K)."""
        self.mean.copy_(rows.mean(0))
        self.std.copy_(rows.std(0).clamp(min=1e-6))

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows (M, K) in units of their spread."""
        return (rows - self.mean) / self.std


class DynamicsModel(nn.Module):
    """Classifiers, one for every fold, and the target's inverse model.

    Args:
        config: their settings.
        observation_dim: O.
        action_dim: A.
    """

    low: Tensor
    high: Tensor
    share: Tensor

    def __init__(self, config: ContextsConfig, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        o, a = observation_dim, action_dim
        self.config, self.sizes = config, (o, a, o)
        self.normalizer = Standardizer(2 * o + a)
        self.transition = Ensemble(config.folds, 2 * o + a, config.hidden)  # p(s, a, s')
        self.behaviour = Ensemble(config.folds, o + a, config.hidden)  # p(s, a)
        h = config.hidden
        self.inverse = nn.Sequential(nn.Linear(2 * o, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, a))
        # Between these p is taken as 0 ... 1: so its extremes, which no classifier says, are scored as -1 and 1.
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))
        self.register_buffer("share", torch.full((), 0.5))  # of the target in the data, where it is not balanced

    def inputs(self, observation: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """Return transitions as the networks see them (M, 2 O + A): what changes stands for the next observation."""
        return torch.cat((observation, action, following - observation), 1)

    def training_step(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of eq. 5 and 6 on {"inputs" (B, 2 O + A), "fold" (B,)}, half of whose rows are target's."""
        rows, target = self.normalizer(batch["inputs"]), batch["fold"] != SOURCE
        shown = torch.arange(self.config.folds, device=rows.device)[:, None] != batch["fold"]  # (E, B)
        share = 0.5 if self.config.balanced else self.share
        weight = share * _shares(target & shown) + (1 - share) * _shares(~target & shown)
        noisy = rows + self.config.noise * torch.randn(rows.shape, generator=rng, device=rows.device)
        losses = {}
        for name, seen in (("transition", noisy), ("behaviour", noisy[:, : -self.sizes[2]])):
            said = getattr(self, name)(seen)
            cross = F.binary_cross_entropy_with_logits(said, target.float().expand_as(said), reduction="none")
            losses[name] = (cross * weight).sum() / len(said)
        o, a, _ = self.sizes
        error = (self.inverse(torch.cat((rows[:, :o], rows[:, o + a :]), 1)) - rows[:, o : o + a]).square().mean(1)
        losses["inverse"] = (error * target).sum() / target.sum().clamp(min=1)
        return {"loss": losses["transition"] + losses["behaviour"] + losses["inverse"], **losses}

    # ------------------------------------------------------------ scores

    def log_odds(self, inputs: Tensor, fold: Tensor | None = None) -> Tensor:
        """Return the log odds (M,) that transitions (M, 2 O + A) are the target's.

        fold (M,): of target transitions that were trained on; by default, and of the source's, the mean of all.
        """
        rows = self.normalizer(inputs)
        said = self.transition(rows)
        if self.config.score == "dara":
            said = (said - self.behaviour(rows[:, : -self.sizes[2]])).clamp(-MOST, MOST)
        mean = said.mean(0)
        if fold is None:
            return mean
        return torch.where(fold == SOURCE, mean, said.gather(0, fold.clamp(min=0)[None])[0])

    def scale(self, log_odds: Tensor) -> None:
        """Take the range of p from all transitions' log odds (M,); the outermost thousandths do not count."""
        p = log_odds.sigmoid()
        some = p if len(p) < 1_000_000 else p[:: len(p) // 1_000_000]  # torch sorts no more than 16 millions
        low, high = some.quantile(0.001), some.quantile(0.999)
        self.low.copy_(low)
        self.high.copy_(torch.maximum(high, low + 1e-6))

    def scores(self, log_odds: Tensor) -> Tensor:
        """Return every transition's share of c_dyn (M,), -1 ... 1."""
        p = ((log_odds.sigmoid() - self.low) / (self.high - self.low)).clamp(0, 1)
        return dynamics_score(p, self.config.epsilon)

    def inverse_errors(self, inputs: Tensor) -> Tensor:
        """Return log(1 + |I(s, s') - a|) of transitions (M,), actions in units of their spread."""
        rows, (o, a, _) = self.normalizer(inputs), self.sizes
        said = self.inverse(torch.cat((rows[:, :o], rows[:, o + a :]), 1))
        return torch.log1p((said - rows[:, o : o + a]).norm(dim=1))

    def action_between(self, observation: Tensor, following: Tensor) -> Tensor:
        """Return the target's action (M, A) between two observations (M, O)."""
        o, a, _ = self.sizes
        rows = self.normalizer(self.inputs(observation, observation.new_zeros(len(observation), a), following))
        made = self.inverse(torch.cat((rows[:, :o], rows[:, o + a :]), 1))
        return made * self.normalizer.std[o : o + a] + self.normalizer.mean[o : o + a]


def _shares(rows: Tensor) -> Tensor:
    """Return weights (E, B) that add up to 1 for each classifier over the rows that are True, and are 0 elsewhere."""
    return rows.float() / rows.sum(1, keepdim=True).clamp(min=1)


def dynamics_score(p: Tensor, epsilon: float) -> Tensor:
    """Return a transition's share of eq. 3 for p, the scaled probability that it is the target's: -1 ... 1."""
    kappa = math.log((1 + epsilon) / epsilon)
    return (torch.log(p + epsilon) - torch.log(1 - p + epsilon)) / kappa


def window_means(values: Tensor, start: Tensor, last: Tensor, horizon: int) -> Tensor:
    """Return the mean of transitions' values within windows (M,).

    Args:
        values: of the transition from each row of the episodes to the next (T,); an episode's last row has none, and
            whatever stands there is not read.
        start: first rows of the windows (M,).
        last: last rows of their episodes (M,).
        horizon: H. A window of H rows has H - 1 transitions (one where H is 1), fewer where its episode ends: padding
            does not count.
    """
    sums = torch.cat((values.new_zeros(1, dtype=torch.float64), values.double().cumsum(0)))
    end = torch.minimum(start + max(horizon - 1, 1), last)
    return ((sums[end] - sums[start]) / (end - start)).float()


def unit_range(values: Sequence[Tensor]) -> list[Tensor]:
    """Return values (M,) of several sets such that the smallest of all is 0 and the largest 1."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return [(v - low) / max(high - low, 1e-12) for v in values]
