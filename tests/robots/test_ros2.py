"""The ROS 2 driver binds joints by the messages' names and refuses another frame; ROS itself is not here."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

import ros2
from ros_stand_in import Node, install, joints, pose

STATES, COMMANDS, POSE = "/joint_states", "/arm/joint_trajectory", "/tool"


@pytest.fixture
def node(monkeypatch):
    install(monkeypatch)
    return Node()


def arm(node, **more):
    return ros2.Ros2Arm(node, ["pan", "lift"], 0.05, states=STATES, commands=COMMANDS, **more)


def test_joints_are_found_by_name_in_any_order_and_from_several_publishers(node):
    driver = arm(node)
    assert driver.observation == driver.command == {"pan.pos": "rad", "lift.pos": "rad"}
    with pytest.raises(RuntimeError, match=r"no message has \['pan.pos', 'lift.pos'\] yet"):
        driver.read()
    before = time.perf_counter()
    node.listeners[STATES](joints(lift=0.2, wheel=9.0))
    between = time.perf_counter()
    with pytest.raises(RuntimeError, match=r"no message has \['pan.pos'\] yet"):
        driver.read()
    node.listeners[STATES](joints(pan=0.1))
    values, came = driver.read()
    assert values == {"lift.pos": 0.2, "pan.pos": 0.1}
    assert before <= came <= between  # the older of the two
    node.listeners[STATES](joints(wheel=8.0))
    assert driver.read() == (values, came)  # which says nothing of the arm
    assert driver.fault() is None


def test_a_command_is_one_named_point_that_is_due_after_a_period_and_a_stop_is_where_the_joints_are(node):
    driver = arm(node)
    node.listeners[STATES](joints(lift=0.2, pan=0.1))
    driver.write({"lift.pos": 2.0, "pan.pos": 1.0})
    driver.stop()
    node.listeners[STATES](joints(lift=0.3, pan=0.1))
    driver.stop()  # again, not further
    assert {topic for topic, _ in node.published} == {COMMANDS}
    sent = [message for _, message in node.published]
    assert [message.joint_names for message in sent] == [["pan", "lift"]] * 3
    points = [point for message in sent for point in message.points]
    assert [point.positions for point in points] == [[1.0, 2.0], [0.1, 0.2], [0.1, 0.2]]
    assert {(point.time_from_start.sec, point.time_from_start.nanosec) for point in points} == {(0, 50_000_000)}


def test_a_pose_in_another_frame_is_a_fault_and_no_reading(node):
    driver = arm(node, pose=POSE, frame="base_link")
    assert list(driver.observation) == ["pan.pos", "lift.pos"] + [f"base_link/pose.{axis}" for axis in "xyz"]
    node.listeners[STATES](joints(lift=0.2, pan=0.1))
    node.listeners[POSE](pose("base_link", 0.1, 0.2, 0.3))
    node.listeners[POSE](pose("world", 7.0, 7.0, 7.0))
    assert driver.read()[0]["base_link/pose.y"] == 0.2
    assert driver.fault() == "/tool is in frame 'world', expected 'base_link'"


def test_a_message_whose_names_do_not_fit_its_numbers_is_a_fault(node):
    driver = arm(node)
    message = joints(lift=0.2, pan=0.1)
    message.position = [0.2]
    node.listeners[STATES](message)
    assert driver.fault() == "a JointState has names ['lift', 'pan'] and 1 positions"


def test_it_is_connected_when_all_joints_were_heard_of(node, monkeypatch):
    import rclpy

    monkeypatch.setattr(rclpy, "init", lambda: None, raising=False)
    monkeypatch.setattr(rclpy, "create_node", lambda name: node, raising=False)
    monkeypatch.setattr(rclpy, "spin", lambda node: node.listeners[STATES](joints(pan=0.1, lift=0.2)), raising=False)
    words = ["--joints", "pan", "lift", "--control-dt", "0.05"]
    assert ros2.connect(ros2.PARSER.parse_args(words)).read()[0] == {"pan.pos": 0.1, "lift.pos": 0.2}
    with pytest.raises(SystemExit, match=r"no message has \['yaw.pos'\] yet; listened to /joint_states"):
        ros2.connect(ros2.PARSER.parse_args(["--joints", "pan", "yaw", "--control-dt", "1", "--patience", "0"]))
    with pytest.raises(SystemExit, match="--pose and --frame go together"):
        ros2.connect(SimpleNamespace(pose="/tool", frame=""))
