"""What a scene is drawn of."""

import numpy as np
import pytest

from onestride.viewer.drawing import on_level
from onestride.viewer.parts import BEST, WORST, capsule, obstacle_parts, score_colours, segments


def test_the_best_score_has_the_best_colour_and_nan_the_worst():
    colours = score_colours(np.array([0.5, np.nan, 2.0, -np.inf, 1.0]))
    assert colours[2].tolist() == BEST.tolist()
    assert colours[1].tolist() == WORST.tolist()
    blue = np.abs(colours.astype(int) - BEST).sum(1)
    assert np.argsort(blue).tolist()[:3] == [2, 4, 0]


def test_colours_depend_on_ranks_alone():
    scores = np.array([3.0, -1.0, 0.5])
    assert np.array_equal(score_colours(scores), score_colours(np.exp(100 * scores)))


def test_segments_join_the_points_of_each_path_and_of_no_two():
    paths = np.arange(18.0).reshape(2, 3, 3)
    lines, colours = segments(paths, np.array([[1, 2, 3], [4, 5, 6]]))
    expected = [[paths[n, h], paths[n, h + 1]] for n in range(2) for h in range(2)]
    assert np.array_equal(lines, expected)
    assert colours[:, 0].tolist() == [[1, 2, 3], [1, 2, 3], [4, 5, 6], [4, 5, 6]]
    paths[0, 1, 0] = np.nan
    assert np.array_equal(segments(paths, np.zeros((2, 3)))[0], expected[2:])


def test_a_capsule_is_closed_and_everywhere_its_radius_from_its_axis():
    vertices, faces = capsule(0.2, 1.0)
    on_axis = np.clip(vertices[:, 2], -0.5, 0.5)
    apart = np.linalg.norm(vertices - np.stack((0 * on_axis, 0 * on_axis, on_axis), 1), axis=1)
    assert apart == pytest.approx(0.2, abs=1e-6)
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6  # positive where triangles face outwards
    assert volume == pytest.approx(np.pi * 0.2**2 * (1.0 + 4 / 3 * 0.2), rel=0.05)


def test_absent_obstacles_are_not_drawn_and_others_are_as_large_as_they_are():
    rows = np.zeros((4, 8))
    rows[1] = [1, 0.1, 0.2, 0.3, 0.04, 0, 0, 0]
    rows[3] = [2, 0.4, 0.5, 0.6, 0.01, 0.02, 0.03, np.pi / 2]
    ball, box = obstacle_parts(rows.ravel())
    assert (ball.name, ball.shape, ball.size, ball.handle) == ("obstacle1", "sphere", (0.04,), "obstacle1")
    assert box.size == pytest.approx((0.02, 0.04, 0.06))
    assert box.wxyz == pytest.approx((np.sqrt(0.5), 0, 0, np.sqrt(0.5)))
    assert box.position.tolist() == [0.4, 0.5, 0.6]


def test_a_pointer_is_followed_to_the_height_of_what_is_dragged():
    eye = np.array([1.0, -2.0, 3.0])
    target = np.array([0.2, 0.3, 0.5])
    assert on_level(eye, eye + 0.4 * (target - eye), 0.5) == pytest.approx(target)
    assert on_level(eye, eye + np.array([1.0, 0.0, 0.0]), 0.5) is None  # level with the eye
    assert on_level(eye, eye + np.array([0.0, 0.0, 1.0]), 0.5) is None  # behind it
