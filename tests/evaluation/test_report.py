"""Pictures of known data, and a page that needs nothing else."""

import json
import re

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from onestride.evaluation import cameras
from onestride.evaluation import film as film_module
from onestride.evaluation import page as page_module
from onestride.evaluation.figures import (
    Candidates,
    candidates_figure,
    frames_figure,
    latency_figure,
    principal_components,
    read_latency,
)
from onestride.evaluation.film import GIF_BYTES, Motion, film
from onestride.files import CheckpointError, write_json
from onestride.tasks.kinova.arm import READY
from onestride.tasks.kinova.scene import Scene
from onestride.tensors import save_tensors

START, GOAL = np.array([0.4, -0.2, 0.15]), np.array([0.45, 0.2, 0.25])
OBSTACLES = np.zeros((4, 8))
OBSTACLES[0] = (1, 0.42, 0.0, 0.2, 0.04, 0, 0, 0)
OBSTACLES[2] = (2, 0.5, 0.1, 0.1, 0.03, 0.05, 0.08, 0.6)


def metric(mean, std=0.5):
    return {"mean": mean, "std": std, "n": 20, "per_seed": [] if mean is None else [mean, mean]}


@pytest.fixture
def comparison() -> dict:
    teacher = {"success": metric(0.95), "decision_ms_mean": metric(120.0, 3.25), "completion_time_s": metric(9.5)}
    dnk = {"success": metric(1.0), "decision_ms_mean": metric(8.0, 0.125), "completion_time_s": metric(None, None)}
    for name, row in (("teacher", teacher), ("dnk", dnk)):
        row |= {"variant": {"method": name, "selector": "task"}}
    return {
        "schema": 2, "experiment": "kinova", "command": "onestride demo", "config": {"steps": 10},
        "seeds": {"scenes": 0, "training": [0, 1]},
        "versions": {}, "machine": {"cores": 2}, "started": "now", "wall_s": 1.0, "notes": ["mind <this>"],
        "rows": {"dnk": dnk | {"nfe": metric(1.0, 0.0)}, "teacher": teacher},
    }  # fmt: skip


@pytest.fixture
def motion() -> Motion:
    """The teacher takes 2 s and stops short, the student 0.6 s and arrives."""
    joints = np.linspace(READY - 0.3, READY, 10)
    paths = {"teacher": np.linspace(START, GOAL - 0.02, 10), "dnk": np.linspace(START, GOAL, 10)}
    times = {"teacher": np.linspace(0, 2, 10), "dnk": np.linspace(0, 0.6, 10)}
    scene = Scene(START, GOAL, OBSTACLES)
    return Motion(scene, {"teacher": joints, "dnk": joints}, times, paths)


def write_candidates(path, scenes=2, n=8, h=12):
    rng = np.random.default_rng(0)
    straight = START + np.linspace(0, 1, h)[:, None] * (GOAL - START)
    tensors = {"obstacles": np.tile(OBSTACLES, (scenes, 1, 1)), "start": np.tile(START, (scenes, 1))}
    tensors |= {"goal": np.tile(GOAL, (scenes, 1))}
    for row in ("teacher", "dnk"):
        tensors[f"paths.{row}"] = straight + 0.03 * rng.normal(size=(scenes, n, h, 3))
        tensors[f"scores.{row}"] = rng.normal(size=(scenes, n))
    save_tensors(path, {k: torch.from_numpy(v).float() for k, v in tensors.items()}, {"scenes": json.dumps([4, 7])})


def write_motion(path, motion):
    tensors = {"start": motion.scene.start, "goal": motion.scene.goal, "obstacles": motion.scene.obstacles}
    for row in motion.joints:
        named = {"joints": motion.joints, "times": motion.times, "path": motion.path}
        tensors |= {f"{kind}.{row}": by_row[row] for kind, by_row in named.items()}
    save_tensors(path, {k: torch.from_numpy(v).clone() for k, v in tensors.items()})


# --- figures ---


def test_principal_components_of_known_data():
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    x = rng.normal(size=(4000, 5)) * (5, 2, 0.1, 0.1, 0.1) @ turn.T + 3
    mean, directions, explained = principal_components(x, 2)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose(explained, values[::-1][:2] / values.sum(), rtol=1e-9)
    np.testing.assert_allclose(np.abs(directions @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-9)


def test_latency_of_every_row(tmp_path):
    path = tmp_path / "episodes.jsonl"
    episodes = [{"row": "dnk", "decision_ms": [8.0, 9.0]}, {"row": "teacher", "decision_ms": [120.0]}]
    path.write_text("\n".join(map(json.dumps, [*episodes, {"row": "dnk", "decision_ms": [10.0]}])))
    latency = read_latency(path)
    assert {row: times.tolist() for row, times in latency.items()} == {"teacher": [120.0], "dnk": [8.0, 9.0, 10.0]}
    panels = latency_figure(latency).axes
    assert [panel.get_ylabel() for panel in panels] == ["Teacher", "DNK"]
    assert all(50.0 in [line.get_xdata()[0] for line in panel.lines] for panel in panels)
    path.write_text('{"row": "dnk"}')
    with pytest.raises(CheckpointError, match=r"line 1.*decision_ms"):
        read_latency(path)


def test_candidates_missing_a_tensor(tmp_path):
    save_tensors(tmp_path / "c.safetensors", {"paths.teacher": torch.zeros(1, 2, 3, 3), "start": torch.zeros(1, 3)})
    with pytest.raises(CheckpointError, match=r"lacks .*scores.teacher"):
        Candidates.load(tmp_path / "c.safetensors")


# --- film ---


def test_film_without_opengl_is_drawn(motion, tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    made = film(motion, tmp_path / "arms.mp4", tmp_path / "arms.gif", size=(96, 80))
    assert "nonsense" in (made.drawn_because or "")
    assert made.gif.stat().st_size <= GIF_BYTES
    reader = imageio_ffmpeg.read_frames(str(made.mp4))
    about = next(reader)
    reader.close()
    assert about["size"] == (192, 160)
    assert about["codec"] == "h264"
    assert about["pix_fmt"].startswith("yuv420p")
    assert about["duration"] == pytest.approx(2 + film_module.PAUSE, abs=0.2)
    with Image.open(made.gif) as gif:
        assert gif.n_frames > 10
    assert made.notes["dnk"][0] == ""
    assert made.notes["dnk"][-1] == "arrived, 0.6 s"
    assert made.notes["teacher"][-1].startswith("35 mm short")
    assert made.moments[-1] == pytest.approx(2)
    np.testing.assert_array_equal(made.stills["dnk"][-1], made.stills["dnk"][3])  # it stays put
    assert (made.stills["dnk"][0] != made.stills["dnk"][-1]).any()
    assert len(frames_figure(made.stills, made.moments, made.notes).axes) == 2 * len(made.moments)


@pytest.mark.parametrize("duration", [1.0, 11.0, 12.0, 90.0, 315.0])
def test_film_is_short_and_says_its_speed(motion, duration, tmp_path, monkeypatch):
    monkeypatch.setattr(
        film_module, "shoot", lambda scene, joints, w, h: (iter([grey(w, h)] * len(joints)), seen, None)
    )
    written = []
    monkeypatch.setattr(film_module, "_write_mp4", lambda path, pictures: written.extend(pictures))
    monkeypatch.setattr(film_module, "_write_gif", lambda path, pictures: None)
    slow = Motion(
        motion.scene, motion.joints, {"teacher": np.linspace(0, duration, 10), "dnk": motion.times["dnk"]}, motion.path
    )
    made = film(slow, tmp_path / "a.mp4", tmp_path / "a.gif", size=(32, 32))
    assert len(written) / film_module.FPS <= 12.2
    assert made.speed == 1 or duration / made.speed > 5


def grey(width, height):
    return np.full((height, width, 3), 200, np.uint8)


def seen(points):
    return 100 * points[:, :2]


# --- the page ---


def test_page_is_self_contained(comparison, motion, tmp_path, monkeypatch):
    write_json(tmp_path / "comparison.json", comparison)
    write_candidates(tmp_path / "candidates.safetensors")
    write_motion(tmp_path / "motion.safetensors", motion)
    episodes = [{"row": "teacher", "decision_ms": [120.0, 130.0]}, {"row": "dnk", "decision_ms": [8.0]}]
    (tmp_path / "episodes.jsonl").write_text("\n".join(map(json.dumps, episodes)))
    small = film_module.film
    monkeypatch.setattr(cameras, "_backends", list)
    monkeypatch.setattr(page_module, "film", lambda motion, mp4, gif: small(motion, mp4, gif, size=(96, 80)))
    page = page_module.write(tmp_path).read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 5
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert page.count("alt=") == 4
    assert "15.0x" in page
    assert "120.00 ± 3.25" in page
    assert "mind &lt;this&gt;" in page
    assert "Not shown" not in page
    with Image.open(tmp_path / "candidates.png") as image:
        assert image.width == 1600


def test_page_says_what_is_missing(comparison, tmp_path):
    write_json(tmp_path / "comparison.json", comparison)
    (tmp_path / "episodes.jsonl").write_text("{")
    page = page_module.write(tmp_path).read_text()
    assert page.count("Not shown") == 5
    assert "the evaluation left no motion.safetensors" in page
    assert "because episodes.jsonl, line 1 is not JSON" in page
    assert str(tmp_path) not in page


def test_no_comparison(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no comparison\.json: evaluate first"):
        page_module.write(tmp_path)


def test_panels_have_room_for_their_labels_where_candidates_hardly_differ():
    """Two labels lay upon each other, and one was cut off at the picture's edge."""
    rng = np.random.default_rng(0)
    paths = np.linspace([0.0, 0, 0], [1.0, 0, 0], 8)[None, None] + 1e-3 * rng.normal(size=(1, 16, 8, 3))
    ends = {"start": np.zeros((1, 3)), "goal": np.array([[1.0, 0, 0]])}
    obstacles = np.zeros((1, 1, 8))
    scores = rng.normal(size=(1, 16))
    rows = ({"teacher": values, "dnk": values} for values in (paths, scores))
    candidates = Candidates([0], obstacles, ends["start"], ends["goal"], *rows)
    made = candidates_figure(candidates, 0)
    made.canvas.draw()
    for panel in made.axes[:4]:
        (x0, x1), (y0, y1) = panel.get_xlim(), panel.get_ylim()
        assert y1 - y0 >= 0.44 * (x1 - x0)
    boxes = [made.axes[i].yaxis.label.get_window_extent() for i in (0, 2)]
    assert not boxes[0].overlaps(boxes[1])
    assert all(box.y0 >= 0 and box.y1 <= made.bbox.height for box in boxes)
