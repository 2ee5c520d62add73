"""LeRobot's processors around the policy: its usual ones, which normalise where a planner is trained by LeRobot."""

from __future__ import annotations

from typing import Any

from lerobot.processor import PolicyProcessorPipeline, make_default_pre_post_processors
from torch import Tensor

from lerobot_policy_onestride.configuration_onestride import OneStrideConfig


def make_onestride_pre_post_processors(
    config: OneStrideConfig, dataset_stats: dict[str, dict[str, Tensor]] | None = None
) -> tuple[PolicyProcessorPipeline[Any, Any], PolicyProcessorPipeline[Any, Any]]:
    """Return what comes before and after the policy. An exported planner's numbers are left as they are.

    Args:
        config: the policy's.
        dataset_stats: of the data set that a planner is trained on, by which its numbers are normalised.
    """
    return make_default_pre_post_processors(config, dataset_stats)
