"""OGBench's scene: what is asked for, what is done next, the environments, demonstrations and the context."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from onestride.robot.control_spec import ObservationError
from onestride.runs import presets
from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.scenes.control_spec import SCENES, STEP_DIM, Setting, settings
from onestride.tasks.scenes.demonstrations import chunk, demonstrate, next_move, world_of
from onestride.tasks.scenes.task import PLACES, context_of


def observation(now, goal):
    last = np.zeros(STEP_DIM)
    last[[28 + now.buttons[0], 32 + now.buttons[1]]] = 1
    last[[36, 38]] = 18 * now.drawer, 15 * now.window
    last[40:] = *goal.buttons, 18 * goal.drawer, 15 * goal.window
    return last


OPEN, SHUT = Setting((1, 1), -0.16, 0.2), Setting((1, 1), 0.0, 0.0)
LOCKED = Setting((0, 0), 0.0, 0.0)


@pytest.fixture(params=SCENES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def ogbench():
    return pytest.importorskip("ogbench", reason="needs ogbench, of the extra 'tasks'", exc_type=ImportError)


def test_the_control_interface_is_the_tasks_and_needs_no_torch(name):
    spec, task = CONTROL_SPECS[name](), TASKS[name]()
    for each in ("name", "observation_dim", "action_dim", "horizon", "control_dt", "n_obs_steps", "layout"):
        assert getattr(spec, each) == getattr(task.control, each)
    code = f"import sys, onestride.tasks as t; t.CONTROL_SPECS[{name!r}](); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    assert presets.load(f"{name}-small").task == presets.load(f"{name}-tiny").task == name


def test_what_is_and_what_is_asked_for_is_read_from_the_last_observation():
    now, goal = Setting((0, 1), -0.1, 0.15), Setting((1, 0), -0.16, 0.2)
    both = np.concatenate((observation(SHUT, OPEN), observation(now, goal)))
    for found, wanted in zip(settings(both), (now, goal), strict=True):
        assert found.buttons == wanted.buttons
        assert (found.drawer, found.window) == pytest.approx((wanted.drawer, wanted.window))
    spec = CONTROL_SPECS["scene"]()
    assert not spec.goal_reached(both)
    assert spec.goal_reached(np.concatenate((both[:STEP_DIM], observation(Setting((1, 1), -0.13, 0.17), OPEN))))
    assert not spec.goal_reached(np.concatenate((both[:STEP_DIM], observation(Setting((0, 1), -0.16, 0.2), OPEN))))
    spec.validate_observation(both)
    far = both.copy()
    far[-1] = 15 * 0.5
    with pytest.raises(ObservationError, match=r"the scene is asked for .*7.5.*, expected buttons 0 or 1"):
        spec.validate_observation(far)


@pytest.mark.parametrize(
    ("now", "goal", "wanted"),
    [
        (SHUT, OPEN, "drawer"),
        (Setting((1, 1), -0.16, 0.0), OPEN, "window"),
        (LOCKED, OPEN, "button 0"),
        (Setting((1, 0), -0.16, 0.0), OPEN, "button 1"),
        (SHUT, LOCKED, "button 0"),
        (Setting((0, 1), 0.0, 0.0), LOCKED, "button 1"),
        (Setting((0, 0), -0.1, 0.0), LOCKED, "button 0"),  # unlocked to be shut, and locked again
        (OPEN, OPEN, None),
    ],
)
def test_what_is_done_next_is_said_by_what_is_left(now, goal, wanted):
    assert next_move(now, goal) == wanted


@pytest.mark.slow
def test_demonstrations_do_what_is_asked_for_and_depend_on_the_chunk_alone(ogbench, name, monkeypatch):
    monkeypatch.setattr("onestride.tasks.scenes.demonstrations.EPISODES_PER_CHUNK", 1)
    episodes, counts = chunk(name, 0, 3)
    assert len(episodes) == counts["starts"] == 1
    for episode, again in zip(episodes, chunk(name, 0, 3)[0], strict=True):
        np.testing.assert_array_equal(episode.actions, again.actions)
        np.testing.assert_array_equal(episode.observations, again.observations)
        now, goal = settings(episode.observations[-1].astype(np.float64))
        assert now.reached(goal)
        assert not settings(episode.observations[0].astype(np.float64))[0].reached(goal)
        assert np.abs(episode.actions).max() <= 1


@pytest.mark.slow
def test_an_environment_starts_by_its_seed_and_a_demonstration_succeeds(ogbench):
    world, task = world_of("scene"), TASKS["scene"]()
    begun = world.reset(seed=6)
    assert not np.array_equal(begun[0], world.reset(seed=5)[0])
    np.testing.assert_array_equal(task.first_observation(6), np.tile(begun[0], 2))
    begun = world.reset(seed=6)
    shown = demonstrate(world, begun, np.random.default_rng(0), SCENES["scene"].episode_steps)
    np.testing.assert_array_equal(shown.observations[0], begun[0].astype(np.float32))
    assert task.measure_episode(shown) == {"success": 1.0, "steps_to_success": float(len(shown))}


def test_the_places_of_the_context_are_those_of_the_simulation(ogbench):
    world = world_of("scene")
    for seed in range(3):
        seen, info = world.reset(seed=seed)
        d, w = (float(info[f"privileged/{what}_pos"][0]) for what in ("drawer", "window"))
        buttons = [world.told(info, f"button {i}")["privileged/target_button_top_pos"] for i in range(2)]
        there = np.stack((*buttons, info["privileged/drawer_handle_pos"], info["privileged/window_handle_pos"]))
        moved = PLACES + np.array([[0, 0, 0], [0, 0, 0], [0, -d, 0], [w, 0, 0]])
        np.testing.assert_allclose(there, moved, atol=0.006)  # buttons are pressed a little by their own weight
        context = context_of(torch.from_numpy(np.tile(seen, 2))[None])[0].numpy()
        wanted = (moved - info["proprio/effector_pos"]) / 0.05
        np.testing.assert_allclose(context[2 * STEP_DIM :][:12], wanted.clip(-1, 1).ravel(), atol=1e-6)
