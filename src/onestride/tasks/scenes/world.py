"""OGBench's scene with the goal in the observation, and starts that depend on the seed alone. It needs OGBench."""

# OGBench is optional and has no types:
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false, reportAssignmentType=false
# pyright: reportIncompatibleVariableOverride=false
from __future__ import annotations

from typing import Any

import numpy as np
from ogbench.manipspace.envs.scene_env import SceneEnv

from onestride.tasks.cubes.control_spec import CONTROL_DT
from onestride.tasks.manipulation import Spaces
from onestride.tasks.scenes.control_spec import (
    DRAWER_OPEN,
    DRAWER_SCALE,
    SCENES,
    STEP_DIM,
    WINDOW_OPEN,
    WINDOW_SCALE,
    Setting,
)

CUBE = np.array([[0.3, -0.07], [0.45, 0.18]])  # where OGBench puts the cube [m]


class SceneWorld(Spaces, SceneEnv):
    """A UR5e with a two-finger gripper before a drawer, a window, a button for each that locks it, and a cube.

    An observation is OGBench's own, then what is asked for. A step at whose end buttons, drawer and window are so earns
    1, others 0; the cube may be anywhere. ``reset`` draws a start and a goal by its seed.

    Args:
        name: of the task, one of ``SCENES``.
        ends_at_goal: whether an episode terminates where all is as it is to be.
        render_mode: the environment's.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / CONTROL_DT)}  # noqa: RUF012

    size = STEP_DIM

    def __init__(self, name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> None:
        self.asks, self.goal = SCENES[name].asks, Setting((1, 1), 0.0, 0.0)
        super().__init__(
            env_type="scene", permute_blocks=False, terminate_at_goal=ends_at_goal,
            visualize_info=render_mode is not None, render_mode=render_mode, control_timestep=CONTROL_DT,
        )  # fmt: skip
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the first observation; see the class."""
        del options
        if seed is not None:
            self.action_space.seed(seed)
        rng = np.random.default_rng(self.np_random.integers(2**31) if seed is None else seed)
        start, self.goal = draw_settings(self.asks, rng)
        cube = np.array([[*rng.uniform(*CUBE), 0.02]])
        sides = {"init": start, "goal": self.goal}
        chosen = {
            side: {
                "block_xyzs": cube, "button_states": np.array(each.buttons), "drawer_pos": each.drawer,
                "window_pos": each.window,
            }
            for side, each in sides.items()
        }  # fmt: skip
        return super().reset(options={"task_info": {"task_name": "drawn", **chosen}}, seed=seed)

    def compute_observation(self) -> np.ndarray:
        """Return OGBench's observation and what is asked for."""
        goal = self.goal
        asked = [*goal.buttons, DRAWER_SCALE * goal.drawer, WINDOW_SCALE * goal.window]
        return np.concatenate((super().compute_observation(), asked))

    def told(self, info: dict[str, Any], what: str) -> dict[str, Any]:
        """Return what an oracle is told beside the state: where it is to bring "drawer", "window", "button 0" or 1."""
        handles = {"drawer": self._drawer_target_site_id, "window": self._window_target_site_id}
        if what in handles:
            return info | {f"privileged/target_{what}_handle_pos": self.data.site_xpos[handles[what]].copy()}
        number = int(what[-1])
        place = self.data.site_xpos[self._button_site_ids[number]].copy()
        told = {"button": number, "button_state": 1 - self._cur_button_states[number], "button_top_pos": place}
        return info | {f"privileged/target_{name}": value for name, value in told.items()}

    def _compute_successes(self) -> tuple[list[bool], list[bool], bool, bool]:
        _, buttons, drawer, window = super()._compute_successes()
        return [True] * self._num_cubes, buttons, drawer, window  # the cube is not asked for


def draw_settings(asks: tuple[str, ...], rng: np.random.Generator) -> tuple[Setting, Setting]:
    """Return a start and a goal of which something is left to do."""
    while True:
        drawn = rng.integers(0, 2, (2, 2)).tolist() if "buttons" in asks else [[1, 1], [1, 1]]
        buttons = [(int(a), int(b)) for a, b in drawn]
        start = Setting(buttons[0], rng.uniform(DRAWER_OPEN, 0.0), rng.uniform(0.0, WINDOW_OPEN))
        goal = Setting(
            buttons[1],
            DRAWER_OPEN * float(rng.integers(2)) if "drawer" in asks else start.drawer,
            WINDOW_OPEN * float(rng.integers(2)) if "window" in asks else start.window,
        )
        apart = abs(start.drawer - goal.drawer) > 0.08 or abs(start.window - goal.window) > 0.08
        if apart or start.buttons != goal.buttons:
            return start, goal
