"""The geometry selector prefers what it says it prefers, one thing at a time."""

import numpy as np
import pytest
import torch

from onestride.tasks import TASKS
from onestride.tasks.kinova import task as kinova
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.obstacles import SPHERE

TASK = TASKS["kinova"]()
OBSTACLES = np.zeros((4, 8))
OBSTACLES[0, :5] = [SPHERE, 0.42, 0.0, 0.15, 0.04]
SCENE = Scene(np.array([0.42, -0.2, 0.15]), np.array([0.42, 0.2, 0.15]), OBSTACLES)


def score(paths: torch.Tensor) -> torch.Tensor:
    """Scores (N,) of paths (N, 32, 3) [m], put into plans of the scene."""
    observation = torch.from_numpy(kinova.first_observation(SCENE)).float()[None]
    frame = TASK.encode(observation).frame
    plans = torch.zeros(1, *paths.shape[:2], 9)
    local = torch.einsum("ij,nhj->nhi", frame.axes[0], paths - frame.goal[0]) / frame.length[0]
    plans[0, ..., :3] = local
    return TASK.score(plans, observation, frame)[0]


def around(sideways: float, up: float = 0.0, reach: float = 1.0) -> torch.Tensor:
    """A smooth path from start toward goal, bent by so much in the middle (32, 3)."""
    u = torch.linspace(0, 1, 32)
    smooth = 3 * u**2 - 2 * u**3
    bump = torch.sin(torch.pi * u) ** 2
    y = -0.2 + 0.4 * reach * smooth
    return torch.stack((0.42 + sideways * bump, y, 0.15 + up * bump), -1)


def test_clearance_is_rewarded_until_it_is_enough():
    through, near, clear, far = score(torch.stack([around(s) for s in (0.0, 0.07, 0.11, 0.14)]))
    assert through < near < clear
    assert abs(float(clear - far)) < abs(float(clear - near))  # beyond enough only effort differs


def test_effort_is_penalised():
    calm = around(0.12)
    shaky = calm.clone()
    shaky[::2, 0] += 0.01
    good, bad = score(torch.stack((calm, shaky)))
    assert good > bad


def test_dawdling_is_penalised():
    arrives, stays_back = score(torch.stack((around(0.12), around(0.12, reach=0.6))))
    assert arrives > stays_back


def test_leaving_the_workspace_is_penalised():
    inside, outside = score(torch.stack((around(0.10), around(0.19))))
    assert inside > outside + 0.3


def test_scores_of_a_batch_are_those_of_its_rows():
    plans = torch.randn(3, 5, 32, 9) * 0.3
    observation = torch.from_numpy(kinova.first_observation(SCENE)).float().expand(3, -1).clone()
    observation[1, 0] += 0.02
    frame = TASK.encode(observation).frame
    together = TASK.score(plans, observation, frame)
    for i in range(3):
        alone = TASK.score(plans[i : i + 1], observation[i : i + 1], TASK.encode(observation[i : i + 1]).frame)
        torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("order", [torch.arange(6).flip(0), torch.tensor([3, 1, 5, 0, 2, 4])])
def test_the_order_of_candidates_does_not_matter(order):
    paths = torch.stack([around(s) for s in (-0.14, -0.1, -0.05, 0.05, 0.1, 0.14)])
    torch.testing.assert_close(score(paths[order]), score(paths)[order])
