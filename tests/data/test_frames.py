"""Images of a data set: as they were after collecting, writing and reading, in place; what is no image is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from onestride.data.collect import collect
from onestride.data.episode import Episode
from onestride.data.frames import with_images
from onestride.data.minari import read_dataset, write_dataset
from onestride.robot.control_spec import ObservationError
from onestride.robot.fields import Field, camera, decision_vector, pack, split_images
from onestride.tasks import TASKS
from onestride.training.material import Material

ACTION = Box(-1.0, 1.0, (2,), np.float32)


def episode(seed, steps=5, cameras=(("top", 6, 8), ("wrist", 4, 4))):
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (steps + 1, h, w, 3), dtype=np.uint8) for name, h, w in cameras}
    numbers = rng.normal(size=(steps + 1, 3)).astype(np.float32), rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    return Episode(*numbers, np.zeros(steps, np.float32), False, True, images)


def assert_same(found, wanted):
    found = list(found)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        assert a.images.keys() == b.images.keys()
        for name, images in b.images.items():
            np.testing.assert_array_equal(a.images[name], images)


def test_images_are_read_as_they_were_written_and_stay_on_disk(tmp_path):
    episodes = [episode(i, steps) for i, steps in enumerate((3, 1, 7))]
    write_dataset(tmp_path / "data", episodes, 3, {}, ACTION)
    found = list(read_dataset(tmp_path / "data"))
    assert_same(found, episodes)
    assert isinstance(found[1].images["top"].base, np.memmap)
    assert np.load(tmp_path / "data" / "images" / "wrist.npy").shape == (4 + 2 + 8, 4, 4, 3)


def test_images_come_through_collecting(tmp_path):
    collect(lambda seed, chunk: ([episode(10 * chunk + i) for i in range(2)], Counter()), 3, 0, tmp_path / "data", {},
            ACTION)  # fmt: skip
    assert_same(read_dataset(tmp_path / "data"), [episode(0), episode(1), episode(10)])


def test_a_set_that_lost_images_is_refused(tmp_path):
    write_dataset(tmp_path / "data", [episode(0)], 1, {}, ACTION)
    np.save(tmp_path / "data" / "images" / "top.npy", np.zeros((5, 6, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"top.npy holds uint8 \(5, 6, 8, 3\), expected uint8 \(6, height, width, 3\)"):
        list(read_dataset(tmp_path / "data"))


def test_episodes_of_other_cameras_are_no_one_set(tmp_path):
    with pytest.raises(ValueError, match="episode 1 has images"):
        write_dataset(tmp_path / "data", [episode(0), episode(1, cameras=(("top", 6, 8),))], 2, {}, ACTION)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shape", "dtype"), [((6, 4, 4, 3), "f4"), ((5, 4, 4, 3), "u1"), ((6, 3, 4, 4), "u1")])
def test_images_of_an_episode_are_bytes_one_for_each_observation(shape, dtype):
    with pytest.raises(ValueError, match=r"episode.images\['top'\] are .* expected uint8 \(6, height, width, 3\)"):
        replace(episode(0), images={"top": np.zeros(shape, dtype)})


FIELDS = (Field("joints", (2,)), camera("top", 4, 6))


def test_packed_observations_are_split_into_numbers_and_images():
    rng = np.random.default_rng(0)
    steps = [{"joints": rng.normal(size=2), "top": rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)} for _ in range(2)]
    numbers, images = split_images(FIELDS, np.concatenate([pack(FIELDS, step) for step in steps])[None], 2)
    np.testing.assert_array_equal(numbers[0], np.concatenate([step["joints"] for step in steps]))
    np.testing.assert_array_equal(images["top"][0], np.stack([step["top"] for step in steps]))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 6, 3)), "is float64 .* the camera's own bytes"),
        (np.zeros((3, 4, 6), np.uint8), "colours come last"),
        (np.zeros((6, 4, 3), np.uint8), "rows come first"),
        (np.zeros((8, 12, 3), np.uint8), r"is uint8 \(8, 12, 3\), expected uint8 \(4, 6, 3\): resize or crop"),
        (None, r"lacks the fields \['top'\]"),
    ],
)
def test_what_is_no_such_image_is_refused_in_a_line(image, said):
    given = {"joints": np.zeros(2)} | ({} if image is None else {"top": image})
    with pytest.raises(ObservationError, match=said) as refused:
        pack(FIELDS, given)
    assert "\n" not in str(refused.value)


@pytest.fixture
def task():
    return TASKS["pusht-image"]()


def shown(task, steps=20, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (steps + 1, 96, 96, 3), dtype=np.uint8)
    return Episode(np.full((steps + 1, 2), np.arange(steps + 1)[:, None] * 1.0), rng.uniform(0, 512, (steps, 2)),
                   np.zeros(steps), False, True, {"top": images})  # fmt: skip


def test_windows_bring_what_was_seen_where_they_begin(task, tmp_path):
    episodes = [shown(task), shown(task, 3, 1)]
    material = Material(task, lambda: iter(episodes), tmp_path)
    data, source = material.plans(), material.window_source
    assert len(data) == 23
    rows = data.rows(torch.tensor([5, 0, 20, 22]))["image.top"]
    for row, (which, at) in zip(rows, ((0, 5), (0, 0), (1, 0), (1, 2)), strict=True):
        seen = episodes[which].images["top"][[max(at - 1, 0), at]]
        np.testing.assert_array_equal(row, seen)
    packed = material.decision_observations()[torch.tensor([5])]
    numbers, images = split_images(task.control.fields, packed, 2)
    np.testing.assert_array_equal(numbers[0], source.decision_observations()[5])
    np.testing.assert_array_equal(images["top"][0], episodes[0].images["top"][4:6])


def test_a_camera_that_the_data_lacks_is_named(task, tmp_path):
    without = replace(shown(task), images={})
    with pytest.raises(ValueError, match="episode 0 has no images of camera 'top', which task 'pusht-image' needs"):
        Material(task, lambda: iter([without]), tmp_path).plans()
    small = replace(shown(task), images={"top": np.zeros((21, 64, 64, 3), np.uint8)})
    with pytest.raises(ValueError, match=r"episode 0: image 'top' is uint8 \(21, 64, 64, 3\), expected uint8 \(96, 96"):
        Material(task, lambda: iter([small]), tmp_path).plans()


def test_an_episode_seen_by_an_environment_has_its_images_apart(task):
    seen = shown(task, 4)
    packed = np.concatenate((seen.observations, seen.images["top"].reshape(5, -1)), 1).astype(np.float32)
    assert_same([with_images(replace(seen, observations=packed, images={}), task.control)], [seen])
    mapping = {"agent": seen.observations[1:3], "top": seen.images["top"][1:3]}
    np.testing.assert_array_equal(decision_vector(task.control, mapping), packed[1:3].ravel())
