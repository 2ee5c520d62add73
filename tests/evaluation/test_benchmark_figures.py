"""Figures of a benchmark: what is drawn where."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from onestride.evaluation import benchmark_figures as figures
from onestride.evaluation.lineup import parts
from onestride.files import CheckpointError
from onestride.reports.style import COLOURS, PAPER_GREY
from onestride.tensors import save_tensors


def row(ms, value, std=0.01):
    return {"decision_ms_mean": {"mean": ms}, "return_normalised": {"mean": value, "std": std}}


def test_names_and_order():
    rows = ["ct", "dnk-unselected", "kdm-f-classifier", "teacher-iql", "dnk", "kdm-f", "dnk-classifier", "teacher"]
    assert figures.ordered(rows) == [
        "teacher", "teacher-iql", "dnk", "dnk-classifier", "dnk-unselected", "kdm-f", "kdm-f-classifier", "ct",
    ]  # fmt: skip
    assert figures.label("kdm-f-classifier") == "KDM-F (classifier)"
    assert parts("teacher") == ("teacher", "classifier")
    assert parts("kdm-f") == ("kdm-f", "iql")
    assert parts("kdm-f-first") == ("kdm-f", "first")
    assert figures.label("dnk-8-candidates") == "dnk-8-candidates"


def test_pareto_names_every_point_apart():
    rows = {"teacher": row(110, 0.8), "dnk": row(4.1, 0.86), "mlp": row(4.0, 0.86), "dnk-unselected": row(None, 0.5)}
    figure = figures.pareto_figure(rows, {"dnk": row(0.82, 0.89)}, "another dataset")
    panel = figure.axes[0]
    texts = {t.get_text(): t for t in panel.texts if t.get_text()}
    assert set(texts) == {"Teacher", "DNK", "MLP", "DNK, paper"}
    assert panel.get_xscale() == "log"
    boxes = [t.get_window_extent() for t in texts.values()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert to_hex(texts["DNK"].get_color()) == COLOURS["dnk"].lower()
    assert to_hex(texts["DNK, paper"].get_color()) == PAPER_GREY.lower()


def test_front_are_the_corners_of_what_is_not_beaten():
    assert figures._front([(4, 0.8), (1, 0.5), (2, 0.4), (9, 0.8)]) == [(1, 0.5), (4, 0.5), (4, 0.8)]


def test_pca_is_in_the_teachers_plane(tmp_path):
    rng = np.random.default_rng(0)
    cloud = torch.from_numpy(rng.normal(size=(2, 64, 4, 3)) * (9, 3, 0.1)).float()
    path = tmp_path / "candidates.safetensors"
    save_tensors(path, {"plans.kdm": 0.1 * cloud, "plans.teacher": cloud, "plans.dnk": cloud.clone()})
    plans = figures.read_plans(path)
    assert list(plans) == ["teacher", "dnk", "kdm"]
    figure = figures.pca_figure(plans)
    assert len(figure.axes) == 4  # two students, two states
    (teacher, dnk), (_, kdm) = (panel.collections for panel in (figure.axes[0], figure.axes[2]))
    np.testing.assert_allclose(teacher.get_offsets(), dnk.get_offsets())
    assert np.ptp(kdm.get_offsets()[:, 0]) == pytest.approx(0.1 * np.ptp(teacher.get_offsets()[:, 0]), rel=1e-4)
    save_tensors(path, {"plans.dnk": cloud})
    with pytest.raises(CheckpointError, match="the teacher and one student are needed"):
        figures.read_plans(path)


def test_every_episode_is_a_dot():
    records = [
        {"row": name, "seed": seed, "episode": e, "return_normalised": 0.1 * e, "fell": e == 0}
        for name in ("dnk", "teacher") for seed in (0, 1) for e in range(4)
    ]  # fmt: skip
    figure = figures.returns_figure(records)
    panel = figure.axes[0]
    assert sum(len(c.get_offsets()) for c in panel.collections if hasattr(c, "get_sizes")) == len(records)
    assert [t.get_text() for t in panel.get_yticklabels()] == ["Teacher", "DNK"]
    assert len(figure.legends) == 1
    assert not figures.returns_figure([r | {"fell": False} for r in records]).legends
    with pytest.raises(CheckpointError, match="no episode"):
        figures.returns_figure([])
