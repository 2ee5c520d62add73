"""What the films show: recorded motions of the arm, and of bodies in an environment that waits for its planner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from onestride.engine.engine import Engine
from onestride.evaluation.entries import evaluation_variants, policy_of
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError, decode
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.reports.filmed import filmed, task_of_scene
from onestride.runs.run import task_of
from onestride.runs.settings import ReturnsConfig
from onestride.tasks.lockstep import make_environment
from onestride.tasks.obstacles import Scene
from onestride.tensors import load_tensors, save_tensors

LONGEST = 8.0  # of a body's motion [s]


def read_arrays(
    path: Path, variants: Mapping[str, Variant], shared: Sequence[str], kinds: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, dict[Variant, np.ndarray]], dict[str, str]]:
    """Read an evaluation's file of tensors: those that all rows share, those of each kind by variant, and the header.

    Args:
        variants: those to read, by their rows. kinds: a row's tensors are named ``<kind>.<row>``.

    Raises:
        CheckpointError: no such file, or a tensor is missing.
    """
    tensors, header = load_tensors(path)
    arrays = {name: value.double().numpy() for name, value in tensors.items()}
    rows = [row for row in variants if f"{kinds[0]}.{row}" in arrays]
    wanted = (*shared, *(f"{kind}.{row}" for kind in kinds for row in rows))
    missing = [name for name in wanted if name not in arrays]
    if missing or not rows:
        raise CheckpointError(
            f"{path} lacks {missing or f'{kinds[0]}.<row>'}, it holds {sorted(arrays)}: evaluate again"
        )
    of = {kind: {variants[row]: arrays[f"{kind}.{row}"] for row in rows} for kind in kinds}
    return {name: arrays[name] for name in shared}, of, header


@dataclass(frozen=True)
class ArmMotion:
    """One trial of several variants in the same scene, of an arm or another robot.

    Times start at 0 on the clock that decisions were charged to.
    """

    scene: Scene
    joints: dict[Variant, np.ndarray]  # (T, nq), of an arm its joints [rad]
    times: dict[Variant, np.ndarray]  # (T,) [s]
    path: dict[Variant, np.ndarray]  # (T, 3), of the tool or the robot [m]

    @classmethod
    def load(cls, path: Path, variants: Mapping[str, Variant], task: str = "kinova") -> ArmMotion:
        """Read ``motion.safetensors`` of a task. variants: those to read, by their rows.

        Raises:
            CheckpointError: no such file, a tensor is missing, or the task's trials are not filmed.
        """
        shared, of, _ = read_arrays(path, variants, ("start", "goal", "obstacles"), ("joints", "times", "path"))
        times = {variant: t - t[0] for variant, t in of["times"].items()}
        return cls(filmed(task).scene(**shared), of["joints"], times, of["path"])

    def ending(self, variant: Variant) -> str:
        """Return how it ended, in a word or two."""
        short = float(np.linalg.norm(self.path[variant][-1] - self.scene.goal))
        return "arrived" if short <= filmed(task_of_scene(self.scene)).arrived else f"{1000 * short:.0f} mm short"

    def joints_at(self, variant: Variant, times: np.ndarray) -> np.ndarray:
        """Return the joints (n, nq) at these times (n,) [s]; after the end, the last ones."""
        return np.stack([np.interp(times, self.times[variant], angle) for angle in self.joints[variant].T], -1)


@dataclass(frozen=True)
class BodyMotion:
    """What planners did in the environment from the same start, one action per control period."""

    environment: str  # Gymnasium's id
    seed: int  # of the environment
    control_dt: float  # [s]
    actions: dict[str, np.ndarray]  # row -> (T, A)
    fell: dict[str, bool]  # row -> whether it ended so

    def end(self, row: str) -> float:
        """Return the simulated time at which a row's motion ends [s]."""
        return len(self.actions[row]) * self.control_dt

    def is_down(self, row: str, step: int) -> bool:
        """Return whether the body has fallen after so many control periods."""
        return self.fell[row] and step >= len(self.actions[row])

    def save(self, path: Path) -> None:
        """Write ``motion.safetensors``."""
        about = {"environment": self.environment, "seed": self.seed, "control_dt": self.control_dt, "fell": self.fell}
        tensors = {f"actions.{row}": torch.from_numpy(actions) for row, actions in self.actions.items()}
        save_tensors(path, tensors, {"about": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> BodyMotion:
        """Read ``motion.safetensors``.

        Raises:
            CheckpointError: no such file, or it holds no motion.
        """
        tensors, header = load_tensors(path)
        actions = {n.removeprefix("actions."): v.numpy() for n, v in tensors.items() if n.startswith("actions.")}
        if "about" not in header or not actions:
            raise CheckpointError(f"{path} holds no motion, but {sorted(tensors)}: delete it and evaluate again")
        return cls(actions=actions, **decode(header["about"], About, f"{path}, header, about"))


class About(TypedDict):
    """What the header says of a ``BodyMotion``."""

    environment: str
    seed: int
    control_dt: float
    fell: dict[str, bool]


def body_motion(
    run: Path, rows: Mapping[str, Variant], config: ReturnsConfig, path: Path, device: str = "cpu"
) -> BodyMotion:
    """Return what the run's planners do with the selectors they are evaluated with; made once, then kept in ``path``.

    Raises:
        CheckpointError: the run holds no planners, or ``path`` no motion.
    """
    if path.is_file():
        return BodyMotion.load(path)
    task = task_of(run)
    assert task.benchmark is not None
    first = {entry.row: entry for entry in reversed(evaluation_variants(run, config)) if entry.row in rows}
    actions: dict[str, np.ndarray] = {}
    fell: dict[str, bool] = {}
    with track("motion", len(first)) as bar:
        for row in (row for row in rows if row in first):
            policy = policy_of(run, first[row], device)
            actions[row], fell[row] = act(policy, task.benchmark.environment, FIRST_SEED)
            bar.update(len(actions), rows[row].label)
    motion = BodyMotion(task.benchmark.environment, FIRST_SEED, task.control.control_dt, actions, fell)
    motion.save(path)
    return motion


def act(policy: Policy | Engine, environment: str, seed: int) -> tuple[np.ndarray, bool]:
    """Return actions (T, A) from the environment's start, at most ``LONGEST`` seconds of them, and whether it fell."""
    policy.reset(0)
    env = make_environment(environment)
    observation, _ = env.reset(seed=seed)
    actions: list[np.ndarray] = []
    terminated = truncated = False
    while len(actions) < LONGEST / policy.control.control_dt - 1e-6 and not (terminated or truncated):
        actions.append(policy.act(np.asarray(observation)[None])[0].astype(np.float32))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
    env.close()
    return np.stack(actions), terminated and not policy.control.goal_reached(np.asarray(observation))
