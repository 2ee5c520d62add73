"""Keyed drifting policies: a one-step planner that is learnt from data alone, without a teacher (KDP).

The network maps noise and what is known of a plan to the plan. In training its samples drift: data of like conditions
attract them, the samples of the same condition repel one another, and the network is taught to say at once where the
drift leads (KDP, eq. 8-15). A condition's key, known entries of the plan and the context, says which data are meant.

    form "grouped"  the default. Of every condition several samples; attracted by its own window and its nearest
                    neighbours in key space; who is near among these is said by the distance of plans.
    form "paper"    KDP's eq. 6-15 and Algorithm 1 literally. Its drift does not depend on the sample, so that it cannot
                    keep several modes apart: see ``keyed_drift`` in ``diffusion/drifting.py`` and the tests.

Source: "Amortizing Trajectory Diffusion with Keyed Drift Fields"; the field of form "grouped": Deng et al. 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from onestride.diffusion.drifting import Repulsion, grouped_drift, keyed_drift
from onestride.methods.method import Method
from onestride.networks.mlp import ResidualMLP
from onestride.networks.plan_network import NAMES, NetworkName, plan_network
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec

NO_NOISE = 0  # the noise index at which the denoiser's network is called


@dataclass(frozen=True)
class KeyedDriftConfig:
    """The paper gives none of these numbers. Temperatures are the drifting paper's, relative to the mean distance.

    Attributes:
        form: see above.
        network: "mlp" (a CPU trains it; the native engine takes it), "unet" (Janner et al. 2022; for a GPU) or
            "transformer".
        width, blocks: of the MLP or the transformer.
        unet_width, unet_multipliers: of the U-Net.
        samples: G, of each condition in a batch. Form "grouped".
        neighbours: windows of other episodes that attract beside the own one. Form "grouped".
        key_temperature: how soon a neighbour counts for less, in mean distances of keys. Form "grouped".
        temperatures: of the field, in mean distances.
        row_share: of the loss that compares plans row by row; the rest compares whole plans. Form "grouped".
        rows: of longer plans so many rows are compared in a step, evenly spaced from a random one on.
        keyed: False: any window of the batch attracts any sample, by the distance of whole plans (an ablation).
        negatives: what repels a sample: the other samples ("masked"), itself too ("kept"), or samples that were drawn
            for nothing else ("independent").
        repulsion: "off" and "literal" are ablations, see ``Repulsion``.
        normalise: whether the drift's size is always 1.
        state_weight, action_weight, first_action_weight: of columns in the loss, the last of row 0's action.
    """

    form: Literal["grouped", "paper"] = "grouped"
    network: NetworkName = "mlp"
    width: int = 512
    blocks: int = 4
    unet_width: int = 32
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8)
    samples: int = 8
    neighbours: int = 7
    key_temperature: float = 0.05
    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    row_share: float = 0.5
    rows: int = 32
    keyed: bool = True
    negatives: Literal["masked", "kept", "independent"] = "masked"
    repulsion: Repulsion = "on"
    normalise: bool = True
    state_weight: float = 1.0
    action_weight: float = 1.0
    first_action_weight: float = 10.0

    def __post_init__(self) -> None:
        for name, known in (
            ("form", ("grouped", "paper")), ("network", NAMES),
            ("negatives", ("masked", "kept", "independent")), ("repulsion", ("on", "off", "literal")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"config.{name} is {getattr(self, name)!r}; there are {', '.join(known)}")
        if self.samples < 1 or self.rows < 1 or (self.form == "grouped" and self.samples < 2):
            raise ValueError(
                f"config.samples is {self.samples} and rows {self.rows}; samples repel one another: at least 2, and 1"
            )
        if self.neighbours < 0 or not 0 <= self.row_share <= 1:
            raise ValueError(f"neighbours is {self.neighbours} and row_share {self.row_share}; expected >= 0, 0 ... 1")
        if not self.temperatures or min(*self.temperatures, self.key_temperature) <= 0:
            raise ValueError(f"temperatures must be above 0, got {self.temperatures} and {self.key_temperature}")


#: Keys of the data that a planner remembers.
SEEN = 2_048
#: A neighbour farther than so many key temperatures weighs less than 1 in 1000.
REACH = 7.0


class KeyedDriftPlanner(nn.Module):
    """A generator with one network call; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    loss_weight: Tensor
    seen: Tensor
    spacing: Tensor
    nfe = 1

    def __init__(self, config: KeyedDriftConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        self.action = slice(spec.state_dim, None)
        shape = (spec.horizon, spec.row_dim, spec.context_dim)
        self.network = plan_network(config, *shape, n_steps=1)
        weight = torch.full(shape[:2], config.state_weight)
        weight[:, self.action] = config.action_weight
        weight[0, self.action] = config.first_action_weight
        fixed = mask_of(spec)
        self.register_buffer("fixed", fixed, persistent=False)
        self.register_buffer("loss_weight", weight * ~fixed, persistent=False)

        keys = (SEEN, len(spec.known_entries) + spec.context_dim)
        self.register_buffer("seen", torch.zeros(keys))
        self.register_buffer("spacing", torch.zeros(()))  # 0: nothing is remembered

    def remember(self, keys: Tensor) -> None:
        """Keep keys (SEEN, K) of the data, and how far apart they are: what ``unfamiliarity`` compares with."""
        self.seen.copy_(keys)
        apart = torch.cdist(keys, keys).fill_diagonal_(torch.inf).amin(1)
        self.spacing.copy_(apart.quantile(0.99).clamp(min=1e-6))

    def unfamiliarity(self, prior: Tensor, context: Tensor) -> Tensor | None:
        """Return how far the keys of priors (B, H, D) and context (B, C) are from the data's nearest (B,).

        In units of the distance within which 99 % of the data's own keys have another: above 1 is rare, far above it
        is a start or goal that was never seen. None: nothing is remembered.
        """
        if not self.spacing:
            return None
        keys = torch.cat((prior.flatten(1)[:, self.fixed.flatten()], context), 1)
        return torch.cdist(keys, self.seen).amin(1) / self.spacing

    @property
    def folds(self) -> bool:
        """Whether the native engine takes its network."""
        return isinstance(self.network, ResidualMLP)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D); known entries come back bit for bit. Eq. 8 and 16.

        All its noise is in the prior: ``generator`` is for generators that draw more, and is not used.
        """
        del generator
        return torch.where(self.fixed, prior, self.network(prior, NO_NOISE, context))

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the regression to drifted samples (eq. 14, 15) on {"plans" (B, H, D), "context" (B, C)}.

        Form "grouped" also reads "neighbours" (B, K, H, D) and "neighbour_distance" (B, K) where there are any. The
        loss is constant by design. What says how training goes: the drift's size before it is normalised, the error of
        the first action, and how much samples of one condition differ.
        """
        if self.config.form == "paper":
            return self._paper(batch, generator)
        return self._grouped(batch, generator)

    # ------------------------------------------------------------ form "grouped"

    def _grouped(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        config, plans = self.config, batch["plans"]
        x = self._draw(batch, config.samples, generator)  # (B, G, H, D)
        others = self._draw(batch, config.samples, generator).detach() if config.negatives == "independent" else None
        data, weights = plans[:, None], plans.new_ones(len(plans), 1)  # (B, P, H, D), (B, P)
        if "neighbours" in batch:
            near = (-batch["neighbour_distance"] / config.key_temperature).exp()
            data, weights = torch.cat((data, batch["neighbours"]), 1), torch.cat((weights, near), 1)
        if not config.keyed:  # one group of all samples, with every row's own window
            data, weights = plans[None], plans.new_ones(1, len(plans))
            x, others = x.flatten(0, 1)[None], None if others is None else others.flatten(0, 1)[None]
        losses, sizes = {}, {}
        for name, share in (("whole", 1 - config.row_share), ("rows", config.row_share)):
            if share:
                rows = self._some_rows(generator) if name == "rows" else None
                losses[name], size = self._drifted(x, data, weights, others, rows)
                losses[name] = share * losses[name]
                sizes |= {f"drift.{name}.{t:g}": s for t, s in zip(config.temperatures, size, strict=True)}
        error = (x - plans[:, None] if config.keyed else x.unflatten(1, (len(plans), -1))[0] - plans[:, None]).detach()
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            **sizes,
            "first_action": error[:, :, 0, self.action].square().mean().sqrt(),
            "spread": (error - error.mean(1, keepdim=True)).square().mean().sqrt(),
        }

    def _some_rows(self, generator: torch.Generator) -> Tensor:
        """Numbers of the rows that a step compares, at most ``config.rows``; each is as likely as any other."""
        every = torch.arange(len(self.fixed), device=self.fixed.device)
        stride = -(-len(every) // self.config.rows)
        if stride == 1:
            return every
        first = torch.randint(stride, (1,), generator=generator, device=every.device)
        return (every[::stride] + first).clamp(max=len(every) - 1)

    def _drifted(
        self, x: Tensor, data: Tensor, weights: Tensor, others: Tensor | None, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The squared distance of samples (B, G, H, D) from their targets in units, and the drift's sizes (T,).

        rows: which are compared, each by itself; None: whole plans are.
        """

        def vectors(plans: Tensor) -> Tensor:
            return plans.flatten(2)[None] if rows is None else plans[:, :, rows].permute(2, 0, 1, 3)

        free = (~self.fixed).float()
        free, weight = (e.flatten()[None] if rows is None else e[rows] for e in (free, self.loss_weight))
        config = self.config
        with torch.autocast(x.device.type, enabled=False):
            drift, unit = grouped_drift(
                vectors(x.float()), vectors(data.float()), weights, config.temperatures, free,
                self_mask=config.negatives == "masked", repulsion=config.repulsion, normalise=config.normalise,
                negatives=None if others is None else vectors(others.float()),
            )  # fmt: skip
            moved = vectors((x - x.detach()).float()) / unit[:, None, None, None] - drift.field
            return (weight[:, None, None] * moved.square()).mean(), drift.size

    # ------------------------------------------------------------ form "paper"

    def _paper(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        config, plans = self.config, batch["plans"]
        x = self._draw(batch, 1, generator)[:, 0]  # (B, H, D)
        others = None
        if config.negatives == "independent":
            others = self._draw(batch, 1, generator).detach().flatten(1)
        entries = self.fixed.flatten()
        own = torch.cat((plans.flatten(1)[:, entries], batch["context"]), 1)
        key, data_key = (own, own) if config.keyed else (x.flatten(1), plans.flatten(1))
        with torch.autocast(x.device.type, enabled=False):
            drift = keyed_drift(
                x.flatten(1), plans.flatten(1), key, data_key, config.temperatures, (~entries).float(),
                self_mask=config.negatives == "masked", repulsion=config.repulsion, normalise=config.normalise,
                negatives=others,
            )  # fmt: skip
            moved = (x - x.detach()).float() - drift.field.view_as(x)
            loss = (self.loss_weight * moved.square()).mean()
        sizes = {f"drift.{t:g}": size for t, size in zip(config.temperatures, drift.size, strict=True)}
        error = (x - plans).detach()
        return {"loss": loss, **sizes, "first_action": error[:, 0, self.action].square().mean().sqrt()}

    def _draw(self, batch: dict[str, Tensor], count: int, generator: torch.Generator) -> Tensor:
        """Samples (B, count, H, D) of a batch's conditions, clamped: eq. 8."""
        plans = batch["plans"].repeat_interleave(count, 0)
        noise = torch.randn(plans.shape, generator=generator, device=plans.device)
        prior = torch.where(self.fixed, plans, noise)
        context = batch["context"].repeat_interleave(count, 0)
        return torch.where(self.fixed, plans, self.network(prior, NO_NOISE, context)).unflatten(0, (-1, count))


def _neighbours(config: KeyedDriftConfig) -> tuple[int, float]:
    wanted = config.neighbours if config.form == "grouped" and config.keyed else 0
    return wanted, REACH * config.key_temperature


# Samples are drawn from the noise that training knew.
KDP = Method(
    name="kdp", label="KDP", colour="#882255", config=KeyedDriftConfig(), build=KeyedDriftPlanner,
    neighbours=_neighbours, samples=lambda config: config.samples if config.form == "grouped" else 1,
    temperatures=((1.0,), (1.0,)),
)  # fmt: skip
KDP_PAPER = replace(KDP, name="kdp-paper", label="KDP, the paper's form", colour="#AA4499").with_config(
    form="paper", neighbours=0
)
