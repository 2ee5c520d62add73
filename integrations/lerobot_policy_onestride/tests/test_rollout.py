"""LeRobot's program for robots, ``lerobot-rollout``: waiting for an exported planner, in real time, recording."""

from __future__ import annotations

import sys

import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.scripts import lerobot_rollout

from point_robot import PointRobot

pytestmark = pytest.mark.slow


@pytest.fixture
def rolled_out(pretrained, monkeypatch):
    """What is sent to the robot when the program is run with these arguments."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [
            "lerobot-rollout", f"--policy.path={pretrained}", "--robot.type=point_robot", "--fps=10", "--device=cpu",
            "--play_sounds=false", "--return_to_initial_position=false", *arguments,
        ])  # fmt: skip
        lerobot_rollout.main()
        return [tuple(each.values()) for each in PointRobot.sent]

    return run


@pytest.mark.parametrize("inference", ["sync", "rtc"])
def test_a_robot_is_driven(rolled_out, inference):
    sent = rolled_out(f"--inference.type={inference}", "--duration=3")
    assert len(set(sent)) > 8  # more than one chunk's
    assert all(0 <= value <= 512 for action in sent for value in action)


def test_episodes_are_recorded(rolled_out, tmp_path):
    rolled_out(
        "--strategy.type=episodic", "--dataset.repo_id=onestride/rollout_point", f"--dataset.root={tmp_path / 'data'}",
        "--dataset.num_episodes=2", "--dataset.episode_time_s=1.5", "--dataset.reset_time_s=0.2", "--dataset.fps=10",
        "--dataset.single_task=push", "--dataset.push_to_hub=false", "--dataset.video=false",
    )  # fmt: skip
    dataset = LeRobotDataset("onestride/rollout_point", tmp_path / "data")
    assert dataset.num_episodes == 2
    assert dataset[0]["action"].shape == (2,)
    assert dataset[0]["observation.state"].shape == (18,)
