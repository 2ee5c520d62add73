"""What drives the arm without torch says what the planners' side says."""

import numpy as np
import pytest
import torch

from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.kinova.control_spec import commands
from onestride.tasks.kinova.task import make_frame, positions


def rows(way, seed=0):
    """Observations (64, 41) whose goal is ``way(rng)`` from the arm."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(64, 41))
    made[:, :3] = rng.uniform((0.28, -0.32, 0.06), (0.57, 0.32, 0.32), (64, 3))
    made[:, 6:9] = made[:, :3] + np.stack([way(rng) for _ in made])
    return made


@pytest.mark.parametrize(
    "way",
    [
        lambda rng: rng.uniform(-0.3, 0.3, 3),
        lambda rng: rng.uniform(-0.005, 0.005, 3),  # nearer than the frame shrinks
        lambda rng: np.array([0, 0, rng.choice((-0.1, 0.1))]),  # straight up or down
        lambda rng: np.zeros(3),
    ],
)
def test_a_plans_targets_are_those_of_the_batched_frame(way):
    observations = rows(way)
    plans = np.random.default_rng(1).normal(size=(64, 32, 9))
    seen, batch = torch.from_numpy(observations), torch.from_numpy(plans)
    frame = make_frame(seen[:, :3], seen[:, 6:9])
    displaced = torch.einsum("bij,bhi->bhj", frame.axes, batch[..., 6:]) * frame.stride[:, None]
    wanted = (positions(batch, frame) + displaced).numpy()
    found = np.stack([commands(plan, observation) for plan, observation in zip(plans, observations, strict=True)])
    np.testing.assert_allclose(found, wanted, atol=1e-9)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_its_interface_and_more(name):
    task, control_spec = TASKS[name](), CONTROL_SPECS[name]()
    assert TASKS.keys() == CONTROL_SPECS.keys()
    assert (control_spec.name, control_spec.transition_dim) == (name, task.control.transition_dim)
    np.testing.assert_array_equal(control_spec.limits.low, task.control.limits.low)
    assert control_spec.example is None or control_spec.example.shape == (control_spec.observation_dim,)
    for field in ("observation_dim", "action_dim", "horizon", "control_dt", "dwell_steps"):
        assert getattr(control_spec, field) == getattr(task.control, field)
