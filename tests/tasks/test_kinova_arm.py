"""The simulated arm: geometry against an independent product of transforms, servo, recording, refusals."""

import mujoco
import numpy as np
import pytest
import torch

from onestride.tasks.kinova.arm import BODY_RADII, HOME, READY, TOOL, InverseKinematics, body_points, build_model
from onestride.tasks.kinova.control_spec import OBSERVATION_DIM
from onestride.tasks.kinova.links import JOINT_LIMITS, JOINTS, LINKS, TOOL_OFFSET, VELOCITY_LIMITS
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from onestride.tasks.kinova.simulation import SimulatedArm, arm_clearance, render_frames
from onestride.tasks.obstacles import BOX, SPHERE

EMPTY = np.zeros((4, 8))
START, GOAL = np.array([0.40, -0.20, 0.15]), np.array([0.45, 0.20, 0.25])
CONTROL_DT = 0.05


class ManualClock:
    time = 0.0

    def now(self) -> float:
        return self.time


def make_arm(start=START, goal=GOAL, obstacles=EMPTY) -> SimulatedArm:
    return SimulatedArm(Scene(np.array(start), np.array(goal), obstacles), ManualClock(), CONTROL_DT)


def follow(arm: SimulatedArm, targets: np.ndarray) -> list[np.ndarray]:
    """One target per period; what was read at the end of each."""
    observations = []
    for target in targets:
        arm.write(target)
        arm.clock.time += CONTROL_DT
        observations.append(arm.read())
    return observations


def one_obstacle(*row: float) -> np.ndarray:
    obstacles = EMPTY.copy()
    obstacles[1] = row
    return obstacles


@pytest.fixture(scope="module")
def kinematics() -> InverseKinematics:
    return InverseKinematics(build_model(EMPTY))


def workspace_samples(n: int) -> np.ndarray:
    corners = np.array(np.meshgrid(*zip(WORKSPACE_LOW, WORKSPACE_HIGH, strict=True))).reshape(3, -1).T
    inside = np.random.default_rng(0).uniform(WORKSPACE_LOW, WORKSPACE_HIGH, (n, 3))
    return np.concatenate((corners, inside))


# --- the model and its kinematics ---


def transform(offset, axis: int, angle: float) -> np.ndarray:
    """4 x 4: a shift, then a turn about x (axis 0) or z (axis 2)."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = (1, 2) if axis == 0 else (0, 1)
    t = np.eye(4)
    t[i, i], t[i, j], t[j, i], t[j, j] = c, -s, s, c
    t[:3, 3] = offset
    return t


@pytest.mark.parametrize("q", [np.zeros(7), HOME, READY, np.linspace(-1.5, 1.5, 7)])
def test_forward_kinematics_is_the_product_of_the_vendors_transforms(q):
    expected = np.eye(4)
    for link, angle in zip(LINKS, q, strict=True):
        expected = expected @ transform(link.offset, 0, np.deg2rad(link.tilt)) @ transform((0, 0, 0), 2, angle)
    expected = expected @ transform(TOOL_OFFSET, 0, np.pi)
    model = build_model(EMPTY)
    data = mujoco.MjData(model)
    data.qpos[:] = q
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(data.site(TOOL).xpos, expected[:3, 3], atol=1e-12)
    np.testing.assert_allclose(data.site(TOOL).xmat.reshape(3, 3), expected[:3, :3], atol=1e-12)


def test_the_straight_arm_has_the_vendors_size_and_mass():
    model = build_model(EMPTY)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(data.site(TOOL).xpos, [0, -0.0246, 1.1873], atol=3e-4)  # its rounded DH table
    assert model.body_mass.sum() == pytest.approx(8.1879, abs=1e-9)


def test_inverse_kinematics_reaches_the_whole_workspace_tool_down_elbow_up(kinematics):
    for position in workspace_samples(60):
        q, error = kinematics.start(position)
        data = kinematics.configuration.data
        assert error < 1e-6
        assert data.site(TOOL).xmat.reshape(3, 3)[2, 2] < -np.cos(np.deg2rad(0.1))
        middle = (data.body("upper_arm_1").xpos + data.body("wrist_2").xpos) / 2
        assert data.body("forearm").xpos[2] > middle[2]  # the elbow is above the line from shoulder to wrist
        assert (np.abs(q) < JOINT_LIMITS[:, 1] - 0.05).all()
        assert q[2] == pytest.approx(np.pi, abs=1e-3)


def test_the_solution_does_not_depend_on_the_way_there(kinematics):
    target = np.array([0.5, 0.2, 0.2])
    direct, _ = kinematics.start(target)
    far, _ = kinematics.start(np.array([0.3, -0.3, 0.1]))
    roundabout, error = kinematics.solve(far, target, tolerance=1e-6)
    assert error < 1e-6
    np.testing.assert_allclose(roundabout, direct, atol=1e-3)


def test_body_points_stand_on_the_arm_and_their_spheres_hold_it(kinematics):
    model, data = kinematics.configuration.model, kinematics.configuration.data
    rng = np.random.default_rng(1)
    for position in workspace_samples(30):
        kinematics.start(position)
        points = body_points(torch.tensor(position)).numpy()
        assert points.shape == (*BODY_RADII.shape, 3)
        assert np.linalg.norm(points[0] - position) == 0
        assert np.linalg.norm(points[4] - data.body("wrist_2").xpos) < 0.0005
        assert np.linalg.norm(points[-1] - data.body("forearm").xpos) < 0.008  # the real elbow is offset sideways
        for name in ("forearm", "wrist_1", "wrist_2", "bracelet", "tool"):
            radius, half = model.geom(name).size[:2]
            side = rng.normal(size=(300, 3))
            side /= np.linalg.norm(side, axis=1, keepdims=True)
            surface = radius * side + half * np.sign(side[:, 2:]) * rng.uniform(0, 1, (300, 1)) * [0, 0, 1]
            surface = surface @ data.geom(name).xmat.reshape(3, 3).T + data.geom(name).xpos
            gap = np.linalg.norm(surface[:, None] - points, axis=-1) - BODY_RADII.numpy()
            assert gap.min(1).max() < 0, name


def test_body_points_are_batched_and_differentiable():
    tool = torch.tensor(workspace_samples(2), requires_grad=True)  # (10, 3)
    points = body_points(tool.reshape(2, 5, 3)).reshape(10, -1, 3)
    torch.testing.assert_close(points[7], body_points(tool[7]))
    assert torch.autograd.gradcheck(body_points, tool[8:])
    assert body_points(tool.new_tensor([2.0, 0.0, 0.5])).isfinite().all()  # out of reach


# --- the robot ---


def test_starts_at_rest_where_the_scene_says():
    arm = make_arm(obstacles=one_obstacle(SPHERE, 0.5, 0.3, 0.1, 0.05, 0, 0, 0))
    observation = arm.read()
    assert observation.shape == (OBSERVATION_DIM,)
    assert observation.dtype == np.float64
    np.testing.assert_allclose(observation[:3], START, atol=1e-5)
    np.testing.assert_array_equal(observation[3:6], 0)
    np.testing.assert_array_equal(observation[6:9], GOAL)
    np.testing.assert_array_equal(observation[9:], arm.scene.obstacles.ravel())
    arm.clock.time += 1.0
    np.testing.assert_allclose(arm.read()[:3], START, atol=1e-4)  # gravity is compensated


def test_follows_a_straight_line_at_speed_within_a_millimetre():
    arm, speed = make_arm(), 0.4
    length = np.linalg.norm(GOAL - START)
    direction = (GOAL - START) / length
    n = int(length / speed / CONTROL_DT)
    steps = np.arange(1, n + 1)[:, None] * speed * CONTROL_DT
    observations = follow(arm, START + steps * direction)
    cruise = arm.times > 0.2  # the step from rest to full speed has died out
    ideal = START + speed * arm.times[:, None] * direction
    assert np.linalg.norm(arm.ee_path - ideal, axis=1)[cruise].max() < 0.0005
    for observation in observations[4:]:
        np.testing.assert_allclose(observation[3:6], speed * direction, atol=0.02)
    assert arm.data.site(TOOL).xmat[8] < -np.cos(np.deg2rad(0.1))


def test_velocity_read_is_the_derivative_of_the_position():
    arm = make_arm()
    arm.write(START + np.array([0.0, 0.02, 0.01]))
    arm.clock.time += 0.02
    before = arm.read()
    arm.clock.time += 0.001
    after = arm.read()
    np.testing.assert_allclose((after[:3] - before[:3]) / 0.001, (before[3:6] + after[3:6]) / 2, atol=5e-3)


def test_holds_the_last_target_when_no_command_comes():
    arm = make_arm()
    target = START + np.array([0.01, 0.015, 0.005])
    follow(arm, [target])
    arm.clock.time += 2.0
    observation = arm.read()
    assert np.linalg.norm(observation[:3] - target) < 0.0003
    assert np.linalg.norm(observation[3:6]) < 1e-4


def test_a_far_target_is_reached_at_the_joints_speed_limit():
    arm = make_arm()
    arm.write(GOAL)
    references, period = [arm._reference], 0.005
    for _ in range(200):
        arm.clock.time += period
        arm.read()
        references.append(arm._reference)
    speeds = np.abs(np.diff(references, axis=0)) / period / VELOCITY_LIMITS
    assert speeds.max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(arm.read()[:3], GOAL, atol=2e-4)
    assert (np.abs(arm.joint_path) <= JOINT_LIMITS[:, 1]).all()


def test_a_target_out_of_reach_is_approached_within_the_joint_limits():
    arm = make_arm()
    follow(arm, np.tile([1.2, 0.0, 0.3], (60, 1)))
    assert arm.ik_error > 0.1
    assert (np.abs(arm.joint_path) < JOINT_LIMITS[:, 1] + 0.01).all()


def test_stop_freezes_the_arm_until_reset():
    arm = make_arm()
    follow(arm, [START + np.array([0, 0.01, 0])])
    arm.write(START + np.array([0, 0.03, 0]))
    arm.clock.time += 0.025
    arm.stop()
    with pytest.raises(RuntimeError, match="reset"):
        arm.write(START)
    arm.clock.time += 1.0
    observation = arm.read()
    assert observation[1] == pytest.approx(START[1] + 0.02, abs=3e-4)
    assert np.linalg.norm(observation[3:6]) < 1e-4
    arm.reset()
    np.testing.assert_allclose(arm.read()[:3], START, atol=1e-5)
    arm.write(START)
    assert len(arm.times) == 1


@pytest.mark.parametrize("command", [[0.4, 0.0], [[0.4, 0.0, 0.2]], [0.4, np.nan, 0.2], [np.inf, 0.0, 0.2]])
def test_a_bad_command_is_refused_and_moves_nothing(command):
    arm = make_arm()
    with pytest.raises(ValueError, match="command"):
        arm.write(np.array(command))
    arm.clock.time += 0.2
    np.testing.assert_allclose(arm.read()[:3], START, atol=1e-4)


def test_refuses_an_unreachable_start_a_backward_clock_and_a_strange_obstacle():
    with pytest.raises(ValueError, match="cannot reach"):
        make_arm(start=[1.0, 0.0, 0.3])
    arm = make_arm()
    arm.clock.time -= 1.0
    with pytest.raises(RuntimeError, match="monotonic"):
        arm.read()
    with pytest.raises(ValueError, match="obstacle1 has kind"):
        build_model(one_obstacle(4, 0.4, 0, 0.1, 0.05, 0, 0, 0))
    with pytest.raises(ValueError, match="shape"):
        build_model(np.zeros((2, 8)))


# --- the recording ---


def test_contact_is_recorded_only_when_there_is_one():
    box = one_obstacle(BOX, 0.42, 0.0, 0.1, 0.05, 0.02, 0.1, 0.3)
    arm = make_arm(obstacles=box)
    follow(arm, np.linspace(START, [0.40, -0.10, 0.15], 12))
    assert not arm.collided
    assert arm.min_clearance_arm > 0.01
    follow(arm, np.linspace([0.40, -0.10, 0.15], [0.42, 0.05, 0.15], 20))
    assert arm.collided
    assert arm.min_clearance_arm < 0
    assert np.isfinite(arm.read()).all()


def test_the_table_counts_as_a_contact():
    arm = make_arm(start=[0.4, 0.0, 0.06])
    follow(arm, np.linspace([0.4, 0.0, 0.06], [0.4, 0.0, -0.02], 15))
    assert arm.collided


def test_clearances_are_the_analytic_distances():
    radius = 0.04
    sphere = one_obstacle(SPHERE, START[0], START[1], 0.05, radius, 0, 0, 0)  # right below the tool's tip
    arm = make_arm(obstacles=sphere)
    assert arm.min_clearance_ee == pytest.approx(START[2] - 0.05 - radius, abs=1e-5)
    assert arm.min_clearance_arm == pytest.approx(START[2] - 0.05 - radius, abs=1e-5)
    low = START - np.array([0, 0, 0.02])
    follow(arm, [*np.linspace(START, low, 10), low])
    assert arm.min_clearance_ee == pytest.approx(low[2] - 0.05 - radius, abs=5e-4)
    follow(arm, np.linspace(low, START, 10))
    assert arm.min_clearance_ee == pytest.approx(low[2] - 0.05 - radius, abs=5e-4)  # the smallest so far
    assert arm.min_clearance_arm == pytest.approx(low[2] - 0.05 - radius, abs=5e-4)


def test_arm_clearance_to_a_box_beside_the_wrist(kinematics):
    position = np.array([0.45, 0.0, 0.1])
    q, _ = kinematics.start(position)
    wrist = next(link for link in LINKS if link.name == "wrist_2")
    box = one_obstacle(BOX, 0.45, 0.15, 0.2, 0.03, 0.05, 0.01, 0.0)  # near face at y = 0.10, beside the column
    distance = arm_clearance(build_model(box), q[None])
    assert distance == pytest.approx(0.10 - wrist.radius, abs=0.0005)


def test_recording_is_dense_and_consistent():
    arm = make_arm()
    follow(arm, np.linspace(START, GOAL, 20))
    assert np.diff(arm.times).max() < 0.0051
    assert arm.times[-1] == pytest.approx(20 * CONTROL_DT)
    assert arm.ee_path.shape == (len(arm.times), 3)
    assert arm.joint_path.shape == (len(arm.times), 7)
    np.testing.assert_array_equal(arm.ee_path[-1], arm.read()[:3])
    assert arm.model.njnt == len(JOINTS)


@pytest.mark.filterwarnings("ignore")  # a machine without graphics warns before it fails
def test_frames_show_the_motion():
    arm = make_arm(obstacles=one_obstacle(BOX, 0.5, 0.0, 0.05, 0.05, 0.05, 0.05, 0.3))
    follow(arm, np.linspace(START, GOAL, 20))
    try:
        frames = render_frames(arm.scene, arm.joint_path, arm.times, width=96, height=64, fps=2)
    except RuntimeError as error:
        pytest.skip(str(error))
    assert len(frames) == 3
    assert frames[0].shape == (64, 96, 3)
    assert frames[0].dtype == np.uint8
    assert frames[0].std() > 10
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50
