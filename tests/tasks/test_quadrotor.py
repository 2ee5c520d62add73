"""The quadrotor's model, its controller and its simulation: numbers, points that are reached, what is refused."""

import mujoco
import numpy as np
import pytest

from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError
from onestride.tasks import TASKS
from onestride.tasks.obstacles import BOX, PILLAR
from onestride.tasks.quadrotor.controller import GeometricController
from onestride.tasks.quadrotor.demonstrations import evaluation_scenes
from onestride.tasks.quadrotor.follower import PathFollower
from onestride.tasks.quadrotor.model import HOVER_THRUST, INERTIA, MASS, MAX_MOMENT, TIMESTEP, build_model
from onestride.tasks.quadrotor.scene import BODY_RADIUS, CONTROL_DT, FLIGHT_HIGH, FLIGHT_LOW, Scene
from onestride.tasks.quadrotor.simulation import HARDEST, SimulatedQuadrotor

EMPTY = np.zeros((6, 8))
MIDDLE = np.array([0.0, 0.0, 0.8])
UPRIGHT, STILL = np.eye(3), np.zeros(3)


class ManualClock:
    time = 0.0

    def now(self) -> float:
        return self.time


class FreeClock(ChargedClock):
    """Decisions take no time."""

    def charge(self, seconds: float) -> None:
        pass


def hovering(start=MIDDLE, obstacles=EMPTY, goal=(1.0, 0.5, 1.0)) -> SimulatedQuadrotor:
    return SimulatedQuadrotor(Scene(np.array(start), np.array(goal), obstacles), ManualClock())


def obstacle(*row: float) -> np.ndarray:
    rows = EMPTY.copy()
    rows[0] = row
    return rows


# --- the model ---


def test_the_model_has_a_crazyflies_numbers():
    model = build_model(EMPTY)
    body = model.body("quadrotor")
    assert body.mass[0] == pytest.approx(0.027)
    np.testing.assert_allclose(body.inertia, (2.3951e-5, 2.3951e-5, 3.2347e-5), rtol=1e-9)
    assert model.body_subtreemass[body.id] == pytest.approx(0.027)
    assert pytest.approx(0.26487) == HOVER_THRUST
    np.testing.assert_allclose(model.actuator("thrust").ctrlrange, (0, 0.35))
    for axis, most in zip("xyz", MAX_MOMENT, strict=True):
        np.testing.assert_allclose(model.actuator(f"{axis} moment").ctrlrange, (-most, most))
    assert (model.opt.integrator, model.opt.timestep) == (mujoco.mjtIntegrator.mjINT_RK4, TIMESTEP)
    assert (model.opt.density, model.opt.viscosity) == (1.225, 1.8e-5)


@pytest.mark.parametrize(("control", "axis", "value"), [(0, 2, 0.3), (1, 3, 1e-3), (2, 4, -1e-3), (3, 5, 2e-4)])
def test_thrust_and_moments_accelerate_by_newton_and_euler(control, axis, value):
    model = build_model(EMPTY)
    model.opt.density = model.opt.viscosity = 0.0
    data = mujoco.MjData(model)
    data.qpos[:3] = MIDDLE
    data.ctrl[control] = value
    mujoco.mj_forward(model, data)
    wanted = np.array([0, 0, -9.81, 0, 0, 0])
    wanted[axis] += value / np.concatenate((np.full(3, MASS), INERTIA))[axis]
    np.testing.assert_allclose(data.qacc, wanted, atol=1e-6)


def test_the_room_and_its_obstacles_stop_what_flies_into_them():
    for start, obstacles in (
        (MIDDLE + np.array([0.2, 0, 0]), obstacle(PILLAR, 0.4, 0.0, 0.8, 0.1, 0.1, 0.8, 0.0)),
        ((1.85, 0.0, 0.8), EMPTY),
        ((0.0, 0.0, 1.55), EMPTY),
    ):
        robot = hovering(start, obstacles)
        for _ in range(60):
            robot.write(np.array([1.0, 0.0, 0.6]))
            robot.clock.time += CONTROL_DT
        robot.read()
        assert robot.fault() == "collision"


# --- the controller ---


def test_at_rest_at_its_place_it_hovers():
    control = GeometricController()(MIDDLE, STILL, UPRIGHT, STILL, (MIDDLE, STILL, STILL))
    np.testing.assert_allclose(control, (HOVER_THRUST, 0, 0, 0), atol=1e-12)


def test_moments_are_the_papers_for_small_angles():
    """Turned by a small angle, the moment is J times -k_R times that angle, about that axis alone."""
    controller = GeometricController()
    for axis in range(3):
        angle = 1e-3
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turned = np.eye(3)
        turned[[a, b], [a, b]] = np.cos(angle)
        turned[a, b], turned[b, a] = -np.sin(angle), np.sin(angle)
        moments = controller(MIDDLE, STILL, turned, STILL, (MIDDLE, STILL, STILL))[1:]
        wanted = np.zeros(3)
        wanted[axis] = -controller.kr * INERTIA[axis] * np.sin(angle)
        np.testing.assert_allclose(moments, wanted, atol=1e-12)


def test_it_leans_where_it_shall_go_and_stays_within_the_limits():
    controller = GeometricController()
    thrust, roll, pitch, yaw = controller(
        MIDDLE, STILL, UPRIGHT, STILL, (MIDDLE + np.array([0.05, 0, 0]), STILL, STILL)
    )
    assert pitch > 0 == pytest.approx(roll) == pytest.approx(yaw)
    assert thrust == pytest.approx(HOVER_THRUST)
    far = controller(MIDDLE, STILL, UPRIGHT, STILL, (MIDDLE + 50.0, STILL, STILL))
    assert far[0] == 0.35
    assert (np.abs(far[1:]) <= MAX_MOMENT).all()


# --- the simulation ---


def test_it_hovers_without_a_command():
    robot = hovering()
    robot.clock.time = 2.0
    np.testing.assert_allclose(robot.read()[:6], (*MIDDLE, 0, 0, 0), atol=1e-6)
    np.testing.assert_allclose(robot.data.ctrl, (HOVER_THRUST, 0, 0, 0), atol=1e-6)


@pytest.mark.slow
def test_it_reaches_points_to_three_millimetres():
    rng = np.random.default_rng(0)
    robot = hovering()
    for point in rng.uniform(FLIGHT_LOW, FLIGHT_HIGH, (6, 3)):
        for _ in range(160):  # 4 s
            way = point - robot.read()[:3]
            far = max(float(np.linalg.norm(way)), 1e-9)
            robot.write(way / far * min(1.5, 2.0 * far))
            robot.clock.time += CONTROL_DT
        assert np.linalg.norm(robot.read()[:3] - point) < 0.003
    assert not robot.collided


def test_a_commanded_velocity_is_reached_and_left_again():
    robot = hovering((-1.5, 0.0, 0.8))
    for _ in range(40):
        robot.write(np.array([1.0, 0.0, 0.0]))
        robot.clock.time += CONTROL_DT
    np.testing.assert_allclose(robot.read()[3:6], (1.0, 0, 0), atol=0.03)
    robot.write(STILL)
    robot.clock.time += CONTROL_DT
    for _ in range(60):  # a command held on to is a place held on to
        robot.write(STILL)
        robot.clock.time += CONTROL_DT
    np.testing.assert_allclose(robot.read()[3:6], STILL, atol=1e-3)
    robot.write(np.array([-1.0, 0.0, 0.0]))
    robot.clock.time += 2.0  # no command any more: it brakes and hovers
    np.testing.assert_allclose(robot.read()[3:6], STILL, atol=2e-3)


def test_the_reference_is_continuous_and_no_harder_than_it_may_be():
    robot = hovering()
    robot.write(np.array([2.0, 0.0, 0.0]))
    after = np.linspace(0, 0.4, 4001)
    position, velocity, pull = (np.array(x) for x in zip(*(robot.reference(t) for t in after), strict=True))
    step = after[1]
    np.testing.assert_allclose(np.diff(position, axis=0) / step, (velocity[1:] + velocity[:-1]) / 2, atol=1e-3)
    assert np.abs(np.diff(velocity, axis=0)).max() <= HARDEST * step * 1.001
    assert np.linalg.norm(pull, axis=1).max() <= HARDEST + 1e-9
    np.testing.assert_array_equal(velocity[-1], STILL)


def test_stopped_it_hovers_and_refuses_commands():
    robot = hovering()
    robot.write(np.array([1.0, 0.0, 0.0]))
    robot.clock.time += CONTROL_DT
    robot.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        robot.write(STILL)
    robot.clock.time += 2.0
    np.testing.assert_allclose(robot.read()[3:6], STILL, atol=2e-3)
    robot.reset()
    robot.write(STILL)
    np.testing.assert_array_equal(robot.read()[:3], MIDDLE)


def test_bad_commands_and_starts_are_refused():
    robot = hovering()
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\): a velocity"):
        robot.write(np.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        robot.write(np.array([np.nan, 0, 0]))
    with pytest.raises(ValueError, match="touches an obstacle"):
        hovering(MIDDLE, obstacle(PILLAR, 0.05, 0.0, 0.8, 0.1, 0.1, 0.8, 0.0))
    with pytest.raises(ValueError, match="expected \\(6, 8\\)"):
        build_model(np.zeros((4, 8)))


def test_clearance_is_that_of_the_geoms():
    """The recorded clearance and MuJoCo's distance of a ball of that radius to the geoms agree."""
    rows = obstacle(PILLAR, 0.4, 0.1, 0.8, 0.1, 0.1, 0.8, 0.0)
    rows[1] = (BOX, -0.4, -0.2, 0.3, 0.1, 0.15, 0.3, 0.7)
    robot = hovering(MIDDLE, rows)
    model = robot.model
    ball = mujoco.MjSpec()
    ball.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[BODY_RADIUS, 0, 0], pos=MIDDLE, name="ball")
    for row, (kind, *numbers) in enumerate(rows[:2]):
        pillar = kind == PILLAR
        yaw = numbers[6] / 2
        ball.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER if pillar else mujoco.mjtGeom.mjGEOM_BOX, pos=numbers[:3],
            size=[numbers[3], numbers[5], 0] if pillar else numbers[3:6], quat=[np.cos(yaw), 0, 0, np.sin(yaw)],
            name=f"{row}",
        )  # fmt: skip
    made = ball.compile()
    data = mujoco.MjData(made)
    mujoco.mj_forward(made, data)
    wanted = min(mujoco.mj_geomDistance(made, data, 0, k, 2.0, None) for k in (1, 2))
    assert robot.min_clearance == pytest.approx(wanted, abs=1e-4)
    assert model.geom("obstacle0").type[0] == mujoco.mjtGeom.mjGEOM_CYLINDER


# --- episodes ---


@pytest.fixture(scope="module")
def flown():
    task = TASKS["quadrotor"]()
    scenes = task.scenes(3, 3)

    def fly(number: int):
        scene, clock = scenes[number], FreeClock()
        robot = task.environment(scene, clock)
        log = run_episode(robot, clock, PathFollower(), task.control, timeout=10.0)
        return robot, log, task.measure(robot, scene)

    return fly


def test_the_demonstrator_arrives_without_touching_anything(flown):
    for number in range(3):
        _, log, measured = flown(number)
        assert (log.outcome, measured["collided"]) == ("arrived", 0.0)
        assert measured["terminal_error_mm"] < 50
        assert measured["min_clearance_mm"] > 40


@pytest.mark.slow
def test_episodes_are_reproducible(flown):
    (a, *_), (b, *_) = flown(2), flown(2)
    np.testing.assert_array_equal(a.joint_path, b.joint_path)
    np.testing.assert_array_equal(a.times, b.times)


def test_without_a_way_the_demonstrator_says_so():
    wall = EMPTY.copy()
    wall[0] = (BOX, 0.0, 0.0, 0.8, 0.1, 1.5, 0.8, 0.0)
    start, goal = np.array([-1.5, 0.0, 0.8]), np.array([1.5, 0.0, 0.8])
    with pytest.raises(ObservationError, match="no clear path"):
        PathFollower().decide(np.concatenate((start, STILL, goal, wall.ravel())))


@pytest.mark.slow
def test_evaluation_scenes_are_others_for_another_seed():
    a, b = evaluation_scenes(3, 0), evaluation_scenes(3, 1)
    assert not np.array_equal(a[0].start, b[0].start)
    assert all(np.linalg.norm(s.goal - s.start) >= 1.5 for s in (*a, *b))
