"""How long and how something is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how, with a short warm-up and a cosine to zero.

    optimizer: "muon" turns every matrix's momentum into the nearest orthogonal one (Jordan et al. 2024), scaled to the
    size of AdamW's steps (Liu et al. 2025), and leaves what is no matrix to AdamW. It costs as much per step whatever
    the batch, so give it large ones.
    """

    steps: int = 10_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    warmup: int = 200
    ema_decay: float = 0.999
    grad_clip: float = 1.0
    seed: int = 0
    precision: str = "auto"  # Fabric's names; "auto": bf16-mixed where the machine is fast at it, else 32-true
    accelerator: str = "auto"
    checkpoint_every: float = 30.0  # [s]
    optimizer: Optimizer = "adamw"
    tensorboard: bool = False  # also writes the curves for TensorBoard, where it is installed

    def identity(self) -> dict[str, Any]:
        """Return what a result depends on."""
        return {k: v for k, v in asdict(self).items() if k != "tensorboard" and (k, v) != ("optimizer", "adamw")}

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"training needs steps and batch_size of at least 1, got {self.steps}, {self.batch_size}")
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(f"training.optimizer is {self.optimizer!r}; there are {', '.join(get_args(Optimizer))}")
