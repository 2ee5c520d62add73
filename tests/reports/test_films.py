"""Films: the motion that was made is the motion that is rendered, at the pace that was measured."""

from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.reports import films, motions, render
from onestride.reports.figures import frames_figure
from onestride.reports.films import film_arm, film_bodies, schedule
from onestride.reports.motions import ArmMotion, BodyMotion, act
from onestride.reports.render import RenderError, render_body
from onestride.reports.video import GIF_BYTES
from onestride.tasks.kinova.arm import READY
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.lockstep import make_environment
from onestride.tensors import save_tensors

ROWS = {
    row: Variant(method=row, selector="returns" if row == "teacher" else "iql") for row in ("teacher", "dnk", "kdm")
}
TEACHER, DNK, KDM = ROWS.values()
ENVIRONMENT = "HalfCheetah-v5"


# --- the arm ---


@pytest.fixture
def motion() -> ArmMotion:
    """The teacher takes 2 s and stops short, the student 0.6 s and arrives."""
    start, goal = np.array([0.4, -0.2, 0.15]), np.array([0.45, 0.2, 0.25])
    obstacles = np.zeros((4, 8))
    obstacles[0] = (1, 0.42, 0.0, 0.2, 0.04, 0, 0, 0)
    obstacles[2] = (2, 0.5, 0.1, 0.1, 0.03, 0.05, 0.08, 0.6)
    joints = np.linspace(READY - 0.3, READY, 10)
    paths = {TEACHER: np.linspace(start, goal - 0.02, 10), DNK: np.linspace(start, goal, 10)}
    times = {TEACHER: np.linspace(0, 2, 10), DNK: np.linspace(0, 0.6, 10)}
    return ArmMotion(Scene(start, goal, obstacles), {TEACHER: joints, DNK: joints}, times, paths)


def test_arm_motion_is_read_by_variant(motion, tmp_path):
    tensors = {"start": motion.scene.start, "goal": motion.scene.goal, "obstacles": motion.scene.obstacles}
    for row in ("teacher", "dnk"):
        tensors |= {f"joints.{row}": motion.joints[ROWS[row]], f"path.{row}": motion.path[ROWS[row]]}
        tensors |= {f"times.{row}": 7 + motion.times[ROWS[row]]}
    path = tmp_path / "motion.safetensors"
    save_tensors(path, {name: torch.from_numpy(array).clone() for name, array in tensors.items()})
    again = ArmMotion.load(path, ROWS)
    assert list(again.joints) == [TEACHER, DNK]
    np.testing.assert_allclose(again.times[DNK], motion.times[DNK], atol=1e-12)
    np.testing.assert_array_equal(again.joints[TEACHER], motion.joints[TEACHER])
    del tensors["path.dnk"]
    save_tensors(path, {name: torch.from_numpy(array).clone() for name, array in tensors.items()})
    with pytest.raises(CheckpointError, match=r"lacks \['path.dnk'\]"):
        ArmMotion.load(path, ROWS)
    with pytest.raises(CheckpointError, match=r"lacks joints.<row>"):
        ArmMotion.load(path, {"kdm": KDM})


@pytest.mark.slow
def test_film_without_opengl_is_drawn(motion, tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    mp4, gif = tmp_path / "arms.mp4", tmp_path / "arms.gif"
    strip, speed, drawn_because = film_arm(motion, mp4, gif, size=(96, 80))
    assert speed == 1
    assert "nonsense" in (drawn_because or "")
    assert gif.stat().st_size <= GIF_BYTES
    reader = imageio_ffmpeg.read_frames(str(mp4))
    about = next(reader)
    reader.close()
    assert about["size"] == (192, 160)
    assert about["codec"] == "h264"
    assert about["pix_fmt"].startswith("yuv420p")
    assert about["duration"] == pytest.approx(2 + films.ARM_PAUSE, abs=0.2)
    with Image.open(gif) as image:
        assert image.n_frames > 10
    assert strip.notes[DNK][0] == ""
    assert strip.notes[DNK][-1] == "arrived, 0.6 s"
    assert strip.notes[TEACHER][-1].startswith("35 mm short")
    assert strip.moments[-1] == pytest.approx(2)
    np.testing.assert_array_equal(strip.frames[DNK][-1], strip.frames[DNK][3])  # it stays put
    assert (strip.frames[DNK][0] != strip.frames[DNK][-1]).any()
    assert len(frames_figure(strip).axes) == 2 * len(strip.moments)


@pytest.mark.slow
@pytest.mark.parametrize("duration", [1.0, 11.0, 12.0, 90.0, 315.0])
def test_film_is_short_and_says_its_speed(motion, duration, tmp_path, monkeypatch):
    monkeypatch.setattr(
        films, "render_arm", lambda scene, joints, size: np.full((len(joints), *size, 3), 200, np.uint8)
    )
    written = []
    monkeypatch.setattr(films, "write_film", lambda pictures, *_: written.extend(pictures))
    times = {TEACHER: np.linspace(0, duration, 10), DNK: motion.times[DNK]}
    slow = ArmMotion(motion.scene, motion.joints, times, motion.path)
    _, speed, _ = film_arm(slow, tmp_path / "a.mp4", tmp_path / "a.gif", size=(32, 32))
    assert len(written) / films.ARM_FPS <= 12.2
    assert speed == 1 or duration / speed > 5


@pytest.mark.slow
def test_points_are_seen_where_the_camera_renders_them(motion):
    scene, size = motion.scene, (240, 200)
    try:
        frame = render.render_arm(scene, READY[None], size)[0].astype(int)
    except RenderError as error:
        pytest.skip(str(error))
    (x, y), *_ = render.seen_by_camera(scene, size, scene.goal[None]).round().astype(int)
    red, green, blue = frame[y, x]  # the goal is a green ball
    assert green > red + 40
    assert green > blue + 40


# --- bodies ---


class Shaking:
    """A policy that tells every planner apart."""

    control = SimpleNamespace(control_dt=0.05)

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self, seed):
        self.seed = seed

    def act(self, observations):
        return self.rng.uniform(-1, 1, (len(observations), 6))


def test_body_motion_round_trip(tmp_path, monkeypatch):
    monkeypatch.setattr(motions, "LONGEST", 0.2)
    actions, fell = act(Shaking(0), ENVIRONMENT, 3)
    assert actions.shape == (4, 6)
    assert not fell
    BodyMotion(ENVIRONMENT, 3, 0.05, {"dnk": actions}, {"dnk": fell}).save(tmp_path / "motion.safetensors")
    again = BodyMotion.load(tmp_path / "motion.safetensors")
    np.testing.assert_array_equal(again.actions["dnk"], actions)
    assert (again.environment, again.seed, again.control_dt, again.fell) == (ENVIRONMENT, 3, 0.05, {"dnk": False})


def test_who_waits_longer_comes_less_far():
    motion = BodyMotion("", 0, 0.05, {"teacher": np.zeros((200, 6)), "dnk": np.zeros((40, 6))}, {})
    steps = schedule(motion, {"teacher": 0.2, "dnk": 0.05}, 25)
    assert len(steps["teacher"]) == len(steps["dnk"]) == 25 * motions.LONGEST + 1
    assert steps["teacher"][-1] == motions.LONGEST / 0.2
    assert steps["dnk"][25] == 20
    assert steps["dnk"][-1] == 40  # it has ended


@pytest.mark.slow
def test_film_and_replay(tmp_path, monkeypatch):
    def rendered(environment, seed, actions, steps, size):
        return np.stack([np.full((size[1], size[0], 3), 5 * s, np.uint8) for s in steps]), 0.1 * steps

    monkeypatch.setattr(films, "render_body", rendered)
    actions = {"teacher": np.zeros((20, 6)), "dnk": np.zeros((20, 6)), "kdm": np.zeros((5, 6))}
    motion = BodyMotion(ENVIRONMENT, 0, 0.05, actions, {"teacher": False, "dnk": False, "kdm": True})
    names = {row: f"{row}.mp4" for row in actions} | {"replay": "replay.mp4", "gif": "replay.gif"}
    strip = film_bodies(motion, ROWS, {"teacher": 0.1, "dnk": 0.004}, tmp_path, names, size=(96, 64))
    assert strip.notes[KDM][0] == ""
    assert strip.notes[KDM][-1] == "fell, 0.2 s"
    assert strip.notes[DNK][-1] == ""
    assert strip.moments[-1] == pytest.approx(1)
    for name, width, seconds in (("kdm.mp4", 96, 1), ("replay.mp4", 192, 2 + films.BODY_PAUSE)):
        reader = imageio_ffmpeg.read_frames(str(tmp_path / name))
        about = next(reader)
        reader.close()
        assert about["size"][0] == width
        assert about["fps"] == films.BODY_FPS
        assert about["duration"] == pytest.approx(seconds, abs=0.1)
    with Image.open(tmp_path / "replay.gif") as gif:
        assert gif.n_frames > 10
    (tmp_path / "replay.mp4").unlink()
    film_bodies(motion, ROWS, {"dnk": 0.004}, tmp_path, names, size=(96, 64))
    assert not (tmp_path / "replay.mp4").exists()  # the teacher's latency is not known


def act_three():
    return np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)


@pytest.mark.slow
def test_what_is_rendered_is_what_was_done():
    try:
        frames, travelled = render_body(ENVIRONMENT, 3, act_three(), np.array([0, 3]), (64, 48))
    except RenderError as error:
        pytest.skip(str(error))
    assert frames.shape == (2, 48, 64, 3)
    assert (frames[0] != frames[1]).any()
    env = make_environment(ENVIRONMENT)
    env.reset(seed=3)
    for action in act_three():
        env.step(action)
    assert travelled[1] == env.unwrapped.data.qpos[0]
    env.close()


@pytest.mark.slow
def test_an_environment_that_is_not_mujocos_draws_itself():
    actions = np.random.default_rng(0).uniform(-2, 2, (3, 1)).astype(np.float32)
    frames, travelled = render_body("Pendulum-v1", 3, actions, np.array([0, 3]), (64, 48))
    assert frames.shape == (2, 48, 64, 3)
    assert (frames[0] != frames[1]).any()
    assert np.isnan(travelled).all()


@pytest.mark.slow
def test_no_opengl_is_said(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(RenderError, match="MUJOCO_GL=nonsense"):
        render_body(ENVIRONMENT, 3, act_three(), np.array([0]), (64, 48))
