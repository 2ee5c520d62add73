"""PushT of gym-pusht as Gymnasium environments, which are registered when this is imported.

An observation of ``onestride/PushT-v0`` (18,) is [agent x, y, then x, y of the block's 8 corners] in pixels. The field
is 512 px wide, and at the start corners may be a pixel or two outside. One of ``onestride/PushT-image-v0`` (27650,) is
[agent x, y, then the field as an image of 96 x 96 x 3 numbers from 0 to 255, row by row]. An action (2,) is the
position that the agent moves towards for 0.1 s [px]. The reward is the share of the goal that the block covers, divided
by 0.95 and at most 1. An episode ends when the share is above 0.95, or after 300 steps. After a step ``info`` has
"coverage", which is the share, and "is_success".
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

from onestride.errors import install

ID = "onestride/PushT-v0"
IMAGE_ID = "onestride/PushT-image-v0"
IMAGE_SIDE = 96  # of an image
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
    return _make(("agent_pos", "environment_state"), OBSERVATION_DIM, settings)


def make_pusht_image(**settings: Any) -> gymnasium.Env[np.ndarray, np.ndarray]:
    """Return the environment that shows the field as an image, otherwise as ``make_pusht``."""
    return _make(("agent_pos", "pixels"), 2 + 3 * IMAGE_SIDE**2, settings)


def _make(parts: tuple[str, str], size: int, settings: dict[str, Any]) -> gymnasium.Env[np.ndarray, np.ndarray]:
    """Return the environment whose observations are these parts of gym-pusht's, one after the other."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window is needed, and there may be no screen
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pygame and pymunk import what is to be removed
            from gym_pusht.envs.pusht import PushTEnv
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"PushT needs gym-pusht ('{error.name}' is not installed): {install('tasks')}"
        ) from error
    kind = "pixels_agent_pos" if "pixels" in parts else "environment_state_agent_pos"
    env = PushTEnv(obs_type=kind, observation_width=IMAGE_SIDE, observation_height=IMAGE_SIDE, **settings)

    def flat(observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([observation[part].ravel() for part in parts]).astype(np.float32)

    return TransformObservation(env, flat, Box(-np.inf, np.inf, (size,), np.float32))


for name, make in ((ID, make_pusht), (IMAGE_ID, make_pusht_image)):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=f"{__name__}:{make.__name__}", max_episode_steps=EPISODE_STEPS)
