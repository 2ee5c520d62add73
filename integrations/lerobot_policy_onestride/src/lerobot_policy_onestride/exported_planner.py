"""A planner that ``onestride export`` wrote: LeRobot's observations go in, chunks of commands come out.

Normalisation is inside. It runs on the CPU without torch; nothing of the folder is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION
from onestride.engine.engine import Engine
from onestride.robot.control_spec import ControlSpec
from onestride.robot.decision import NoPlanError
from torch import Tensor

from lerobot_policy_onestride.observations import Observed, sizes_of

WARM_UP = 5  # decisions; LeRobot's real-time loop takes the slowest so far for what the next will take


class ExportedPlanner:
    """Makes chunks by an engine.

    Args:
        folder: that ``onestride export`` wrote.

    Raises:
        CheckpointError: there is none, or one that was altered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.engine = folder, Engine.from_folder(folder)
        spec = self.engine.control
        self.spec: ControlSpec = spec
        self.n_obs_steps, self.n_action_steps, self.control_dt = spec.n_obs_steps, spec.n_action_steps, spec.control_dt
        self.horizon = 1 if spec.commands is None else spec.horizon
        self.action_dim, self.longest_prefix = spec.action_dim, self.engine.longest_prefix
        self.engine.warm_up(np.zeros(spec.observation_dim) if spec.example is None else spec.example, WARM_UP)

    def check(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Raise ValueError where LeRobot's features are not those of the planner's task. No inputs: not known yet."""
        shape = tuple(outputs[ACTION].shape)
        if shape != (self.action_dim,):
            raise ValueError(f"'{self.spec.name}' gives actions ({self.action_dim},), LeRobot's 'action' is {shape}")
        if inputs:
            self._check_sizes(*sizes_of(inputs))

    def _check_sizes(self, numbers: Mapping[str, int], cameras: Mapping[str, tuple[int, int]]) -> None:
        spec = self.spec
        if sum(numbers.values()) != spec.numbers_dim:
            given = " + ".join(f"{key} ({size})" for key, size in numbers.items()) or "no numbers"
            raise ValueError(f"'{spec.name}' observes {spec.numbers_dim} numbers, LeRobot gives {given}: {spec.layout}")
        for field, found in self._paired(cameras).items():
            (wanted,) = (camera.shape[:2] for camera in spec.cameras if camera.name == field)
            if cameras[found] != wanted:
                raise ValueError(
                    f"camera '{field}' of '{spec.name}' gives images {wanted} [px, height and width], LeRobot's "
                    f"'{found}' {cameras[found]}: make them as large as in the data that was learnt from"
                )

    def _paired(self, cameras: Mapping[str, Any]) -> dict[str, str]:
        """The task's cameras -> LeRobot's: by name, or where both have one."""
        wanted = [camera.name for camera in self.spec.cameras]
        if len(wanted) == len(cameras) == 1:
            return dict(zip(wanted, cameras, strict=True))
        if missing := [name for name in wanted if name not in cameras]:
            raise ValueError(
                f"'{self.spec.name}' sees the cameras {wanted}, LeRobot gives {list(cameras)}: name them "
                f"{', '.join(f'observation.images.{name}' for name in missing)}, for instance by --rename_map"
            )
        return {name: name for name in wanted}

    def chunk(self, observed: Observed, committed: Tensor | None, noise: Tensor | None) -> Tensor:
        """Return the commands (B, rows, A) of the plans for observations, in the robot's units.

        Args:
            observed: ``n_obs_steps`` of each.
            committed: the first of these commands (n, A), which are sent whatever is decided, or None.
            noise: None; an engine has its own.

        Raises:
            ValueError: there is noise, or an observation is of other sizes or cannot be acted on.
            NoPlanError: no candidate is finite, or the folder gives no plan where several commands are carried out.
        """
        if noise is not None:
            raise ValueError("an exported planner draws its own noise; leave `noise` away")
        vectors = self._vectors(observed)
        rows = None if committed is None else committed.double().cpu().numpy()
        chunks = np.stack([self._commands(vector, rows) for vector in vectors])
        return torch.from_numpy(chunks.astype(np.float32)).to(observed.numbers.device)

    def _vectors(self, observed: Observed) -> np.ndarray:
        """The observations that are decided on (B, observation_dim)."""
        numbers, images = observed.numbers, observed.images
        sizes = {name: (image.shape[2], image.shape[3]) for name, image in images.items()}
        self._check_sizes({"numbers": numbers.shape[2]}, sizes)
        pairs = self._paired(images)
        seen = [images[pairs[camera.name]].flatten(2).round().double() for camera in self.spec.cameras]
        return torch.cat((numbers.double(), *seen), 2).flatten(1).cpu().numpy()

    def _commands(self, vector: np.ndarray, committed: np.ndarray | None) -> np.ndarray:
        """The commands (rows, A) of a plan for an observation."""
        spec = self.spec
        decision = self.engine.decide(vector, committed=committed)
        made = decision.action[None]
        if spec.commands is not None and len(decision.plan):
            made = spec.commands(decision.plan.astype(np.float64), vector)
        if len(made) < self.n_action_steps:
            raise NoPlanError(
                f"{self.folder} gives {len(made)} of {self.n_action_steps} commands: export it again, with its plan"
            )
        if committed is not None:
            made[: len(committed)] = committed
        if not np.isfinite(made).all():
            raise NoPlanError(f"a command of '{spec.name}' is not finite")
        return made
