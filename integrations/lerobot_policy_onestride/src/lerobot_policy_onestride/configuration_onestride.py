"""The policy's configuration: which exported planner acts, or which method is trained by LeRobot, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import CosineAnnealingWithWarmupSchedulerConfig
from onestride.training.config import TrainConfig

DEFAULT = TrainConfig()


@PreTrainedConfig.register_subclass("onestride")
@dataclass
class OneStrideConfig(PreTrainedConfig):
    """Either ``exported`` names a planner that acts as it is, or the rest says what LeRobot trains.

    Attributes:
        exported: a folder that ``onestride export`` wrote. In a saved configuration it lies beside it.
        n_action_steps: actions of a chunk that ``select_action`` gives before the next is made; None: as many as the
            exported planner's task carries out, or half of the horizon.
        method: of onestride, by its name; one that learns from windows of a data set alone.
        settings: of the method, as JSON gives them; what is left away is the method's own default.
        n_obs_steps: observations that a decision is about, one per control period.
        horizon: actions of a plan; the first is for the period that begins now.
        prefix: how many actions may be committed when a plan is asked for; above 0 for real-time chunking.
        vision: how cameras are encoded, the settings of onestride's ``VisionConfig``.
        drop_n_last_frames: frames at an episode's end from which no plan is learnt. Plans that reach beyond the end
            repeat the last action, as suits positions.
        fps: control periods per second; None: that of the data set.
        ema_decay: of the averaged weights, which act.
        normalization_mapping: how LeRobot's processors normalise; encoders take images as they are.
        optimizer_lr, optimizer_weight_decay, optimizer_grad_clip_norm, scheduler_warmup_steps: of AdamW, and of a
            cosine to zero.
    """

    exported: str | None = None
    n_action_steps: int | None = None
    method: str = "mip"
    settings: dict[str, Any] = field(default_factory=dict)
    n_obs_steps: int = 2
    horizon: int = 16
    prefix: int = 0
    vision: dict[str, Any] = field(default_factory=dict)
    drop_n_last_frames: int = 0
    fps: float | None = None
    ema_decay: float = DEFAULT.ema_decay
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MIN_MAX,
            "ENV": NormalizationMode.MIN_MAX,
            "ACTION": NormalizationMode.MIN_MAX,
        }
    )
    optimizer_lr: float = DEFAULT.learning_rate
    optimizer_weight_decay: float = DEFAULT.weight_decay
    optimizer_grad_clip_norm: float = DEFAULT.grad_clip
    scheduler_warmup_steps: int = DEFAULT.warmup

    def __post_init__(self) -> None:
        if self.exported is not None:
            self.device = "cpu"  # where exported planners run
            self.normalization_mapping = dict.fromkeys(self.normalization_mapping, NormalizationMode.IDENTITY)
        super().__post_init__()
        if min(self.n_obs_steps, self.horizon) < 1 or not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"n_obs_steps is {self.n_obs_steps}, horizon {self.horizon} and ema_decay {self.ema_decay}; expected "
                "at least 1, 1, and 0 <= ema_decay < 1"
            )
        if self.normalization_mapping.get("VISUAL", NormalizationMode.IDENTITY) is not NormalizationMode.IDENTITY:
            raise ValueError("normalization_mapping of VISUAL must be IDENTITY: encoders take images as they are")

    @property
    def observation_delta_indices(self) -> list[int]:
        """Frames of the observations that a plan is learnt from, counted from now."""
        return list(range(1 - self.n_obs_steps, 1))

    @property
    def action_delta_indices(self) -> list[int]:
        """Frames of a plan's actions, counted from now."""
        return list(range(self.horizon))

    @property
    def reward_delta_indices(self) -> None:
        """No reward is learnt from."""
        return

    def get_optimizer_preset(self) -> AdamWConfig:
        """Return the optimiser that onestride trains with."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineAnnealingWithWarmupSchedulerConfig:
        """Return a short warm-up and a cosine to zero."""
        return CosineAnnealingWithWarmupSchedulerConfig(num_warmup_steps=self.scheduler_warmup_steps)

    def validate_features(self) -> None:
        """Raise ValueError where nothing is observed or done; the planner checks the sizes."""
        if self.action_feature is None:
            raise ValueError("the policy needs the output feature 'action'; the data set or environment has none")
