"""A two-link arm that onestride does not know: environment, task, demonstrator, metric and selector in one file."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import nn

from onestride.selectors.selector import SelectorKind
from onestride.tasks.gym import gym_task
from onestride.tasks.metric import Metric

LINKS = (0.3, 0.25)  # [m]
MODEL = Path(__file__).with_name("arm.xml")


class TwoLink(gymnasium.Env):
    """Reach a point. Observation: joint angles [rad], their speeds [rad/s], the goal [m]; action: torques, scaled."""

    observation_space = Box(-np.inf, np.inf, (6,), np.float32)
    action_space = Box(-1.0, 1.0, (2,), np.float32)
    dt = 0.02  # control period [s]

    def __init__(self):
        self.model = mujoco.MjModel.from_xml_path(str(MODEL))
        self.data = mujoco.MjData(self.model)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.np_random.uniform(-2.0, 2.0, 2)
        angle, radius = self.np_random.uniform(-2.5, 2.5), self.np_random.uniform(0.2, 0.5)
        self.goal = radius * np.array([np.cos(angle), np.sin(angle)])
        mujoco.mj_forward(self.model, self.data)
        return self.observe(), {}

    def observe(self):
        return np.concatenate((self.data.qpos, self.data.qvel, self.goal)).astype(np.float32)

    def step(self, action):
        self.data.ctrl[:] = np.clip(action, -1, 1)
        mujoco.mj_step(self.model, self.data, round(self.dt / self.model.opt.timestep))
        distance = float(np.linalg.norm(self.data.site("tip").xpos[:2] - self.goal))
        return self.observe(), -distance, False, False, {}


gymnasium.register("TwoLink-v0", TwoLink, max_episode_steps=100)


def tip(q):
    """Return where joint angles (..., 2) put the tip (..., 2) [m], NumPy or torch."""
    m = torch if isinstance(q, torch.Tensor) else np
    both = q[..., 0] + q[..., 1]
    x = LINKS[0] * m.cos(q[..., 0]) + LINKS[1] * m.cos(both)
    return m.stack((x, LINKS[0] * m.sin(q[..., 0]) + LINKS[1] * m.sin(both)), -1)


def expert(observation, rng):
    """Demonstrate: inverse kinematics, elbow up or down by the arm's own side, and a PD controller with some noise."""
    q, speed, goal = np.split(observation.astype(float), 3)
    a, b = LINKS
    bend = np.arccos(np.clip((goal @ goal - a * a - b * b) / (2 * a * b), -1, 1)) * (1 if q[1] >= 0 else -1)
    lift = np.arctan2(goal[1], goal[0]) - np.arctan2(b * np.sin(bend), a + b * np.cos(bend))
    return np.clip(3.0 * (np.array([lift, bend]) - q) - 0.5 * speed + 0.05 * rng.normal(size=2), -1, 1)


def measure(episode):
    """Return the distance that is left at an episode's end [mm]."""
    last = episode.observations[-1]
    return {"left_mm": 1e3 * float(np.linalg.norm(tip(last[:2]) - last[4:]))}


def two_link():
    """Return the task."""
    return gym_task(
        "TwoLink-v0",
        name="two-link",
        horizon=16,
        reference=(-50.0, 0.0),  # returns that count as 0 and as 1
        metrics=(Metric("left_mm", "distance left", "mm", digits=1, better="lower"),),
        measure_episode=measure,
    )


class Nearest(nn.Module):
    """Rank plans (B, N, H, 8) by how near the goal their tip gets, on average over their rows."""

    kind, model, training_record = "nearest", None, None

    def __init__(self, normalizer, options):
        super().__init__()
        self.normalizer, self.options = normalizer, options

    def forward(self, plans, observation, frame):
        return -torch.linalg.vector_norm(tip(plans[..., :2]) - observation[:, None, None, 4:], dim=-1).mean(-1)


NEAREST = SelectorKind(
    name="nearest", label="nearest", make=lambda _model, normalizer, _control, options: Nearest(normalizer, options)
)
