"""The arm task's frame, its round trips, and what it refuses."""

import numpy as np
import pytest
import torch

from onestride.robot.control_spec import ObservationError
from onestride.tasks import TASKS
from onestride.tasks.kinova import task as kinova
from onestride.tasks.kinova.demonstrations import chunk, evaluation_scenes

TASK = TASKS["kinova"]()
CONTROL = TASK.control


def observations(n: int = 64, seed: int = 0) -> torch.Tensor:
    episodes, _ = chunk(0, 0)
    rng = np.random.default_rng(seed)
    rows = [e.observations[rng.integers(len(e))] for e in rng.choice(np.array(episodes, dtype=object), n)]
    return torch.from_numpy(np.stack(rows))


def windows(n: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    episodes = [e for e in chunk(0, 0)[0] if len(e) >= 32][:n]
    first = torch.from_numpy(np.stack([e.observations[:32] for e in episodes]))
    return first, torch.from_numpy(np.stack([e.actions[:32] for e in episodes]))


@pytest.mark.slow
def test_a_plan_made_of_a_window_decodes_to_the_window():
    raw, targets = windows()
    plans, context = TASK.plan_window(raw, targets)
    frame = TASK.encode(raw[:, 0]).frame
    torch.testing.assert_close(TASK.paths(plans, frame), raw[..., :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(TASK.command(plans, frame), targets[:, 0], atol=1e-6, rtol=0)
    given = TASK.encode(raw[:, 0])
    torch.testing.assert_close(plans[:, 0, : CONTROL.state_dim], given.values)
    torch.testing.assert_close(context, given.context)
    assert plans.shape[1:] == (CONTROL.horizon, CONTROL.transition_dim)
    assert context.shape[1] == TASK.context_dim


@pytest.mark.slow
def test_axes_are_right_handed_and_look_at_the_goal():
    raw = observations()
    frame = kinova.make_frame(raw[:, :3], raw[:, 6:9])
    eye = torch.eye(3).expand(len(raw), 3, 3)
    torch.testing.assert_close(frame.axes @ frame.axes.transpose(1, 2), eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frame.axes), torch.ones(len(raw)))
    values = kinova.encode(raw).values
    far = (raw[:, 6:9] - raw[:, :3]).norm(dim=-1) > kinova.NEAREST
    torch.testing.assert_close(
        values[far, :3], torch.tensor([-1.0, 0.0, 0.0]).expand(int(far.sum()), 3), atol=1e-4, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("offset", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, -0.1]])
def test_at_the_goal_and_straight_above_it_everything_is_finite(offset):
    scene = evaluation_scenes(1, 0)[0]
    observation = torch.from_numpy(kinova.first_observation(scene)).float()[None]
    observation[:, 6:9] = observation[:, :3] + torch.tensor(offset)
    given = TASK.encode(observation)
    assert given.values.isfinite().all()
    assert given.context.isfinite().all()
    torch.testing.assert_close(torch.linalg.det(given.frame.axes), torch.ones(1))


@pytest.mark.slow
def test_turning_the_whole_problem_about_the_base_turns_nothing_the_plan_sees():
    """Positions and obstacles turned alike give the same start and the same seen distances."""
    raw = observations(16)
    angle = torch.tensor(0.4)
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    turned = raw.clone()
    for columns in (slice(0, 3), slice(3, 6), slice(6, 9)):
        turned[:, columns] = raw[:, columns] @ turn.T
    rows = turned[:, 9:].view(-1, 4, 8)
    rows[..., 1:4] = rows[..., 1:4] @ turn.T
    rows[..., 7] += angle
    before, after = kinova.encode(raw), kinova.encode(turned)
    torch.testing.assert_close(after.values, before.values, atol=1e-4, rtol=0)
    points = len(kinova.BASIS_POINTS)
    torch.testing.assert_close(after.context[:, -points:], before.context[:, -points:], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_an_error_near_the_goal_is_small_in_metres():
    """The frame shrinks with the way left: a plan wrong by 5 % of a unit there is wrong by a millimetre."""
    raw = observations(8)
    raw[:, :3] = raw[:, 6:9] + torch.tensor([0.006, 0.0, 0.0])
    frame = kinova.make_frame(raw[:, :3], raw[:, 6:9])
    plans = torch.zeros(8, 32, 9)
    moved = kinova.command(plans + 0.05, frame) - kinova.command(plans, frame)
    assert moved.norm(dim=-1).max() < 0.0013


@pytest.mark.slow
def test_what_cannot_be_acted_on_is_refused_with_a_way_out():
    scene = evaluation_scenes(1, 0)[0]
    good = kinova.first_observation(scene)
    CONTROL.validate_observation(good)

    def changed(index, value):
        bad = good.copy()
        bad[index] = value
        return bad

    sphere = np.concatenate(([1.0], good[6:9], [0.05, 0, 0, 0]))
    for bad, message in [
        (good[:-1], r"shape \(40,\), expected \(41,\)"),
        (changed(4, np.nan), r"observation\[4\] is nan"),
        (changed(slice(6, 9), [0.9, 0.0, 0.2]), "outside the workspace"),
        (changed(slice(9, 17), sphere), "50 mm inside an obstacle"),
    ]:
        with pytest.raises(ObservationError, match=message):
            CONTROL.validate_observation(bad)


@pytest.mark.slow
def test_arrival_is_within_five_millimetres():
    observation = kinova.first_observation(evaluation_scenes(1, 0)[0])
    observation[:3] = observation[6:9] + np.array([0.0, 0.0049, 0.0])
    assert CONTROL.goal_reached(observation)
    observation[:3] = observation[6:9] + np.array([0.0, 0.0051, 0.0])
    assert not CONTROL.goal_reached(observation)
