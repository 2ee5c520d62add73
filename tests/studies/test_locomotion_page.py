"""A benchmark's page needs nothing else, and says what is missing."""

import json
import re

import numpy as np
import pytest
import torch

from onestride.evaluation.evaluate import summary
from onestride.evaluation.variant import Variant
from onestride.files import write_json
from onestride.reports import films
from onestride.reports.motions import BodyMotion
from onestride.reports.render import RenderError
from onestride.studies import locomotion_page
from onestride.studies.locomotion_page import FILMED
from onestride.tasks.metric import EPISODE
from onestride.tensors import save_tensors

VARIANTS = {
    "teacher": Variant(method="teacher", selector="returns"),
    "dnk": Variant(method="dnk", selector="iql"),
    "dnk-classifier": Variant(method="dnk", selector="returns"),
    "dnk-unselected": Variant(method="dnk", selector="none"),
}


@pytest.fixture
def folder(tmp_path):
    """What an evaluation leaves: teacher and DNK, two seeds of three episodes."""
    rows = ("teacher", "dnk", "dnk-classifier", "dnk-unselected")
    records = [
        {"row": row, "seed": seed, "episode": e, "return_raw": 9e3, "return_normalised": 0.7 + 0.01 * e, "fell": False}
        for row in rows for seed in (0, 1) for e in range(3)
    ]  # fmt: skip
    times = {"teacher": [0.12, 0.1], "dnk": [0.004, 0.005], "dnk-classifier": [0.005]}
    clouds = [{"row": "dnk", "seed": seed, "action_spread": 0.2, "teacher_distance": 0.1} for seed in (0, 1)]
    comparison = {
        "schema": 2, "experiment": "halfcheetah-v5", "command": "onestride evaluate",
        "config": {"evaluate": {"episodes": 3}},
        "seeds": {"episodes": 0, "training": [0, 1]}, "versions": {}, "machine": {}, "started": "now", "wall_s": 1.0,
        "rows": {row: summary(VARIANTS[row], EPISODE, records, clouds, times, dict.fromkeys(rows, 1)) for row in rows},
        "notes": ["mind <this>"],
    }  # fmt: skip
    folder = tmp_path / "evaluation"
    write_json(folder / "comparison.json", comparison)
    write_json(folder / "latency.json", times)
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    cloud = torch.randn(2, 16, 4, 23, generator=torch.Generator().manual_seed(0))
    save_tensors(folder / "candidates.safetensors", {"plans.teacher": cloud, "plans.dnk": 0.9 * cloud})
    return folder


def fake_frames(environment, seed, actions, steps, size):
    return np.full((len(steps), 48, 64, 3), 200, np.uint8), 0.1 * steps


def test_page_is_self_contained(folder, monkeypatch, make_arm_policy):
    monkeypatch.setattr(films, "render_body", fake_frames)
    actions = {row: np.zeros((6, 6), np.float32) for row in FILMED[:2]}
    motion = BodyMotion("HalfCheetah-v5", 0, 0.05, actions, dict.fromkeys(actions, False))
    motion.save(folder / "motion.safetensors")
    make_arm_policy("teacher").save(folder.parent / "teacher", {"history": {"loss": [[10, 2.0], [20, 1.5]]}})
    page = locomotion_page.write(folder, folder.parent).read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 5 + 3 + 1  # pictures; films of two rows and the replay; training
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "Not shown" not in page
    assert "mind &lt;this&gt;" in page
    assert "0.8885 ± 0.0042" in page
    assert "paper, D4RL&#39;s own data, RTX 5090: return" in page
    assert "Teacher: 110 ms a decision, 2.2 times slower; DNK: 4.5 ms a decision, full speed." in page
    assert all(
        (folder / name).is_file() for name in ("pareto.png", "returns.png", "pca.png", "frames.png", "replay.gif")
    )
    other = json.loads((folder / "comparison.json").read_text()) | {"experiment": "hopper-v5"}
    (folder / "comparison.json").write_text(json.dumps(other))
    assert "The paper&#39;s columns" in page
    assert "Hollow and grey" in page
    hopper = locomotion_page.write(folder, folder.parent, pictures=False, out=folder.parent / "hopper.html").read_text()
    assert "The paper&#39;s columns" not in hopper  # the paper has no such body
    assert "Hollow and grey" not in hopper
    (folder / "comparison.json").write_text(json.dumps(other | {"experiment": "halfcheetah-v5"}))
    again = locomotion_page.write(folder, folder.parent, pictures=False, out=folder.parent / "other.html")
    assert again.read_text() == page


def test_returns_of_a_task_without_references_are_no_normalised_ones(folder):
    assert "normalised return" in locomotion_page.write(folder, folder.parent, pictures=False).read_text()
    other = json.loads((folder / "comparison.json").read_text()) | {"experiment": "gym:Reacher-v5"}
    (folder / "comparison.json").write_text(json.dumps(other))
    assert "normalised return" not in locomotion_page.write(folder, folder.parent, pictures=False).read_text()


@pytest.mark.slow
def test_page_says_what_is_missing(folder):
    (folder / "latency.json").unlink()
    (folder / "candidates.safetensors").unlink()
    (folder / "episodes.jsonl").write_text("")
    page = locomotion_page.write(folder, folder.parent).read_text()
    assert page.count("Not shown") == 5 + 3
    assert "because there is no episode" in page
    assert "holds no Minari dataset" in page  # nor planners to film
    assert str(folder.parent) not in page


@pytest.mark.slow
def test_page_without_opengl(folder, monkeypatch):
    def render(*_):
        raise RenderError("no OpenGL")

    monkeypatch.setattr(films, "render_body", render)
    actions = {row: np.zeros((6, 6), np.float32) for row in FILMED[:2]}
    motion = BodyMotion("HalfCheetah-v5", 0, 0.05, actions, dict.fromkeys(actions, False))
    motion.save(folder / "motion.safetensors")
    page = locomotion_page.write(folder, folder.parent).read_text()
    assert "Not shown: the replay, because no OpenGL." in page


def test_no_comparison(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no comparison\.json: evaluate first"):
        locomotion_page.write(tmp_path, tmp_path)
