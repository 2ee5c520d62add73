"""Control interfaces of the Adroit hand's four tasks, in NumPy alone. ``task.py`` has the tasks.

A plan's row is [observation | action] in the environment's own units. Actions are joint targets, scaled to -1 ... 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onestride.robot.control_spec import ControlSpec, plain_control

CONTROL_DT = 0.01  # [s]
HORIZON = 32  # H, rows of a plan


@dataclass(frozen=True)
class Hand:
    """What differs between the four tasks.

    Attributes:
        environment: Gymnasium-Robotics' id.
        observation_dim: O.
        action_dim: A.
        random: D4RL's return of a random policy.
        expert: D4RL's return of an expert.
        achieved: a step that earns more than this has achieved the goal: its bonus is far above all else.
        held_steps: an episode that achieves the goal in more steps than this is a success.
    """

    environment: str
    observation_dim: int
    action_dim: int
    random: float
    expert: float
    achieved: float
    held_steps: int = 25


HANDS = {
    "adroit-pen": Hand("AdroitHandPen-v1", 45, 24, 96.262799, 3076.8331017826877, 30.0, held_steps=20),
    "adroit-door": Hand("AdroitHandDoor-v1", 39, 28, -56.512833, 2880.5693087298737, 15.0),
    "adroit-hammer": Hand("AdroitHandHammer-v1", 46, 26, -274.856578, 12794.134825156867, 60.0),
    "adroit-relocate": Hand("AdroitHandRelocate-v1", 39, 30, -6.425911, 4233.877797728884, 5.0),
}


def control_spec(name: str) -> ControlSpec:
    """Return the control interface of the task ``name``, one of ``HANDS``."""
    hand = HANDS[name]
    return plain_control(
        name=name,
        observation_dim=hand.observation_dim,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        low=-np.ones(hand.action_dim),
        high=np.ones(hand.action_dim),
    )
