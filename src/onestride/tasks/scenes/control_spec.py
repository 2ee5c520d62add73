"""Control interfaces of the scenes, in NumPy alone. ``task.py`` has the tasks.

An observation is OGBench's own of a state, then what is asked for: each button's state, and where drawer and window are
to be. An action is that of the cubes (``tasks/cubes/control_spec.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError, as_they_are, check_numbers
from onestride.robot.limits import Limits
from onestride.tasks.cubes.control_spec import ACTION_DIM, CONTROL_DT, HORIZON, N_ACTION_STEPS, N_OBS_STEPS

STATE_DIM, GOAL_DIM = 40, 4  # numbers of OGBench's observation, and of what is asked for
STEP_DIM = STATE_DIM + GOAL_DIM
BUTTONS = (29, 33)  # where it says that a button is 1, which unlocks what it belongs to
DRAWER, WINDOW = 36, 38  # where it says how far they are open
DRAWER_SCALE, WINDOW_SCALE = 18.0, 15.0  # of these numbers, per metre
DRAWER_OPEN, WINDOW_OPEN = -0.16, 0.2  # [m]; closed is 0
NEAR = 0.04  # OGBench: drawer and window are where they are to be within this distance [m]


@dataclass(frozen=True)
class Scene:
    """What differs between the tasks.

    Attributes:
        environment: Gymnasium's id.
        asks: what may be asked for, of "drawer", "window" and "buttons"; the rest stays as it is, and unlocked.
        episode_steps: after how many steps an episode is cut off.
    """

    environment: str
    asks: tuple[str, ...]
    episode_steps: int


SCENES = {
    "scene-drawer": Scene("onestride/SceneDrawer-v0", ("drawer",), 200),
    "scene-window": Scene("onestride/SceneWindow-v0", ("window",), 200),
    "scene": Scene("onestride/Scene-v0", ("drawer", "window", "buttons"), 500),
}


@dataclass(frozen=True)
class Setting:
    """How buttons (2,), 0 or 1, drawer and window [m] are, or are to be."""

    buttons: tuple[int, int]
    drawer: float
    window: float

    def reached(self, goal: Setting) -> bool:
        """Return whether this is what is asked for."""
        near = abs(self.drawer - goal.drawer) <= NEAR and abs(self.window - goal.window) <= NEAR
        return near and self.buttons == goal.buttons


def settings(observation: np.ndarray) -> tuple[Setting, Setting]:
    """Return how things are and how they are to be, by the last of the observations."""
    last = observation[-STEP_DIM:]
    first, second = (round(float(last[at])) for at in BUTTONS)
    now = Setting((first, second), float(last[DRAWER]) / DRAWER_SCALE, float(last[WINDOW]) / WINDOW_SCALE)
    *buttons, drawer, window = last[STATE_DIM:].tolist()
    return now, Setting((round(buttons[0]), round(buttons[1])), drawer / DRAWER_SCALE, window / WINDOW_SCALE)


def control_spec(name: str) -> ControlSpec:
    """Return the control interface of the task ``name``, one of ``SCENES``."""
    size, limits = N_OBS_STEPS * STEP_DIM, Limits(-np.ones(ACTION_DIM), np.ones(ACTION_DIM))

    def validate(observation: np.ndarray) -> None:
        check_numbers(observation, size, f" of {name}")
        asked = np.asarray(observation)[-GOAL_DIM:]
        low = np.array([0.0, 0.0, DRAWER_OPEN * DRAWER_SCALE, 0.0])
        high = np.array([1.0, 1.0, 0.0, WINDOW_OPEN * WINDOW_SCALE])
        if ((asked < low - 1e-3) | (asked > high + 1e-3)).any():
            raise ObservationError(
                f"the scene is asked for {np.round(asked, 3).tolist()}, expected buttons 0 or 1, the drawer at "
                f"{low[2]:g} to 0 and the window at 0 to {high[3]:g}"
            )

    def goal_reached(observation: np.ndarray) -> bool:
        now, goal = settings(observation)
        return now.reached(goal)

    return ControlSpec(
        name=name,
        observation_dim=size,
        n_obs_steps=N_OBS_STEPS,
        n_action_steps=N_ACTION_STEPS,
        state_dim=0,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        validate_observation=validate,
        goal_reached=goal_reached,
        limits=limits,
        commands=lambda plan, _observation: plan.clip(limits.low, limits.high),
        action_columns=as_they_are,
        rest=np.zeros(ACTION_DIM),
        layout="twice, the older first: the arm's 19 numbers and a cube's 9 as of cube-single; of each button whether "
        "it is 0, or 1, its depth [1/120 m] and speed; drawer [1/18 m] and window [1/15 m] with their speeds; then "
        "the buttons, the drawer and the window as they are to be",
    )
