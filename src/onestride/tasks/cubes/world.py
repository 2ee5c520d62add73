"""OGBench's cubes with the goal in the observation, and starts that depend on the seed alone. It needs OGBench."""

# OGBench is optional and has no types:
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false, reportAssignmentType=false
# pyright: reportIncompatibleVariableOverride=false
from __future__ import annotations

from typing import Any

import numpy as np
from ogbench.manipspace.envs.cube_env import CubeEnv

from onestride.tasks.cubes.control_spec import CENTRE, CONTROL_DT, CUBES, REACH, SCALE, out_of_reach
from onestride.tasks.manipulation import Spaces

TYPES = {1: "single", 2: "double"}


class CubeWorld(Spaces, CubeEnv):
    """A UR5e with a two-finger gripper before one cube or two; each has a place to go to.

    An observation is OGBench's own, then x, y, z where every cube is to go. A step at whose end all cubes are within
    0.04 m of their places earns 1, others 0; held in the air counts too, as in OGBench. ``reset`` takes one of
    OGBench's five evaluation tasks: number ``seed % 5`` of them, or one at random. What it shakes and turns at the
    start depends on the seed. ``options={"starts": ..., "goals": ...}``, (cubes, 3) each [m], takes others.

    Args:
        name: of the task, one of ``CUBES``.
        ends_at_goal: whether an episode terminates where all cubes are at their places.
        render_mode: the environment's.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / CONTROL_DT)}  # noqa: RUF012

    def __init__(self, name: str, ends_at_goal: bool = True, render_mode: str | None = None) -> None:
        self.cubes, self.size = CUBES[name].cubes, CUBES[name].observation_dim
        super().__init__(
            env_type=TYPES[self.cubes], terminate_at_goal=ends_at_goal, visualize_info=render_mode is not None,
            render_mode=render_mode, control_timestep=CONTROL_DT,
        )  # fmt: skip
        self.render_mode = render_mode
        self.first = np.zeros(self.size)  # the first observation of the episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the first observation; see the class.

        Raises:
            ValueError: starts or goals have another shape, or are out of reach.
        """
        options = options or {}
        if seed is not None:
            self.action_space.seed(seed)
        if "starts" in options or "goals" in options:
            starts, goals = (self._given(options, name) for name in ("starts", "goals"))
            chosen: dict[str, Any] = {"task_info": {"task_name": "given", "init_xyzs": starts, "goal_xyzs": goals}}
        else:
            number = int(self.np_random.integers(self.num_tasks)) if seed is None else seed % self.num_tasks
            chosen = {"task_id": 1 + number}
        observation, info = super().reset(options=chosen, seed=seed)
        self.first = observation
        return observation, info

    def _given(self, options: dict[str, Any], name: str) -> np.ndarray:
        given = np.asarray(options.get(name, ()), np.float64)
        if given.shape != (self.cubes, 3):
            raise ValueError(f"options['{name}'] has shape {given.shape}, expected ({self.cubes}, 3): x, y, z [m]")
        for i in np.flatnonzero(~((given >= REACH[0]) & (given <= REACH[1])).all(1)):
            raise ValueError(f"options['{name}']: {out_of_reach('cube', int(i), given[i])}")
        return given

    def compute_observation(self) -> np.ndarray:
        """Return OGBench's observation and where every cube is to go."""
        goals = self.data.mocap_pos[self._cube_target_mocap_ids]
        return np.concatenate((super().compute_observation(), ((goals - CENTRE) * SCALE).ravel()))
