"""The views of tasks: what is drawn is where the robot is, and what is dragged moves in its simulated world."""

import numpy as np
import pytest

from onestride.robot.clock import ChargedClock
from onestride.tasks import TASKS
from onestride.viewer.arm import ArmParts
from onestride.viewer.maze import view as maze_view
from onestride.viewer.pusht import in_pixels, in_scene
from onestride.viewer.records import HANDLES
from onestride.viewer.views import view_of


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kinova", "kinova-moving", "pointmaze-umaze", "antmaze-large", "pusht"])
def test_every_handle_is_that_of_a_part(name):
    if name == "kinova-moving":
        from onestride.tasks.kinova.moving import task as made

        task = made()
    else:
        task = TASKS[name]()
    view = view_of(task)
    scenes = [task.first_observation(scene)[: task.control.step_dim] for scene in task.scenes(4, 0)]
    parts = [part for seen in scenes for part in view.parts(seen)]
    assert {part.handle for part in parts} - {""} <= set(view.handles)
    assert len(view.handles) <= HANDLES
    assert all(np.isfinite(part.position).all() and min(part.size) > 0 for part in (*parts, *view.fixed))


def test_a_task_without_a_view_has_none():
    assert view_of(TASKS["hopper-v5"]()) is None
    assert view_of(TASKS["pusht-image"]()) is None


def test_the_arm_stands_with_its_tool_where_it_is_observed():
    arm = ArmParts()
    for tool in (np.array([0.4, 0.1, 0.2]), np.array([0.5, -0.2, 0.1])):
        parts = arm(tool)
        assert arm.data.site("tool").xpos == pytest.approx(tool, abs=2e-4)
        assert len({part.name for part in parts}) == len(parts) > 8


def moved(task, scene, name, position):
    clock = ChargedClock()
    robot = task.environment(scene, clock)
    before = robot.read().copy()
    view_of(task).place(robot, name, np.array(position))
    clock.charge(task.control.control_dt)
    return robot, before, robot.read()


@pytest.mark.slow
def test_a_dragged_obstacle_of_the_arm_is_observed_and_touched():
    task = TASKS["kinova"]()
    scene = next(s for s in task.scenes(20, 0) if s.obstacles[0, 0] > 0)
    away = [0.6, -0.5, 0.9]
    robot, before, after = moved(task, scene, "obstacle0", away)
    assert after[10:13].tolist() == away
    assert np.array_equal(after[13:], before[13:])
    assert robot.fault() is None
    robot, _, _ = moved(task, scene, "obstacle0", [*scene.start[:2], scene.start[2] + 0.05])
    assert robot.fault() == "collision"


@pytest.mark.slow
def test_a_goal_of_the_arm_stays_in_the_workspace_and_out_of_obstacles():
    task = TASKS["kinova"]()
    scene = next(s for s in task.scenes(20, 0) if s.obstacles[0, 0] > 0)
    _, _, after = moved(task, scene, "goal", [9.0, 9.0, 0.2])
    task.control.validate_observation(after)
    robot = task.environment(scene, ChargedClock())
    with pytest.raises(ValueError, match="inside an obstacle"):
        robot.place("obstacle0", scene.goal)
    with pytest.raises(ValueError, match="there is no 'obstacle9'"):
        robot.place("obstacle9", scene.goal)
    assert np.array_equal(robot.read()[6:9], scene.goal)


def test_a_goal_of_a_maze_is_moved_to_free_places_alone():
    task = TASKS["pointmaze-medium"]()
    robot, before, after = moved(task, 5, "goal", [*(free := np.array([-2.5, 2.5])), 0.0])
    assert after[-2:].tolist() == free.tolist()
    robot.write(np.zeros(2))
    robot.clock.charge(3 * task.control.control_dt)
    assert robot.read()[-2:].tolist() == free.tolist()  # the environment has it too
    with pytest.raises(ValueError, match="wall"):
        maze_view(task).place(robot, "goal", np.array([-3.5, 3.5, 0.0]))
    assert before[:2] == pytest.approx(after[:2])


def test_pixels_and_the_scene_are_one_anothers_inverse():
    pixels = np.array([100.0, 400.0])
    assert in_pixels(in_scene(pixels)) == pytest.approx(pixels)
    assert in_scene(np.array([256.0, 0.0]))[1] > 0  # the picture's top is away from the viewer


def test_a_dragged_t_is_pushed_nowhere_else_and_the_environment_goes_on_from_there():
    task = TASKS["pusht"]()
    view = view_of(task)
    robot = task.environment(3, ChargedClock())
    before = robot.read()[:18].copy()
    bar = next(part for part in view.parts(before) if part.name == "block0")
    target = bar.position + np.array([0.05, -0.03, 0.0])
    view.place(robot, "block", target)
    seen = robot.read().copy()
    assert next(p for p in view.parts(seen) if p.name == "block0").position == pytest.approx(target, abs=1e-6)
    assert np.array_equal(seen[:2], before[:2])
    robot.write(seen[:2])
    robot.clock.charge(2 * task.control.control_dt)
    assert robot.read()[2:] == pytest.approx(seen[2:], abs=0.5)  # nothing pushes it


def test_the_parts_of_a_t_have_its_corners():
    task = TASKS["pusht"]()
    seen = task.first_observation(4)[:18]
    corners = in_scene(seen[2:].reshape(8, 2))
    found = []
    for part in view_of(task).parts(seen):
        if part.name.startswith("block"):
            angle, half = 2 * np.arctan2(part.wxyz[3], part.wxyz[0]), np.array(part.size[:2]) / 2
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            found += [part.position[:2] + turn @ (half * sign) for sign in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    apart = np.linalg.norm(np.array(found)[:, None] - corners, axis=-1)
    assert apart.min(1).max() < 1e-6
    assert apart.min(0).max() < 1e-6
