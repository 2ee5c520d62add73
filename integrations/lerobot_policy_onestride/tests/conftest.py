"""Exported planners and the folders that LeRobot loads, made once; one thread; no window."""

from __future__ import annotations

import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

import lerobot_policy_onestride  # noqa: F401  # registers the policy
from lerobot_policy_onestride.__main__ import write_pretrained
from planners import PREFIX, export_planner


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A planner of PushT with a prefix."""
    return export_planner(tmp_path_factory.mktemp("exported") / "pusht", prefix=PREFIX)


@pytest.fixture(scope="session")
def exported_image(tmp_path_factory):
    """A planner of PushT with a camera, and without a prefix."""
    return export_planner(tmp_path_factory.mktemp("exported") / "pusht-image", "pusht-image", "mip")


@pytest.fixture(scope="session")
def pretrained(exported, tmp_path_factory):
    """The first as LeRobot loads it."""
    out = tmp_path_factory.mktemp("pretrained") / "pusht"
    write_pretrained(exported, out)
    return out


@pytest.fixture(scope="session")
def pretrained_image(exported_image, tmp_path_factory):
    """The second as LeRobot loads it."""
    out = tmp_path_factory.mktemp("pretrained") / "pusht-image"
    write_pretrained(exported_image, out)
    return out
