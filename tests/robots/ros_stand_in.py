"""Stand-ins of rclpy and the messages that the ROS 2 driver uses, with ROS's names."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace


class Message:
    """A message: its fields by name, which have to be known."""

    fields = ()

    def __init__(self, **values):
        assert values.keys() <= set(self.fields), values
        self.__dict__.update(dict.fromkeys(self.fields), **values)


MESSAGES = {
    "builtin_interfaces.msg": {"Duration": ("sec", "nanosec")},
    "geometry_msgs.msg": {"PoseStamped": ("header", "pose")},
    "sensor_msgs.msg": {"JointState": ("header", "name", "position", "velocity", "effort")},
    "trajectory_msgs.msg": {
        "JointTrajectory": ("header", "joint_names", "points"),
        "JointTrajectoryPoint": ("positions", "velocities", "accelerations", "effort", "time_from_start"),
    },
}


class Node:
    """Keeps what is published, and who listens."""

    def __init__(self):
        self.published, self.listeners = [], {}

    def create_publisher(self, msg_type, topic, qos_profile):
        return SimpleNamespace(publish=lambda message: self.published.append((topic, message)))

    def create_subscription(self, msg_type, topic, callback, qos_profile):
        self.listeners[topic] = callback


def joints(**positions) -> Message:
    """Return a JointState."""
    return sys.modules["sensor_msgs.msg"].JointState(name=list(positions), position=list(positions.values()))


def pose(frame: str, x: float, y: float, z: float) -> Message:
    """Return a PoseStamped."""
    at = SimpleNamespace(position=SimpleNamespace(x=x, y=y, z=z))
    return sys.modules["geometry_msgs.msg"].PoseStamped(header=SimpleNamespace(frame_id=frame), pose=at)


def install(monkeypatch) -> None:
    """Put the stand-ins where ``import`` finds them."""
    made = {name: ModuleType(name) for name in (*MESSAGES, *(name.partition(".")[0] for name in MESSAGES))}
    for name, messages in MESSAGES.items():
        for message, fields in messages.items():
            setattr(made[name], message, type(message, (Message,), {"fields": fields}))
    made["rclpy"], made["rclpy.qos"] = ModuleType("rclpy"), ModuleType("rclpy.qos")
    made["rclpy.qos"].qos_profile_sensor_data = object()
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
