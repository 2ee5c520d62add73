"""A LeRobotDataset on disk, as LeRobot writes it: a point that walks to the middle of PushT's field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lerobot.datasets import LeRobotDataset

STATES = {"observation.state": 2, "observation.environment_state": 16}
NAME = "onestride/point"


def write_dataset(root: Path, episodes: int = 4, frames: int = 30, fps: int = 10, side: int = 0) -> Path:
    """Write a data set and return its folder. ``side``: of a camera's images; 0: there is none."""
    features = {
        name: {"dtype": "float32", "shape": (size,), "names": None} for name, size in {**STATES, "action": 2}.items()
    }
    if side:
        names = ["height", "width", "channels"]
        features["observation.images.top"] = {"dtype": "image", "shape": (side, side, 3), "names": names}
    dataset = LeRobotDataset.create(NAME, fps, features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        point, corners = rng.uniform(0, 512, 2), rng.uniform(0, 512, 16)
        for _ in range(frames):
            target = point + 0.3 * (256 - point)
            frame = {
                "observation.state": point.astype(np.float32),
                "observation.environment_state": corners.astype(np.float32),
                "action": target.astype(np.float32),
                "task": "to the middle",
            }
            if side:
                frame["observation.images.top"] = rng.integers(0, 256, (side, side, 3), np.uint8)
            dataset.add_frame(frame)
            point = target
        dataset.save_episode()
    dataset.finalize()
    return root
