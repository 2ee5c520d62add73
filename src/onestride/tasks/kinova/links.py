"""The Kinova Gen3's links and joints, in the manufacturer's numbers. NumPy alone; ``arm.py`` has the model.

Everything is in the base frame, in metres and radians, with z up. The base stands on the table plane z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DAMPING = 0.5  # viscous friction of every joint [N m s/rad]


@dataclass(frozen=True)
class Link:
    """One moving link and its joint, which turns it about its own z axis.

    Attributes:
        name: of the link.
        offset: of the joint in the previous link's frame [m].
        tilt: turn about x from the previous link's frame to this one's [deg].
        mass: [kg].
        limit: largest angle of the joint in either direction [rad].
        speed: largest speed of the joint [deg/s].
        torque: largest torque of the joint [N m].
        kp: position gain of the joint's servo [N m/rad].
        kv: velocity gain of the joint's servo [N m s/rad].
        armature: inertia of the rotor behind the gear [kg m^2].
        radius: of the capsule that is the link's shape [m].
    """

    name: str
    offset: tuple[float, float, float]
    tilt: float
    mass: float
    limit: float
    speed: float
    torque: float
    kp: float
    kv: float
    armature: float
    radius: float


BASE_HEIGHT, BASE_MASS, BASE_RADIUS = 0.15643, 1.697, 0.055
LINKS = (
    Link("shoulder", (0, 0, BASE_HEIGHT), 180, 1.3773, np.inf, 80, 39, 9000, 150, 0.10, 0.050),
    Link("upper_arm_1", (0, 0.005375, -0.12838), 90, 1.1636, 2.24, 80, 39, 9000, 150, 0.10, 0.046),
    Link("upper_arm_2", (0, -0.21038, -0.006375), -90, 1.1636, np.inf, 80, 39, 9000, 150, 0.10, 0.046),
    Link("forearm", (0, 0.006375, -0.21038), 90, 0.9302, 2.57, 80, 39, 9000, 150, 0.10, 0.042),
    Link("wrist_1", (0, -0.20843, -0.006375), -90, 0.6781, np.inf, 70, 9, 2000, 20, 0.03, 0.036),
    Link("wrist_2", (0, 0.00017505, -0.10593), 90, 0.6781, 2.09, 70, 9, 2000, 20, 0.03, 0.036),
    Link("bracelet", (0, -0.10593, -0.00017505), -90, 0.5, np.inf, 70, 9, 2000, 20, 0.03, 0.030),
)
TOOL_OFFSET = (0.0, 0.0, -0.061525)  # of the tool's tip, in the bracelet's frame [m]
TOOL_RADIUS = 0.018
JOINTS = tuple(f"joint_{i}" for i in range(1, 8))

JOINT_LIMITS = np.array([(-link.limit, link.limit) for link in LINKS])  # (7, 2) [rad]
VELOCITY_LIMITS = np.deg2rad([link.speed for link in LINKS])  # (7,) [rad/s]
KP = np.array([link.kp for link in LINKS])  # (7,) [N m/rad]
KV = np.array([link.kv for link in LINKS])  # (7,) [N m s/rad]

#: The planar arm, with joint 3 at pi and the tool pointing down.
SHOULDER_HEIGHT = 0.15643 + 0.12838  # [m]
UPPER_ARM = 2 * 0.21038  # shoulder to elbow [m]
FOREARM = 0.20843 + 0.10593  # elbow to wrist centre [m]
WRIST_HEIGHT = 0.10593 + 0.061525  # wrist centre above the tip of the tool [m]
