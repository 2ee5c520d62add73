"""PushT's physics without its picture and its reward: what a sequence of actions does to the agent and the block.

Lengths are in pixels, angles in radians, times in seconds, as in the environment.
"""

# pymunk comes with gym-pusht, which is optional:
# pyright: reportMissingImports=false
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from onestride.tasks.pusht.environment import make_pusht


@dataclass(frozen=True)
class State:
    """All that moves. One thing is left out, as pymunk does not tell it: how overlapping bodies are pushed apart.

    Attributes:
        agent: position of the agent (x, y) [px].
        velocity: of the agent (x, y) [px/s].
        block: position of the middle of the bar's outer edge (x, y) [px].
        angle: of the block [rad].
        sliding: velocity of the block (x, y) [px/s]. After a contact it lasts for 0.01 s.
        turning: angular velocity of the block [rad/s], which lasts as long.
    """

    agent: tuple[float, float]
    velocity: tuple[float, float]
    block: tuple[float, float]
    angle: float
    sliding: tuple[float, float] = (0.0, 0.0)
    turning: float = 0.0


def read_state(env: gymnasium.Env[Any, Any]) -> State:
    """Return the state of a PushT environment."""
    world: Any = env.unwrapped
    return _state_of(world.agent, world.block)


def _state_of(agent: Any, block: Any) -> State:
    return State(
        tuple(agent.position),
        tuple(agent.velocity),
        tuple(block.position),
        block.angle,
        tuple(block.velocity),
        block.angular_velocity,
    )


class Simulation:
    """The bodies of a PushT environment, to be moved from any state.

    A state is set in place, which is much quicker than a copy of the bodies. What touched before is forgotten.

    Args:
        env: a PushT environment after a reset. Its own bodies are moved, and it counts contacts no more. By default a
            new one.
    """

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None) -> None:
        if env is None:
            env = make_pusht()
            env.reset(seed=0)
        world: Any = env.unwrapped
        self._space, self._agent, self._block = world.space, world.agent, world.block
        self._shapes = [*world.agent.shapes, *world.block.shapes]
        self._gains = float(world.k_p), float(world.k_v)
        self._dt = world.dt
        self._substeps = int(1 / (world.dt * world.control_hz))
        #: The block's 8 corners in its own frame (8, 2) [px], in the order of an observation.
        self.corners = np.array([tuple(v) for shape in world._block_shapes for v in shape.get_vertices()])
        x, y, angle = world.goal_pose
        self._goal = [(x + u, y + v) for u, v in self._turned(angle)]

    def set_state(self, state: State) -> None:
        """Move the bodies to ``state``. What follows does not depend on anything before."""
        agent, block = self._agent, self._block
        self._space.remove(*self._shapes)  # the contacts go with the shapes
        self._space.step(self._dt)  # the push apart after an overlap is used up
        agent.position, agent.velocity = state.agent, state.velocity
        block.angle = state.angle  # first: it turns the block about another point than its position
        block.position = state.block
        block.velocity, block.angular_velocity = state.sliding, state.turning
        self._space.add(*self._shapes)

    def step(self, action: Sequence[float]) -> None:
        """Move the agent towards ``action`` (x, y) [px] for one control period."""
        agent, step, dt = self._agent, self._space.step, self._dt
        (kp, kv), (x, y) = self._gains, action
        vx, vy = agent.velocity
        for _ in range(self._substeps):
            px, py = agent.position
            vx += (kp * (x - px) + kv * (0.0 - vx)) * dt
            vy += (kp * (y - py) + kv * (0.0 - vy)) * dt
            agent.velocity = vx, vy
            step(dt)

    def state(self) -> State:
        """Return the present state."""
        return _state_of(self._agent, self._block)

    def error(self) -> float:
        """Return the mean distance of the block's corners from where they are at the goal [px]."""
        x, y = self._block.position
        corners = self._turned(self._block.angle)
        return sum(math.hypot(x + u - p, y + v - q) for (u, v), (p, q) in zip(corners, self._goal, strict=True)) / 8

    def _turned(self, angle: float) -> list[tuple[float, float]]:
        cos, sin = math.cos(angle), math.sin(angle)
        return [(cos * u - sin * v, sin * u + cos * v) for u, v in self.corners.tolist()]
