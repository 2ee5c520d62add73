"""The critic of implicit Q-learning (Kostrikov et al. 2022) as a selector; its policy is ``methods/iql_policy.py``.

A plan is worth min over the critics of Q(s, a_1) (DNK, section III-D), or, with more ``scored_steps``, the mean of
min Q(s_t, a_t) over its first rows: the true state and the first action, then the states and actions that the plan goes
on with. One row asks much of the critic, since the best first action of 64 is where its errors are: a young one prefers
actions that mix two behaviours, and the body falls. More rows average its errors, and bring in those of the plan's own
states: good for plans of 4 rows, bad for those of 32, which a student gets less right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onestride.networks.ensemble import Ensemble
from onestride.networks.normalizer import Normalizer
from onestride.plans.spec import PlanSpec
from onestride.robot.control_spec import ControlSpec
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.selector import SelectorKind

CHUNK = 8192  # rows judged at a time


@dataclass(frozen=True)
class IQLConfig:
    """The source's values, with layer normalisation in the networks: Q grows less wildly where there is no data."""

    hidden: int = 256
    critics: int = 2
    expectile: float = 0.7
    discount: float = 0.99
    polyak: float = 0.005

    def __post_init__(self) -> None:
        if not (0 < self.expectile < 1 and 0 < self.discount < 1 and 0 < self.polyak <= 1):
            raise ValueError(
                f"iql.expectile {self.expectile} and iql.discount {self.discount} must lie between 0 and 1, "
                f"iql.polyak {self.polyak} in (0, 1]"
            )
        if self.critics < 1 or self.hidden < 1:
            raise ValueError(f"iql needs at least 1 critic and 1 hidden unit, got {self.critics} and {self.hidden}")


class IQL(nn.Module):
    """Twin Q and V on transitions; inputs are normalised inside, rewards come scaled (``reward_scale``)."""

    def __init__(self, config: IQLConfig, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        self.q = Ensemble(config.critics, observation_dim + action_dim, config.hidden)
        self.v = Ensemble(1, observation_dim, config.hidden)
        self.target = Ensemble(config.critics, observation_dim + action_dim, config.hidden)
        self.target.load_state_dict(self.q.state_dict())
        self.target.requires_grad_(False)

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Expectile loss of V (eq. 5) and TD loss of Q (eq. 6) on normalised transitions.

        The optimiser's last step is carried into the target networks first: between steps nothing else happens.
        """
        del generator
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.q.parameters(), strict=True):
                slow.lerp_(fast, self.config.polyak)
        pair = torch.cat((batch["observation"], batch["action"]), -1)
        with torch.no_grad():
            goal = self.target(pair).amin(0)
            following = self.v(batch["next_observation"])[0]
            target = batch["reward"] + self.config.discount * (1 - batch["terminated"]) * following
        ahead = goal - self.v(batch["observation"])[0]
        weight = torch.where(ahead > 0, self.config.expectile, 1 - self.config.expectile)
        v_loss = (weight * ahead.square()).mean()
        q_loss = (self.q(pair) - target).square().mean(1).sum()
        return {"loss": v_loss + q_loss, "v": v_loss, "q": q_loss}


@dataclass(frozen=True)
class CriticOptions:
    """How the critic ranks; another choice needs no other training.

    scored_steps: how many of a plan's rows count (all of a shorter plan); 1 is the paper's Q(s, a_1).
    temperatures: how the noise of plans is scaled that it is to rank; none: as their generator's was in training. What
        follows is of these, see ``CandidateSampling``. probabilities: none: all alike.
    """

    scored_steps: int = 1
    temperatures: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    temperature_penalty: float = 0.0
    penalty_free_below: float = 0.5

    def __post_init__(self) -> None:
        if self.scored_steps < 1:
            raise ValueError(f"scored_steps is {self.scored_steps}: a critic judges at least the first action")
        if not self.temperatures and (self.probabilities or self.temperature_penalty):
            raise ValueError("probabilities and temperature_penalty are of temperatures, of which there are none")
        _ = self.sampling  # what cannot be is said before any work

    @property
    def sampling(self) -> CandidateSampling | None:
        """How candidates are drawn; None: as in training."""
        if not self.temperatures:
            return None
        n = len(self.temperatures)
        return CandidateSampling(
            self.temperatures, self.probabilities or (1 / n,) * n, self.temperature_penalty, self.penalty_free_below
        )


class CriticSelector(nn.Module):
    """Scores plans by min Q along them: plans (B, N, H, D) and observation in task units -> (B, N)."""

    kind = "iql"

    training_record: dict[str, Any] | None = None  # how it was trained, as its checkpoint says

    def __init__(
        self,
        iql: IQL,
        normalizer: Normalizer,
        low: Tensor,
        high: Tensor,
        options: CriticOptions | None = None,
    ) -> None:
        super().__init__()
        self.iql, self.normalizer, self.options = iql, normalizer, options or CriticOptions()
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    low: Tensor
    high: Tensor

    @property
    def model(self) -> IQL:
        """What was learnt."""
        return self.iql

    @property
    def scored_steps(self) -> int:
        """How many of a plan's rows count."""
        return self.options.scored_steps

    @torch.no_grad()
    def advantages(self, rows: Tensor) -> Tensor:
        """min Q(s, a) - V(s) of rows [state | action] (M, D) in task units -> (M,), Q of the slow target networks."""
        found = []
        for part in rows.split(CHUNK):
            pair = self.normalizer.plans(part)
            state = pair[:, : pair.shape[1] - len(self.low)]
            found.append(self.iql.target(pair).amin(0) - self.iql.v(state)[0])
        return torch.cat(found)

    def forward(self, plans: Tensor, observation: Tensor, frame: Any) -> Tensor:
        """Actions are clamped as they will be when they are sent; the first state is the observed one, where
        observations are states."""
        del frame
        b, n = plans.shape[:2]
        dim = plans.shape[-1] - len(self.low)
        pair = plans[:, :, : self.scored_steps].clone()
        if observation.shape[-1] == dim:
            pair[:, :, 0, :dim] = observation[:, None]
        pair[..., dim:] = pair[..., dim:].clamp(self.low, self.high)
        return self.iql.q(self.normalizer.plans(pair).flatten(0, 2)).amin(0).view(b, n, -1).mean(2)


def reward_scale(returns: Tensor) -> float:
    """Returns of whole episodes (E,) -> the factor that makes their range 1000 (the source's, for MuJoCo)."""
    spread = float(returns.max() - returns.min())
    if spread <= 0:
        raise ValueError("all episodes earned the same: there is nothing to learn a critic from")
    return 1000.0 / spread


def _build(config: IQLConfig, spec: PlanSpec) -> IQL:
    return IQL(config, spec.state_dim, spec.action_dim)


def _make(model: nn.Module | None, normalizer: Normalizer, control: ControlSpec, options: Any) -> CriticSelector:
    assert isinstance(model, IQL)
    low, high = (torch.from_numpy(limit).float() for limit in (control.limits.low, control.limits.high))
    return CriticSelector(model, normalizer, low, high, options)


def _data(material: Any, _config: IQLConfig) -> dict[str, Tensor]:
    """Normalised transitions, and rewards on the source's scale."""
    step, normalizer = material.transitions(), material.normalizer
    pair = normalizer.plans(torch.cat((step["observation"], step["action"]), -1))
    o = step["observation"].shape[-1]
    return {
        "observation": pair[:, :o],
        "action": pair[:, o:],
        "next_observation": normalizer.start(step["next_observation"]),
        "reward": step["reward"] * reward_scale(material.episode_returns()),
        "terminated": step["terminated"],
    }


IQL_CRITIC = SelectorKind(
    name="iql", label="IQL", make=_make, options=CriticOptions(), config=IQLConfig(), build=_build, data=_data
)
