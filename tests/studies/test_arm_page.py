"""The arm's page needs nothing else, and says what is missing."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from onestride.evaluation.variant import Variant
from onestride.files import write_json
from onestride.reports import films
from onestride.studies import arm_page
from onestride.tasks.kinova.arm import READY
from onestride.tensors import save_tensors

START, GOAL = np.array([0.4, -0.2, 0.15]), np.array([0.45, 0.2, 0.25])
OBSTACLES = np.zeros((4, 8))
OBSTACLES[0] = (1, 0.42, 0.0, 0.2, 0.04, 0, 0, 0)


def metric(mean, std=0.5):
    return {"mean": mean, "std": std, "n": 20, "per_seed": [] if mean is None else [mean, mean]}


@pytest.fixture
def run(tmp_path):
    """A run that was evaluated, of which the result alone is there."""
    teacher = {"success": metric(0.95), "decision_ms_mean": metric(120.0, 3.25), "completion_time_s": metric(9.5)}
    dnk = {"success": metric(1.0), "decision_ms_mean": metric(8.0, 0.125), "completion_time_s": metric(None, None)}
    rows = {"dnk": dnk | {"nfe": metric(1.0, 0.0)}, "teacher": teacher}
    common = {"candidate_spread_mm": metric(12.0)}
    comparison = {
        "schema": 2, "experiment": "kinova", "command": "onestride demo", "config": {"steps": 10},
        "seeds": {"scenes": 0, "training": [0, 1]},
        "versions": {}, "machine": {"cores": 2}, "started": "now", "wall_s": 1.0, "notes": ["mind <this>"],
        "rows": {
            row: {"variant": Variant(method=row, selector="task").fields(), **common, **each}
            for row, each in rows.items()
        },
    }  # fmt: skip
    write_json(tmp_path / "evaluation" / "comparison.json", comparison)
    return tmp_path


def leave_what_an_evaluation_leaves(run):
    rng, folder = np.random.default_rng(0), run / "evaluation"
    candidates = {"obstacles": OBSTACLES[None], "start": START[None], "goal": GOAL[None]}
    motion = {"obstacles": OBSTACLES, "start": START, "goal": GOAL}
    for row in ("teacher", "dnk"):
        path = START + np.linspace(0, 1, 12)[:, None] * (GOAL - START)
        candidates[f"paths.{row}"] = path + 0.03 * rng.normal(size=(1, 8, 12, 3))
        candidates[f"scores.{row}"] = rng.normal(size=(1, 8))
        motion[f"joints.{row}"] = np.linspace(READY - 0.3, READY, 12)
        motion |= {f"times.{row}": np.linspace(0, 1, 12), f"path.{row}": path}
    for name, tensors, header in (
        ("candidates", candidates, {"scenes": json.dumps([4])}),
        ("motion", motion, None),
    ):
        copies = {k: torch.from_numpy(v).clone() for k, v in tensors.items()}
        save_tensors(folder / f"{name}.safetensors", copies, header)
    episodes = [
        {"row": "teacher", "seed": 0, "scene": 0, "decision_ms": [120.0, 130.0]},
        {"row": "dnk", "seed": 0, "scene": 0, "decision_ms": [8.0]},
    ]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(episode) + "\n" for episode in episodes))


def test_page_is_self_contained(run, monkeypatch, make_arm_policy):
    leave_what_an_evaluation_leaves(run)
    make_arm_policy("teacher").save(run / "teacher", {"history": {"loss": [[10, 2.0], [20, 1.5]]}})
    monkeypatch.setattr(films, "render_arm", lambda scene, joints, size: np.zeros((len(joints), 80, 96, 3), np.uint8))
    page = arm_page.write(run / "evaluation", run).read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 6
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert page.count("alt=") == 5
    assert "<strong>15.0x</strong><span>DNK: faster decisions</span>" in page
    assert "120.00 ± 3.25" in page
    said = " ".join(page.split())
    assert "mean and percentile of each trial&#39;s decisions, averaged over trials" in said
    assert "Every decision of all trials together, so that long trials count for more than in the table" in said
    assert "mind &lt;this&gt;" in page
    assert "Shown is scene 4" in page
    assert "Not shown" not in page
    with Image.open(run / "evaluation" / "candidates.png") as image:
        assert image.width == 1600
    assert arm_page.write(run / "evaluation", run, pictures=False, out=run / "again.html").is_file()


def test_page_says_what_is_missing(run):
    (run / "evaluation" / "episodes.jsonl").write_text("{\n")
    page = arm_page.write(run / "evaluation", run).read_text()
    assert page.count("Not shown") == 6
    assert "because motion.safetensors cannot be read (No such file or directory)" in page
    assert "because episodes.jsonl, line 1 is not JSON" in page
    assert "holds no checkpoint with a record of its losses" in page
    assert str(run) not in page


def test_no_comparison(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no comparison\.json: evaluate first"):
        arm_page.write(tmp_path, tmp_path)
