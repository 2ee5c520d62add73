"""A geometric tracking controller (Lee, Leok, McClamroch 2010): from where to be to thrust and moments.

The errors and equations are the paper's (sections III and IV), for a fixed heading. Gains are per mass and inertia.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onestride.tasks.quadrotor.model import GRAVITY, INERTIA, MASS, MAX_MOMENT, MAX_THRUST


@dataclass(frozen=True)
class GeometricController:
    """Thrust and moments that bring a quadrotor to a moving point, its x axis pointing along the room's.

    Attributes:
        kp: of the position [1/s^2].
        kv: of the velocity [1/s].
        kr: of the attitude [1/s^2].
        kw: of the turning rate [1/s].
        sideways: largest horizontal acceleration that is asked for [m/s^2].
        down: largest acceleration downwards that is asked for [m/s^2].
    """

    kp: float = 8.0
    kv: float = 5.0
    kr: float = 900.0
    kw: float = 60.0
    sideways: float = 6.0
    down: float = 5.0

    def __call__(
        self, position: np.ndarray, velocity: np.ndarray, rotation: np.ndarray, rate: np.ndarray,
        wanted: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> np.ndarray:  # fmt: skip
        """Return thrust [N] and moments [N m] (4,), within the model's limits.

        Args:
            position: (3,) [m].
            velocity: (3,) [m/s].
            rotation: body to room (3, 3).
            rate: of turning, about the body's axes (3,) [rad/s].
            wanted: position [m], velocity [m/s] and acceleration [m/s^2], (3,) each.
        """
        there, speed, pull = wanted
        asked = self.kp * (there - position) + self.kv * (speed - velocity) + pull
        level = np.hypot(asked[0], asked[1])
        if level > self.sideways:
            asked[:2] *= self.sideways / level
        asked[2] = GRAVITY + max(asked[2], -self.down)
        up = asked / np.linalg.norm(asked)  # b3 of the paper
        left = np.array([0.0, up[2], -up[1]]) / np.hypot(up[1], up[2])  # b3 x (1, 0, 0), normalised
        forward = np.array(
            [left[1] * up[2] - left[2] * up[1], left[2] * up[0] - left[0] * up[2], left[0] * up[1] - left[1] * up[0]]
        )
        desired = np.stack((forward, left, up), 1)
        skew = desired.T @ rotation
        skew = skew - skew.T
        error = 0.5 * np.array([skew[2, 1], skew[0, 2], skew[1, 0]])  # e_R
        spin = INERTIA * rate
        gyroscopic = np.array(
            [rate[1] * spin[2] - rate[2] * spin[1], rate[2] * spin[0] - rate[0] * spin[2],
             rate[0] * spin[1] - rate[1] * spin[0]]
        )  # fmt: skip
        moment = INERTIA * (-self.kr * error - self.kw * rate) + gyroscopic
        thrust = MASS * float(asked @ rotation[:, 2])
        return np.concatenate(
            ((min(max(thrust, 0.0), MAX_THRUST),), np.minimum(np.maximum(moment, -MAX_MOMENT), MAX_MOMENT))
        )
