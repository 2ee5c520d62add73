"""Figures of known data: what is drawn where."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_hex

from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.reports.figures import (
    latency_figure,
    loss_terms,
    pca_figure,
    principal_components,
    read_latency,
    training_figure,
)
from onestride.reports.figures_arm import Candidates, candidates_figure
from onestride.reports.figures_returns import _front, pareto_figure, returns_figure
from onestride.reports.style import PAPER_GREY, colour, label, ordered

TEACHER = Variant(method="teacher", selector="returns")
DNK, KDM, MLP = (Variant(method=method, selector="iql") for method in ("dnk", "kdm", "mlp"))


def test_methods_that_nobody_knows_have_a_name_and_a_colour():
    assert ordered(["mine", "dnk", "another", "teacher"]) == ["teacher", "dnk", "another", "mine"]
    assert (label("mine"), label("dnk"), colour("mine")) == ("mine", "DNK", "#555")


# --- principal components ---


def test_principal_components_of_known_data():
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    x = rng.normal(size=(4000, 5)) * (5, 2, 0.1, 0.1, 0.1) @ turn.T + 3
    mean, directions, explained = principal_components(x, 2)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose(explained, values[::-1][:2] / values.sum(), rtol=1e-9)
    np.testing.assert_allclose(np.abs(directions @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-9)


def test_candidates_are_in_the_teachers_plane():
    points = np.random.default_rng(0).normal(size=(2, 64, 4, 3)) * (9, 3, 0.1)
    figure = pca_figure({TEACHER: points, DNK: points.copy(), KDM: 0.1 * points}, ["state 1", "state 2"])
    assert len(figure.axes) == 4  # two students, two states
    (teacher, dnk), (_, kdm) = (panel.collections for panel in (figure.axes[0], figure.axes[2]))
    np.testing.assert_allclose(teacher.get_offsets(), dnk.get_offsets())
    assert np.ptp(kdm.get_offsets()[:, 0]) == pytest.approx(0.1 * np.ptp(teacher.get_offsets()[:, 0]), rel=1e-4)


def test_the_best_candidate_is_marked():
    points, scores = np.random.default_rng(0).normal(size=(1, 64, 4, 3)), np.zeros((1, 64))
    scores[0, 7] = 1
    panel = pca_figure({TEACHER: points, DNK: points}, ["scene 4"], "cm", {TEACHER: scores, DNK: scores}).axes[0]
    every, best, *_ = panel.collections
    np.testing.assert_array_equal(best.get_offsets()[0], every.get_offsets()[7])
    assert panel.get_title().startswith("scene 4, explained: ")
    assert panel.get_xlabel() == "component 1 [cm]"


@pytest.mark.parametrize("missing", [TEACHER, DNK])
def test_without_teacher_or_student_there_is_nothing_to_compare(missing):
    candidates = {v: np.zeros((1, 2, 3, 4)) for v in (TEACHER, DNK) if v != missing}
    with pytest.raises(CheckpointError, match="the teacher and one student are needed"):
        pca_figure(candidates, ["state 1"])


# --- latency ---


def test_latency_of_every_row(tmp_path):
    path = tmp_path / "episodes.jsonl"
    episodes = [
        {"row": "dnk", "seed": 0, "scene": 0, "decision_ms": [8.0, 9.0]},
        {"row": "teacher", "seed": 0, "scene": 0, "decision_ms": [120.0]},
        {"row": "dnk", "seed": 0, "scene": 1, "decision_ms": [10.0]},
    ]
    path.write_text("".join(json.dumps(episode) + "\n" for episode in episodes))
    latency = read_latency(path)
    assert {row: times.tolist() for row, times in latency.items()} == {"dnk": [8.0, 9.0, 10.0], "teacher": [120.0]}
    panels = latency_figure({TEACHER: latency["teacher"], DNK: latency["dnk"]}, 50.0).axes
    assert [panel.get_ylabel() for panel in panels] == ["Teacher", "DNK"]
    assert all(50.0 in [line.get_xdata()[0] for line in panel.lines] for panel in panels)
    path.write_text('{"row": "dnk", "seed": 0}\n')
    with pytest.raises(CheckpointError, match="holds no decision"):
        read_latency(path)


# --- training ---


def test_every_term_of_a_loss_is_a_line_and_one_list_is_the_loss():
    assert list(loss_terms([[10, 2.0], [20, 1.0]])) == ["loss"]
    terms = loss_terms({"loss": [[10, 2.0], [20, 1.0]], "spectral": [[10, 0.3], [20, 0.2]], "empty": []})
    assert list(terms) == ["loss", "spectral"]
    figure = training_figure({"dnk": [terms, terms], "teacher": [loss_terms([[20, -1.0]])]})
    teacher, dnk = figure.axes
    assert (teacher.get_title(), dnk.get_title()) == ("Teacher", "DNK")
    assert len(dnk.lines) == 4  # two terms, two seeds
    np.testing.assert_array_equal(dnk.lines[1].get_xydata(), [[10, 0.3], [20, 0.2]])
    many = training_figure({"dnk": [{f"term {i}": np.array([[1, 1.0], [2, 2.0]]) for i in range(15)}]}).axes[0]
    assert len({to_hex(line.get_color()) for line in many.lines}) == 15
    assert [text.get_text() for text in dnk.get_legend().get_texts()] == ["loss", "spectral"]
    assert (dnk.get_yscale(), teacher.get_yscale()) == ("log", "linear")  # a loss may be negative


# --- the arm's candidates ---


def test_panels_have_room_for_their_labels_where_candidates_hardly_differ():
    """Two labels lay upon each other, and one was cut off at the picture's edge."""
    rng = np.random.default_rng(0)
    paths = np.linspace([0.0, 0, 0], [1.0, 0, 0], 8)[None, None] + 1e-3 * rng.normal(size=(1, 16, 8, 3))
    ends = {"start": np.zeros((1, 3)), "goal": np.array([[1.0, 0, 0]])}
    scores = rng.normal(size=(1, 16))
    rows = ({TEACHER: values, DNK: values} for values in (paths, scores))
    made = candidates_figure(Candidates([0], np.zeros((1, 1, 8)), ends["start"], ends["goal"], *rows), 0)
    made.canvas.draw()
    for panel in made.axes[:4]:
        (x0, x1), (y0, y1) = panel.get_xlim(), panel.get_ylim()
        assert y1 - y0 >= 0.44 * (x1 - x0)
    boxes = [made.axes[i].yaxis.label.get_window_extent() for i in (0, 2)]
    assert not boxes[0].overlaps(boxes[1])
    assert all(box.y0 >= 0 and box.y1 <= made.bbox.height for box in boxes)


# --- returns ---


def row(ms, value, std=0.01):
    return {"decision_ms_mean": {"mean": ms}, "return_normalised": {"mean": value, "std": std}}


def test_pareto_names_every_point_apart():
    unselected = Variant(method="dnk", selector="none")
    rows = {TEACHER: row(110, 0.8), DNK: row(4.1, 0.86), MLP: row(4.0, 0.86), unselected: row(None, 0.5)}
    panel = pareto_figure(rows, {DNK: row(0.82, 0.89)}, "another dataset").axes[0]
    texts = {t.get_text(): t for t in panel.texts if t.get_text()}
    assert set(texts) == {"Teacher", "DNK", "MLP", "DNK, paper"}
    assert panel.get_xscale() == "log"
    boxes = [t.get_window_extent() for t in texts.values()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert to_hex(texts["DNK"].get_color()) == colour("dnk").lower()
    assert to_hex(texts["DNK, paper"].get_color()) == PAPER_GREY.lower()


def test_front_are_the_corners_of_what_is_not_beaten():
    assert _front([(4, 0.8), (1, 0.5), (2, 0.4), (9, 0.8)]) == [(1, 0.5), (4, 0.5), (4, 0.8)]


def test_names_for_which_there_is_no_room_share_as_little_as_they_can():
    crowd = {Variant(method=f"method {i}", selector="iql"): row(1 + 1e-3 * i, 0.5) for i in range(16)}
    figure = pareto_figure(crowd | {TEACHER: row(100, 0.5)}, {}, "", "return")
    assert figure.axes[0].get_ylabel() == "return"
    texts = [t for t in figure.axes[0].texts if t.get_text()]
    assert len(texts) == 17
    assert len({t.get_position() for t in texts}) > 10  # they lay upon each other, right of their points


def test_every_episode_is_a_dot():
    records = [
        {"seed": seed, "episode": e, "return_normalised": 0.1 * e, "fell": e == 0} for seed in (0, 1) for e in range(4)
    ]
    figure = returns_figure({TEACHER: records, DNK: records})
    panel = figure.axes[0]
    assert sum(len(c.get_offsets()) for c in panel.collections if hasattr(c, "get_sizes")) == 2 * len(records)
    assert [t.get_text() for t in panel.get_yticklabels()] == ["Teacher", "DNK"]
    assert len(figure.legends) == 1
    assert not returns_figure({DNK: [r | {"fell": False} for r in records]}).legends
    with pytest.raises(CheckpointError, match="no episode"):
        returns_figure({})
