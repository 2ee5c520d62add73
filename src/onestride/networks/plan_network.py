"""Which network makes plans, and how large it is, as a part of a method's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from onestride.networks.mlp import ResidualMLP
from onestride.networks.transformer import PlanTransformer
from onestride.networks.unet1d import TemporalUNet

NetworkName = Literal["mlp", "unet", "transformer"]
NAMES = get_args(NetworkName)


class NetworkSize(Protocol):
    """What settings say of a network, see ``NetworkConfig``."""

    @property
    def network(self) -> NetworkName:
        """Which."""
        ...

    @property
    def width(self) -> int:
        """Of the MLP's hidden layers, or of a transformer's tokens."""
        ...

    @property
    def blocks(self) -> int:
        """Of the MLP or the transformer."""
        ...

    @property
    def unet_width(self) -> int:
        """Of the U-Net's finest level."""
        ...

    @property
    def unet_multipliers(self) -> tuple[int, ...]:
        """Of ``unet_width``, one per level."""
        ...


@dataclass(frozen=True)
class NetworkConfig:
    """A network of plans.

    Attributes:
        network: "mlp" (a CPU trains it), "unet" (Janner et al. 2022; for a GPU) or "transformer" (DiT over rows).
        width, blocks: of the MLP or the transformer.
        unet_width, unet_multipliers: of the U-Net.
    """

    network: NetworkName = "mlp"
    width: int = 512
    blocks: int = 4
    unet_width: int = 32
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        if self.network not in NAMES:
            raise ValueError(f"config.network is {self.network!r}; there are {', '.join(NAMES)}")


def plan_network(
    size: NetworkSize, horizon: int, row_dim: int, context_dim: int, *, n_steps: int, two_times: bool = False
) -> ResidualMLP | TemporalUNet | PlanTransformer:
    """Return an untrained network (x (B, H, D), k, context (B, C)) -> (B, H, D) of that size.

    Args:
        size: which, and how large.
        horizon: H.
        row_dim: D.
        context_dim: C.
        n_steps: the largest noise index k.
        two_times: whether it is told a second noise index, ``until``.

    Raises:
        ValueError: a size is not positive, the U-Net cannot halve the horizon as often as it has levels, or the width
            of a transformer is no number of whole heads.
    """
    if size.network == "unet":
        return TemporalUNet(
            horizon, row_dim, context_dim, width=size.unet_width, multipliers=size.unet_multipliers, two_times=two_times
        )
    if size.network == "transformer":
        return PlanTransformer(horizon, row_dim, context_dim, width=size.width, blocks=size.blocks, two_times=two_times)
    return ResidualMLP(
        horizon, row_dim, context_dim, n_steps=n_steps, width=size.width, blocks=size.blocks, two_times=two_times
    )
