"""Arms under ROS 2 by topics, in a process of its own: joints are bound by the names in the messages.

    source /opt/ros/jazzy/setup.bash
    python3 ros2.py --joints joint1 joint2 joint3 --control-dt 0.05     # started by robot_process.RobotProcess

It reads ``sensor_msgs/JointState`` from /joint_states, whatever the order of the joints there, and, with --pose, a
``geometry_msgs/PoseStamped`` whose frame must be --frame. It tells a ``joint_trajectory_controller`` (ros2_control) by
``trajectory_msgs/JointTrajectory``: one point, due one control period later. Its numbers are ``joint1.pos`` [rad] of
each joint, and ``FRAME/pose.x``, ``.y``, ``.z`` [m] of a pose: another frame is another name, which no binding takes.

A reading counts from when the oldest of its messages came here; the control loop refuses old ones.

A stop is a trajectory to where the joints are. The controller's own limits stay on; set its ``constraints``. If this
process is killed, the arm goes to its last point and stays there.

Tried against stand-ins of rclpy and the messages alone. Not tried with ROS 2, nor on an arm.
"""

import argparse
import threading
import time

import watchdog


class Ros2Arm:
    """A driver of an arm behind topics.

    Args:
        node: an ``rclpy`` node, which is spun elsewhere.
        joints: their names, as ROS has them.
        control_dt: the control period; a point is due after it [s].
        pose, frame: a topic of poses and the frame that they have to be in, or none.
    """

    def __init__(self, node, joints, control_dt, *, states, commands, pose=None, frame=""):
        from builtin_interfaces.msg import Duration
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import JointState
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

        self.joints, self.frame, self._pose = list(joints), frame, pose
        self.command = {f"{name}.pos": "rad" for name in self.joints}
        self.observation = dict(self.command)
        if pose:
            self.observation.update({f"{frame}/pose.{axis}": "m" for axis in "xyz"})
        self._trajectory, self._point = JointTrajectory, JointTrajectoryPoint
        self._due = Duration(sec=int(control_dt), nanosec=round((control_dt % 1) * 1e9))
        self._seen, self._lock, self._hold = {}, threading.Lock(), None
        self._refused = None
        self._publisher = node.create_publisher(JointTrajectory, commands, 1)
        node.create_subscription(JointState, states, self._on_joints, qos_profile_sensor_data)
        if pose:
            node.create_subscription(PoseStamped, pose, self._on_pose, qos_profile_sensor_data)

    def _on_joints(self, message):
        found = dict(zip(message.name, message.position))  # noqa: B905 (Python 3.8)
        if len(found) != len(message.name) or len(message.name) != len(message.position):
            self._refused = f"a JointState has names {list(message.name)} and {len(message.position)} positions"
            return
        values = {f"{name}.pos": found[name] for name in self.joints if name in found}
        if values:  # several publishers may tell some of them each
            self._take(values)

    def _on_pose(self, message):
        if message.header.frame_id != self.frame:
            self._refused = f"{self._pose} is in frame '{message.header.frame_id}', expected '{self.frame}'"
            return
        at = message.pose.position
        self._take({f"{self.frame}/pose.{axis}": getattr(at, axis) for axis in "xyz"})

    def _take(self, values):
        now = time.perf_counter()
        with self._lock:
            self._seen.update({name: (float(value), now) for name, value in values.items()})

    def read(self):
        """Return the last messages' numbers, and when the oldest of them came.

        Raises:
            RuntimeError: one has never come.
        """
        with self._lock:
            seen = dict(self._seen)
        missing = [name for name in self.observation if name not in seen]
        if missing:
            raise RuntimeError(f"no message has {missing} yet")
        return {name: value for name, (value, _) in seen.items()}, min(when for _, when in seen.values())

    def write(self, command):
        """Publish one point, due one control period from now."""
        self._publish([command[f"{name}.pos"] for name in self.joints])

    def stop(self):
        """Publish where the joints were last seen, the first time and again."""
        with self._lock:
            if self._hold is None:
                self._hold = [self._seen[f"{name}.pos"][0] for name in self.joints]
        self._publish(self._hold)

    def fault(self):
        """Return what was wrong with a message."""
        return self._refused

    def _publish(self, positions):
        point = self._point(positions=[float(p) for p in positions], time_from_start=self._due)
        self._publisher.publish(self._trajectory(joint_names=self.joints, points=[point]))


def connect(arguments):
    """Return the driver of an arm whose joints have been heard of."""
    import rclpy

    if bool(arguments.pose) != bool(arguments.frame):
        raise SystemExit("--pose and --frame go together")
    rclpy.init()
    node = rclpy.create_node("onestride")
    arm = Ros2Arm(
        node, arguments.joints, arguments.control_dt, states=arguments.states, commands=arguments.commands,
        pose=arguments.pose, frame=arguments.frame,
    )  # fmt: skip
    threading.Thread(target=rclpy.spin, args=(node,), daemon=True).start()
    end = time.monotonic() + arguments.patience
    while True:
        try:
            arm.read()
            return arm
        except RuntimeError as error:
            if time.monotonic() > end:
                raise SystemExit(f"{error}; listened to {arguments.states}") from error
            time.sleep(0.05)


PARSER = argparse.ArgumentParser(description="An arm under ROS 2; robot_process.py starts it.")
PARSER.add_argument("--joints", nargs="+", required=True, help="names, as in /joint_states")
PARSER.add_argument("--control-dt", type=float, required=True, help="the task's control period [s]")
PARSER.add_argument("--states", default="/joint_states")
PARSER.add_argument("--commands", default="/joint_trajectory_controller/joint_trajectory")
PARSER.add_argument("--pose", help="a topic of PoseStamped, where the task observes the tool")
PARSER.add_argument("--frame", default="", help="the frame that the task's positions are in, such as base_link")
PARSER.add_argument("--patience", type=float, default=10.0, help="how long to wait for the first messages [s]")

if __name__ == "__main__":
    watchdog.main(connect, PARSER)
