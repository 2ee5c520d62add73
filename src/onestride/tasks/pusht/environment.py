"""PushT of gym-pusht as the Gymnasium environment ``onestride/PushT-v0``. It is registered when this is imported.

An observation (18,) is [agent x, y, then x, y of the block's 8 corners] in pixels. The field is 512 px wide, and at the
start corners may be a pixel or two outside. An action (2,) is the position that the agent moves towards for 0.1 s [px].
The reward is the share of the goal that the block covers, divided by 0.95 and at most 1. An episode ends when the share
is above 0.95, or after 300 steps. After a step ``info`` has "coverage", which is the share, and "is_success".
"""

# gym-pusht is optional and has no types:
# pyright: reportMissingImports=false
from __future__ import annotations

import os
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformObservation

ID = "onestride/PushT-v0"
SIZE = 512.0  # width of the field [px]
KEYPOINTS = 8
OBSERVATION_DIM = 2 + 2 * KEYPOINTS
CONTROL_DT = 0.1  # [s]
EPISODE_STEPS = 300


def make_pusht(**settings: Any) -> gymnasium.Env[np.ndarray, np.ndarray]:
    """Return the environment without a limit of time. ``gymnasium.make`` calls this and adds the limit.

    Args:
        settings: of gym-pusht's ``PushTEnv``, such as ``render_mode``.

    Raises:
        ModuleNotFoundError: gym-pusht is not installed.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window is needed, and there may be no screen
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pygame and pymunk import what is to be removed
            from gym_pusht.envs.pusht import PushTEnv
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"PushT needs gym-pusht ('{error.name}' is not installed): pip install onestride[tasks]"
        ) from error
    env = PushTEnv(obs_type="environment_state_agent_pos", **settings)
    space = Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float32)
    return TransformObservation(env, _flat, space)


def _flat(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate((parts["agent_pos"], parts["environment_state"])).astype(np.float32)


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=f"{__name__}:make_pusht", max_episode_steps=EPISODE_STEPS)
