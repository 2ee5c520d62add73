"""Films: the motion that was made is the motion that is rendered, at the pace that was measured."""

from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from onestride.evaluation import benchmark_film as films
from onestride.evaluation.benchmark_film import (
    Motion,
    RenderError,
    Shots,
    act,
    film,
    load_motion,
    save_motion,
    schedule,
)
from onestride.tasks.lockstep import make_environment

ENVIRONMENT = "HalfCheetah-v5"


class Shaking:
    """A policy that tells every planner apart."""

    task = SimpleNamespace(control_dt=0.05)

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self, seed):
        self.seed = seed

    def act(self, observations):
        return self.rng.uniform(-1, 1, (len(observations), 6))


def test_motion_round_trip(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "LONGEST", 0.2)
    actions, fell = act(Shaking(0), ENVIRONMENT, 3)
    assert actions.shape == (4, 6)
    assert not fell
    save_motion(Motion(ENVIRONMENT, 3, 0.05, {"dnk": actions}, {"dnk": fell}), tmp_path / "motion.safetensors")
    again = load_motion(tmp_path / "motion.safetensors")
    np.testing.assert_array_equal(again.actions["dnk"], actions)
    assert (again.environment, again.seed, again.control_dt, again.fell) == (ENVIRONMENT, 3, 0.05, {"dnk": False})


def test_who_waits_longer_comes_less_far():
    motion = Motion("", 0, 0.05, {"teacher": np.zeros((200, 6)), "dnk": np.zeros((40, 6))}, {})
    steps = schedule(motion, {"teacher": 0.2, "dnk": 0.05}, 25)
    assert len(steps["teacher"]) == len(steps["dnk"]) == 25 * films.LONGEST + 1
    assert steps["teacher"][-1] == films.LONGEST / 0.2
    assert steps["dnk"][25] == 20
    assert steps["dnk"][-1] == 40  # it has ended


def fake_shots(motion, row, steps, size):
    steps = np.unique(steps)
    frames = np.stack([np.full((size[1], size[0], 3), 5 * s, np.uint8) for s in steps])
    return Shots(steps, frames, 0.1 * steps)


def test_film_and_replay(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "shoot", fake_shots)
    actions = {"teacher": np.zeros((20, 6)), "dnk": np.zeros((20, 6)), "kdm": np.zeros((5, 6))}
    motion = Motion(ENVIRONMENT, 0, 0.05, actions, {"teacher": False, "dnk": False, "kdm": True})
    names = {row: f"{row}.mp4" for row in actions} | {"replay": "replay.mp4", "gif": "replay.gif"}
    made = film(motion, {"teacher": 0.1, "dnk": 0.004}, tmp_path, names, size=(96, 64))
    assert made.periods == {"teacher": 0.1, "dnk": 0.05}
    assert made.notes["kdm"][0] == ""
    assert made.notes["kdm"][-1] == "fell, 0.2 s"
    assert made.notes["dnk"][-1] == ""
    assert made.moments[-1] == pytest.approx(1)
    for name, width, seconds in (("kdm.mp4", 96, 1), ("replay.mp4", 192, 2 + films.PAUSE)):
        reader = imageio_ffmpeg.read_frames(str(tmp_path / name))
        about = next(reader)
        reader.close()
        assert about["size"][0] == width
        assert about["fps"] == films.FPS
        assert about["duration"] == pytest.approx(seconds, abs=0.1)
    with Image.open(tmp_path / "replay.gif") as gif:
        assert gif.n_frames > 10
    assert film(motion, {"dnk": 0.004}, tmp_path, names, size=(96, 64)).periods == {}


def test_what_is_rendered_is_what_was_done():
    motion = Motion(ENVIRONMENT, 3, 0.05, {"dnk": act_three()}, {"dnk": False})
    try:
        shots = films.shoot(motion, "dnk", [3, 0, 3], (64, 48))
    except RenderError as error:
        pytest.skip(str(error))
    assert shots.steps.tolist() == [0, 3]
    assert shots.frames.shape == (2, 48, 64, 3)
    assert (shots.frames[0] != shots.frames[1]).any()
    env = make_environment(ENVIRONMENT)
    env.reset(seed=3)
    for action in motion.actions["dnk"]:
        env.step(action)
    assert shots.at(3)[1] == env.unwrapped.data.qpos[0]
    env.close()


def act_three():
    return np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)


def test_no_opengl_is_said(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    motion = Motion(ENVIRONMENT, 3, 0.05, {"dnk": act_three()}, {"dnk": False})
    with pytest.raises(RenderError, match="MUJOCO_GL=nonsense"):
        films.shoot(motion, "dnk", [0])
