"""The quadrotor's demonstrations, its plans and their frame, its score and its measures."""

import numpy as np
import pytest
import torch

from onestride.engine.engine import Engine
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.robot.control_spec import ObservationError
from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.obstacles import BOX, PILLAR, distance
from onestride.tasks.quadrotor import bspline
from onestride.tasks.quadrotor import task as quadrotor
from onestride.tasks.quadrotor.bspline import BSplineConfig
from onestride.tasks.quadrotor.demonstrations import HARDEST, HOLD, chunk, evaluation_scenes, open_on_both_sides
from onestride.tasks.quadrotor.measures import METRICS, blocking_obstacle, measure_candidates, sides
from onestride.tasks.quadrotor.scene import BODY_RADIUS, FLIGHT_HIGH, FLIGHT_LOW, RESPONSE, ROOM_HIGH, ROOM_LOW, Scene
from onestride.training.windows import make_windows

TASK = TASKS["quadrotor"]()
CONTROL = TASK.control
CONFIG = BSplineConfig()


@pytest.fixture(scope="module")
def made():
    return chunk(0, 5)


@pytest.fixture(scope="module")
def windows(made):
    """Observations (B, H, 57) and actions (B, H, 3) of whole windows, the last row repeated to the horizon."""
    rows = []
    for episode in made[0][:24]:
        index = np.minimum(np.arange(CONTROL.horizon), len(episode))
        actions = np.concatenate((episode.actions, episode.actions[-1:]))
        rows.append((episode.observations[index], actions[index]))
    observations, actions = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(observations)), torch.from_numpy(np.stack(actions))


# --- demonstrations ---


@pytest.mark.slow
def test_no_demonstration_touches_anything_by_an_independent_check(made):
    """Each row by itself against each obstacle by itself, and against the room."""
    episodes, _ = made
    for episode in episodes[::7]:
        obstacles = episode.observations[0, 9:].reshape(6, 8).astype(float)
        path = episode.observations[:, :3].astype(float)
        assert min(distance(p, obstacles) for p in path) > CONFIG.clearance - 0.005
        assert (path >= FLIGHT_LOW - 1e-3).all()
        assert (path <= FLIGHT_HIGH + 1e-3).all()


def test_speed_and_acceleration_stay_within_limits(made):
    episodes, _ = made
    velocity = np.concatenate([e.observations[:, 3:6] for e in episodes])
    change = np.concatenate([e.actions - e.observations[:-1, 3:6] for e in episodes]) / RESPONSE
    assert np.linalg.norm(velocity, axis=1).max() <= CONFIG.speed * 1.001
    hard = np.linalg.norm(change, axis=1)
    assert hard.max() <= HARDEST
    assert np.quantile(hard, 0.99) <= 1.5 * CONFIG.acceleration


def test_episodes_move_as_they_say_and_end_at_rest_at_the_goal(made):
    for episode in made[0][:40]:
        position, velocity = episode.observations[:, :3], episode.observations[:, 3:6]
        change = (velocity[1:] - velocity[:-1]) / CONFIG.control_dt
        np.testing.assert_allclose(episode.actions, velocity[:-1] + RESPONSE * change, atol=1e-4)
        np.testing.assert_allclose(position[-1 - HOLD :], episode.observations[-1 - HOLD :, 6:9], atol=1e-5)
        np.testing.assert_array_equal(velocity[-1 - HOLD :], 0)
        middle = (position[2:] - position[:-2]) / (2 * CONFIG.control_dt)
        np.testing.assert_allclose(velocity[1 : -1 - HOLD], middle[: len(middle) - HOLD], atol=1e-4)
        assert len(episode) < CONTROL.horizon


@pytest.mark.slow
def test_a_chunk_is_a_function_of_its_number_and_goes_round_on_both_sides(made):
    episodes, counts = made
    again, _ = chunk(0, 5)
    for a, b in zip(episodes, again, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
    refused = ("refused: paths longer than a plan", "refused: too sharp a turn from the start's velocity")
    paths = sum(n for name, n in counts.items() if name.startswith("paths"))
    assert len(episodes) == paths - sum(counts[name] for name in refused)
    assert counts["scenes with several answers"] > 0.2 * counts["scenes"]
    assert 0.7 < counts["paths left"] / counts["paths right"] < 1.4


@pytest.mark.slow
def test_evaluation_scenes_were_not_trained_on(made):
    scenes = evaluation_scenes(10, 0)
    trained = {tuple(e.observations[0, 6:9].tolist()) for e in made[0]}
    assert not trained & {tuple(np.float32(s.goal).tolist()) for s in scenes}
    assert set(open_on_both_sides(scenes)) <= set(range(10))


# --- plans ---


def test_a_plan_made_of_a_window_decodes_to_the_window(windows):
    raw, targets = windows
    plans, context = TASK.plan_window(raw, targets)
    given = TASK.encode(raw[:, 0])
    torch.testing.assert_close(TASK.paths(plans, given.frame), raw[..., :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(TASK.command(plans, given.frame), targets[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(context, given.context)
    assert plans.shape[1:] == (CONTROL.horizon, CONTROL.transition_dim)
    assert context.shape[1] == TASK.context_dim


def test_known_entries_are_the_state_and_the_goal(windows):
    raw, targets = windows
    plans, _ = TASK.plan_window(raw, targets)
    known = plans.flatten(1)[:, torch.from_numpy(TASK.plans.known_entries)]
    torch.testing.assert_close(known, TASK.encode(raw[:, 0]).values, atol=1e-4, rtol=0)
    assert TASK.plans.mask.sum() == 6 + 3


def test_every_row_as_a_command_is_the_windows(windows):
    raw, targets = windows
    plans, _ = TASK.plan_window(raw, targets)
    for plan, seen, wanted in zip(plans.numpy(), raw[:, 0].numpy(), targets.numpy(), strict=True):
        np.testing.assert_allclose(CONTROL.commands(plan, seen), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, -0.1]])
def test_at_the_goal_and_straight_above_it_everything_is_finite(offset):
    observation = torch.from_numpy(quadrotor.first_observation(evaluation_scenes(1, 0)[0])).float()[None]
    observation[:, 6:9] = observation[:, :3] + torch.tensor(offset)
    given = TASK.encode(observation)
    assert given.values.isfinite().all()
    assert given.context.isfinite().all()
    torch.testing.assert_close(torch.linalg.det(given.frame[0].axes), torch.ones(1))


def test_turning_the_room_about_its_middle_turns_nothing_the_plan_sees(windows):
    raw = windows[0][:, 0]
    turned = raw.clone()
    for first in (0, 3, 6):
        turned[:, first : first + 2] *= -1
    rows = turned[:, 9:].view(-1, 6, 8)
    rows[..., 1:3] *= -1
    before, after = TASK.encode(raw), TASK.encode(turned)
    torch.testing.assert_close(after.values, before.values, atol=1e-4, rtol=0)
    points = len(quadrotor.BASIS_POINTS)
    torch.testing.assert_close(after.context[:, -points:], before.context[:, -points:], atol=1e-4, rtol=0)


def test_windows_of_episodes_become_whole_plans(made):
    windows = make_windows(made[0][:3], TASK)
    assert len(windows) == sum(len(e) for e in made[0][:3])
    last = windows.plans[:, -1, :3]
    torch.testing.assert_close(last, torch.zeros_like(last), atol=1e-4, rtol=0)


# --- the score ---


def test_a_clear_way_scores_more_than_one_through_an_obstacle_or_along_a_detour():
    rows = np.zeros((6, 8))
    rows[0] = (PILLAR, 0.0, 0.0, 0.8, 0.1, 0.1, 0.8, 0.0)
    start, goal = np.array([-1.2, 0.0, 0.8]), np.array([1.2, 0.0, 0.8])
    observation = torch.from_numpy(quadrotor.first_observation(Scene(start, goal, rows))).float()[None]
    frame = TASK.encode(observation).frame
    u = torch.linspace(0, 1, CONTROL.horizon)
    bump = torch.sin(torch.pi * u)
    plans = torch.zeros(1, 4, CONTROL.horizon, 9)
    plans[..., 0] = u - 1  # at a steady pace from start to goal
    plans[0, 1, :, 1] = 0.13 * bump  # 0.31 m to the left, of 2.4 m
    plans[0, 2, :, 1] = 0.4 * bump
    plans[0, 3, :, 1] = 0.13 * bump
    plans[0, 3, 1::2, 2] += 0.02  # the same, but shaking
    through, clear, detour, shaking = TASK.score(plans, observation, frame)[0].tolist()
    assert clear > max(through, detour, shaking)
    early = plans[:, 1:2].clone()
    early[..., :-20, :] = plans[:, 1:2, :: CONTROL.horizon // (CONTROL.horizon - 20)][..., : CONTROL.horizon - 20, :]
    waiting = torch.zeros(1, 1, CONTROL.horizon // 2, 9)
    early = torch.cat((plans[:, 1:2, ::2], waiting), 2)  # twice as fast, then it waits
    assert TASK.score(early, observation, frame)[0, 0] > clear


@pytest.mark.slow
def test_clearance_is_of_a_ball_to_obstacles_and_walls():
    scene = evaluation_scenes(1, 0)[0]
    rng = np.random.default_rng(0)
    points = rng.uniform(ROOM_LOW, ROOM_HIGH, (50, 3))
    observation = torch.from_numpy(quadrotor.first_observation(scene))[None]
    found = quadrotor.clearance(torch.from_numpy(points)[None], observation)[0].numpy()
    walls = np.minimum(points - ROOM_LOW, ROOM_HIGH - points).min(1)
    wanted = np.minimum([distance(p, scene.obstacles) for p in points], walls) - BODY_RADIUS
    np.testing.assert_allclose(found, wanted, atol=2e-6)


# --- measures ---


def test_sides_are_counted_where_the_path_passes_the_obstacle():
    start, goal = np.array([-1.0, 0.0, 0.8]), np.array([1.0, 0.0, 1.0])  # moving along +x: left is +y
    u = np.linspace(-1, 1, 41)
    bump = np.exp(-((u / 0.3) ** 2))[:, None]
    line = np.linspace(start, goal, 41)
    left, right, over = (line + bump * np.array(v) for v in ([0, 0.3, 0.3], [0, -0.3, 0], [0, 0.05, 0.3]))
    paths = np.stack((left, left, right, over))
    box = np.array([BOX, 0.0, 0.0, 0.5, 0.1, 0.1, 0.5, 0.0])
    assert sides(paths, start, goal, box).tolist() == [0.5, 0.25, 0.25]
    pillar = np.array([PILLAR, 0.0, 0.0, 0.8, 0.1, 0.1, 0.8, 0.0])
    assert sides(paths, start, goal, pillar).tolist() == [0.75, 0.25, 0.0]


def test_the_blocking_obstacle_is_the_one_whose_surface_is_nearest_and_candidates_are_measured():
    rows = np.zeros((6, 8))
    rows[1] = (PILLAR, 0.0, 0.3, 0.8, 0.1, 0.1, 0.8, 0.0)  # 0.2 m off the line
    rows[3] = (BOX, 0.3, -0.3, 0.5, 0.2, 0.2, 0.5, 0.0)  # 0.1 m off
    scene = Scene(np.array([-1.0, 0.0, 0.8]), np.array([1.0, 0.0, 0.8]), rows)
    assert blocking_obstacle(scene) == 3
    line = np.linspace(scene.start, scene.goal, 41)
    near = line + np.array([0, 0.16, 0])  # the ball of 7 cm touches the pillar
    measured = measure_candidates(np.stack((line, near)), np.stack((line, line)), scene, shown=True)
    assert set(measured) <= {metric.name for metric in METRICS}
    assert measured["candidates_free"] == 0.5
    assert measured["teacher_distance_mm"] == pytest.approx(1e3 * 0.16 / 2**0.5)


# --- what is refused ---


@pytest.mark.slow
def test_what_cannot_be_acted_on_is_refused_with_a_way_out():
    good = quadrotor.first_observation(evaluation_scenes(1, 0)[0])
    CONTROL.validate_observation(good)

    def changed(index, value):
        bad = good.copy()
        bad[index] = value
        return bad

    pillar = np.concatenate(([PILLAR], good[6:9], [0.1, 0.1, 0.8, 0]))
    sphere = np.concatenate(([1.0], good[:3], [0.1, 0.1, 0.8, 0]))
    for bad, message in [
        (good[:-1], r"shape \(56,\), expected \(57,\)"),
        (changed(4, np.nan), r"observation\[4\] is nan"),
        (changed(slice(6, 9), [3.0, 0.0, 0.8]), "outside the workspace"),
        (changed(slice(9, 17), pillar), "100 mm inside an obstacle"),
        (changed(slice(9, 17), sphere), "expected kind 0 .absent., 2 .a box. or 3 .a pillar"),
        (changed(slice(9, 17), [PILLAR, 9, 9, 9, 0, 0, 1, 0]), "sizes above 0"),
    ]:
        with pytest.raises(ObservationError, match=message):
            CONTROL.validate_observation(bad)


def test_the_control_interface_is_the_tasks():
    spec = CONTROL_SPECS["quadrotor"]()
    assert (spec.name, spec.transition_dim, spec.horizon) == (TASK.name, CONTROL.transition_dim, CONTROL.horizon)
    assert spec.example is not None
    spec.validate_observation(spec.example)
    np.testing.assert_array_equal(spec.hold(spec.example), np.zeros(3))
    assert spec.control_dt <= 1 / 38  # the rate that is asked of it


def test_the_limits_of_the_demonstrations_leave_thrust_for_feedback():
    from onestride.tasks.quadrotor.model import GRAVITY, MASS, MAX_THRUST

    hardest = GRAVITY + 2**0.5 * bspline.ACCELERATION  # along the path and across it, both upwards
    assert MASS * hardest < 0.96 * MAX_THRUST


# --- the engine ---


def test_an_engine_decides_as_the_policy_does(made):
    torch.manual_seed(0)
    generator = make_generator(TASK, "dnk", {"latent_dim": 8, "hidden": 8, "gain_hidden": 4})
    windows = make_windows(made[0][:3], TASK)
    policy = Policy(TASK, generator, Normalizer.fit(windows.plans, windows.context), candidates=4)
    engine = Engine.from_policy(policy, "torch", draws=1)
    for observation in windows.observations[::40].double().numpy():
        policy.reset(0)
        mine, its = policy.decide(observation), engine.decide(observation)
        np.testing.assert_allclose(its.action, mine.action, atol=1e-5)
        np.testing.assert_allclose(mine.action, CONTROL.commands(mine.plan, observation)[0], atol=1e-5)
