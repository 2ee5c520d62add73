"""OGBench's cubes: what is observed, which cube is carried next, the environment, demonstrations and measures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from onestride.commands.stages import Collect
from onestride.data.episode import Episode
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.runs import presets
from onestride.runs.run import preset_of
from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.cubes import demonstrations
from onestride.tasks.cubes.control_spec import CENTRE, CUBES, EDGE, GRIPPER, NEAR, SCALE, kind_of, positions
from onestride.tasks.cubes.demonstrations import APART, chunk, demonstrate, draw_scene, next_move, world_of
from onestride.tasks.cubes.task import context_of, measure_episode
from onestride.tasks.lockstep import make_environment
from onestride.training.windows import make_windows

HERE, THERE = np.array([0.35, -0.2, 0.02]), np.array([0.5, 0.2, 0.02])
ABOVE = np.array([0.35, -0.2, 0.3])  # where the gripper is
UP = np.array([0, 0, EDGE])


def observation(cubes, goals):
    """One with cubes and goals (n, 3) [m] there, and an arm at zero."""
    cubes, goals = np.array(cubes), np.array(goals)
    of_cubes = np.concatenate(((cubes - CENTRE) * SCALE, np.tile([1, 0, 0, 0, 1, 0], (len(cubes), 1))), 1)
    return np.concatenate((np.zeros(19), of_cubes.ravel(), ((goals - CENTRE) * SCALE).ravel()))


@pytest.fixture(params=CUBES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def ogbench():
    return pytest.importorskip("ogbench", reason="needs ogbench, of the extra 'tasks'", exc_type=ImportError)


@pytest.fixture(scope="module")
def worlds(ogbench):
    """The environments by their tasks, which do not end at the goal: they take seconds to make."""
    return {name: world_of(name) for name in CUBES}


@pytest.fixture
def world(worlds, name):
    return worlds[name]


# ---- the control interface ----


def test_the_control_interface_is_the_tasks_and_needs_no_torch(name):
    spec, task = CONTROL_SPECS[name](), TASKS[name]()
    for each in ("name", "observation_dim", "action_dim", "horizon", "control_dt", "n_obs_steps", "layout"):
        assert getattr(spec, each) == getattr(task.control, each)
    assert spec.observation_dim == 2 * {"cube-single": 28 + 3, "cube-double": 37 + 6}[name]
    plans = 3 * torch.randn(4, 16, 5)
    sent = np.stack([spec.commands(plan, None) for plan in plans.numpy()])
    np.testing.assert_array_equal(sent[:, 0], task.command(plans, None).numpy())
    assert np.abs(sent).max() == 1
    code = f"import sys, onestride.tasks as t; t.CONTROL_SPECS[{name!r}](); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_goal_is_reached_where_all_cubes_are_in_place():
    spec = CONTROL_SPECS["cube-double"]()
    off = np.array([0.99 * NEAR, 0, 0])
    for shift, reached in ((off, True), (1.03 * off, False)):
        now = observation([HERE + shift, THERE], [HERE, THERE])
        assert spec.goal_reached(now) is reached
        assert spec.goal_reached(np.concatenate((observation([THERE, HERE], [HERE, THERE]), now))) is reached


def test_a_goal_out_of_reach_is_one_line():
    spec = CONTROL_SPECS["cube-double"]()
    far = np.tile(observation([HERE, THERE], [HERE, [0.9, 0.2, 0.02]]), 2)
    spec.validate_observation(np.tile(observation([HERE, THERE], [THERE, HERE + UP]), 2))
    with pytest.raises(ObservationError, match=r"cube 1 is to go to \[0.9, 0.2, 0.02\] m, .* out of reach; expected"):
        spec.validate_observation(far)
    with pytest.raises(ObservationError, match=r"shape \(43,\), expected \(86,\) of cube-double"):
        spec.validate_observation(far[:43])


def test_to_hold_is_to_keep_what_is_in_the_fingers():
    spec = CONTROL_SPECS["cube-single"]()
    held = np.tile(observation([HERE], [THERE]), 2)
    np.testing.assert_array_equal(spec.hold_command(held), [0, 0, 0, 0, 0])
    held[31 + 18] = 0.5
    np.testing.assert_array_equal(spec.hold_command(held), [0, 0, 0, 0, 1])


# ---- what is asked for, and which cube is next ----


def test_what_an_episode_asks_for_is_said_by_its_first_observation():
    assert kind_of(observation([HERE], [THERE]), 1) == "place"
    assert kind_of(observation([HERE, THERE], [THERE, HERE]), 2) == "swap"
    assert kind_of(observation([HERE, THERE], [HERE, THERE - [0.1, 0, 0]]), 2) == "place"
    assert kind_of(observation([HERE, THERE], [HERE, HERE + UP]), 2) == "stack"


MIDDLE = np.array([0.425, 0.0, 0.02])
MOVES = {
    "the nearest to the gripper": ([HERE, THERE], [MIDDLE, HERE - [-0.2, 0, 0]], 0),
    "what is in place stays": ([HERE, THERE], [HERE, MIDDLE], 1),
    "not to a place that another takes": ([HERE, MIDDLE], [MIDDLE, THERE], 1),
    "what is stacked waits for what is below": ([HERE, THERE], [MIDDLE + UP, MIDDLE], 1),
    "then it goes up": ([HERE, MIDDLE], [MIDDLE + UP, MIDDLE], 0),
    "not from under another": ([HERE, HERE + UP], [MIDDLE, THERE], 1),
}


@pytest.mark.parametrize("case", MOVES)
def test_the_next_move(case):
    cubes, goals, expected = MOVES[case]
    which, place = next_move(np.array(cubes), np.array(goals), ABOVE, np.random.default_rng(0))
    assert which == expected
    np.testing.assert_array_equal(place, goals[which])


def test_where_cubes_change_places_one_goes_aside_first():
    cubes = np.array([HERE, THERE])
    which, place = next_move(cubes, cubes[::-1], ABOVE, np.random.default_rng(0))
    assert which == 0
    assert np.linalg.norm(cubes - place, axis=1).min() >= APART
    cubes[0] = place
    assert next_move(cubes, np.array([THERE, HERE]), ABOVE, np.random.default_rng(0))[0] == 1  # which is free to go
    assert next_move(cubes, cubes, ABOVE, np.random.default_rng(0)) is None


def test_scenes_that_are_drawn_can_be_done_and_are_of_every_kind():
    rng, kinds = np.random.default_rng(0), []
    for _ in range(100):
        cubes, goals = draw_scene(2, rng)
        kinds.append(kind_of(observation(cubes, goals), 2))
        done = 0
        while (move := next_move(cubes, goals, ABOVE, rng)) is not None:  # each as if it were carried out
            cubes[move[0]], done = move[1], done + 1
        assert 1 <= done <= 3
    assert all(kinds.count(kind) > 10 for kind in ("place", "swap", "stack"))


# ---- the environment ----


def test_without_its_package_it_says_what_to_install(monkeypatch):
    for module in ("ogbench", "ogbench.manipspace.envs.cube_env"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "onestride.tasks.cubes.world", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"cube-single needs ogbench.*onestride\[tasks\]"):
        TASKS["cube-single"]().first_observation(0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*precision lowered")  # whenever OGBench asks for its space
def test_an_observation_is_ogbenchs_own_and_the_goals(worlds):
    import gymnasium

    own, world = gymnasium.make("cube-double-v0", disable_env_checker=True), worlds["cube-double"]
    for task, kind in enumerate(("place", "place", "place", "swap", "stack")):
        found, _ = world.reset(seed=100_000 + task)
        own.reset(seed=100_000 + task, options={"task_id": 1 + task})
        assert world.cur_task_info["task_name"] == own.unwrapped.cur_task_info["task_name"]
        assert kind_of(found, 2) == kind
        at, goals = positions(found, 2)
        np.testing.assert_allclose(at, [own.unwrapped.data.joint(f"object_joint_{i}").qpos[:3] for i in (0, 1)])
        np.testing.assert_allclose(goals, own.unwrapped.data.mocap_pos[own.unwrapped._cube_target_mocap_ids])
        np.testing.assert_allclose(found[:37], own.unwrapped.compute_observation(), atol=1e-9)
    assert own.spec.max_episode_steps == CUBES["cube-double"].episode_steps
    own.close()


@pytest.mark.slow
def test_an_episode_depends_on_its_seed_alone(world, name):
    def episode(seed):
        first, _ = world.reset(seed=seed)
        action = np.random.default_rng(0).uniform(-1, 1, (8, 5)).astype(np.float32)
        return np.stack([first, *(world.step(a)[0] for a in action)])

    first = episode(3)
    assert world.observation_space.contains(first[0])
    assert np.abs(episode(8) - first).max() > 0.1
    np.testing.assert_array_equal(episode(3), first)


def test_starts_and_goals_can_be_given(worlds):
    world = worlds["cube-single"]
    found, _ = world.reset(seed=0, options={"starts": [HERE], "goals": [THERE]})
    at, goals = positions(found, 1)
    np.testing.assert_allclose(at, [HERE], atol=0.011)  # OGBench shakes it by up to 0.01 m
    np.testing.assert_allclose(goals, [THERE])
    with pytest.raises(ValueError, match=r"options\['goals'\] has shape \(3,\), expected \(1, 3\): x, y, z \[m\]"):
        world.reset(options={"starts": [HERE], "goals": THERE})
    with pytest.raises(ValueError, match=r"options\['goals'\]: cube 0 is .*\[0.425, 0.5, 0.02\] m.* out of reach"):
        world.reset(options={"starts": [HERE], "goals": [[0.425, 0.5, 0.02]]})


@pytest.mark.slow
def test_a_robot_that_is_told_what_an_oracle_did_arrives(worlds):
    """Success, its kind and its time are those of the episode, by either way of measuring."""
    name = "cube-single"
    task, seed, clock = TASKS[name](), 100_000, ChargedClock()
    world = worlds[name]
    episode = demonstrate(world, "plan", world.reset(seed=seed), np.random.default_rng(0), 200)
    robot = task.environment(seed, clock)
    np.testing.assert_allclose(robot.read(), episode.observations[0], rtol=1e-6)
    for action in episode.actions:
        if robot.ended is None:
            robot.write(action)
            clock.sleep_until(clock.now() + task.control.control_dt)
            robot.read()
    assert (robot.ended, robot.fault()) == ("fell", None)  # the environment ended, at the goal
    assert task.measure(robot, seed) == {"return_raw": 1.0, "success": 1.0, "steps_to_success": robot.steps}
    assert 20 < robot.steps < len(episode)
    robot.stop()


# ---- demonstrations ----


@pytest.mark.slow
def test_demonstrations_put_every_cube_in_its_place(ogbench, name, monkeypatch):
    monkeypatch.setattr(demonstrations, "EPISODES_PER_CHUNK", 2)
    episodes, counts = chunk(name, 0, 1, ("markov", "plan"))
    again, _ = chunk(name, 0, 1, ("markov", "plan"))
    assert counts == {"starts": len(episodes)} == {"starts": 2}  # one by each oracle
    for episode, same in zip(episodes, again, strict=True):
        np.testing.assert_array_equal(episode.observations, same.observations)
        np.testing.assert_array_equal(episode.actions, same.actions)
        assert episode.terminated
        assert len(episode) <= CUBES[name].episode_steps
        assert np.abs(episode.actions).max() <= 1
        assert TASKS[name]().control.goal_reached(episode.observations[-1])
        assert not TASKS[name]().control.goal_reached(episode.observations[0])


def test_the_oracles_leave_numpys_generator_as_it_was(worlds):
    world = worlds["cube-single"]
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    demonstrate(world, "plan", world.reset(seed=0), np.random.default_rng(0), 5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# ---- learning and measuring ----


def test_a_window_is_a_chunk_and_what_was_seen_before_it(name):
    size = CUBES[name].observation_dim
    seen, actions = np.arange(21.0 * size).reshape(21, size), np.arange(100.0).reshape(20, 5)
    windows = make_windows([Episode(seen, actions, np.zeros(20), False)], TASKS[name]())
    np.testing.assert_array_equal(windows.plans[3], actions[3:19])
    np.testing.assert_array_equal(windows.context[3, : 2 * size], seen[2:4].ravel())
    assert torch.equal(windows.context, TASKS[name]().encode(windows.observations).context)


def test_a_context_says_finely_what_is_left_to_do():
    """In 0.05 m, cut off at 1; and how the gripper is turned to a cube, the same by quarters of a turn."""
    for turn in (0.0, np.pi / 2, -np.pi):
        now, at = observation([HERE, THERE], [HERE - [-0.01, 0.02, 0.0], MIDDLE]), HERE - [0.0, -0.01, -0.02]
        now[GRIPPER : GRIPPER + 3], now[GRIPPER + 3], now[GRIPPER + 4] = (at - CENTRE) * SCALE, np.cos(0.2), np.sin(0.2)
        now[19 + 7], now[19 + 8] = np.cos(0.3 + turn), np.sin(0.3 + turn)  # of the first cube
        seen = torch.from_numpy(np.concatenate((np.full(43, 9.0), now)))[None]
        context = context_of(seen, CUBES["cube-double"])
        assert torch.equal(context[:, :86], seen)
        expected = [0, -0.2, -0.4, 0.2, -0.4, 0, np.cos(0.4), np.sin(0.4)]
        expected += [1, 1, -0.4, -1, -1, 0, np.cos(-0.8), np.sin(-0.8)]
        np.testing.assert_allclose(context[0, 86:], expected, atol=1e-9)


def test_an_episode_is_measured_under_its_kind():
    stack = np.stack([observation([HERE, THERE], [MIDDLE, MIDDLE + UP])] * 4)
    actions = np.zeros((3, 5))
    for ended in (True, False):
        found = measure_episode("cube-double", Episode(stack, actions, np.zeros(3), ended, not ended))
        assert found["success"] == found["success_stack"] == float(ended)
        assert found["success_place"] is found["success_swap"] is None
        assert found["steps_to_success"] == (3.0 if ended else None)
    metrics = {metric.name for metric in TASKS["cube-double"]().metrics}
    assert metrics == found.keys()
    assert {metric.name for metric in TASKS["cube-single"]().metrics} == {"success", "steps_to_success"}


def test_its_preset_is_named_and_behaviours_are_refused(name, tmp_path):
    assert preset_of(TASKS[name]()) == f"{name}-small"
    for budget in ("small", "tiny"):
        assert presets.load(f"{name}-{budget}").task == name
    with pytest.raises(ValueError, match=f"'{name}' has a planner of its own"):
        Collect(run=tmp_path, task=name, amount=1, behaviours=(tmp_path / "actor.npz",))()


def test_its_environment_is_gymnasiums(ogbench):
    env = make_environment(CUBES["cube-single"].environment)
    assert env.spec.max_episode_steps == 200
    assert (env.observation_space.shape, env.action_space.shape) == ((31,), (5,))
    env.close()
