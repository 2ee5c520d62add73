"""onestride's planners as a policy of LeRobot, by the name ``onestride``.

LeRobot's programs import this package by themselves, since its name begins with ``lerobot_policy_``; it registers the
policy's configuration. Where LeRobot is used from Python, import it before a policy is loaded.
"""

from lerobot_policy_onestride.configuration_onestride import OneStrideConfig
from lerobot_policy_onestride.modeling_onestride import OneStridePolicy
from lerobot_policy_onestride.processor_onestride import make_onestride_pre_post_processors

__all__ = ["OneStrideConfig", "OneStridePolicy", "make_onestride_pre_post_processors"]
