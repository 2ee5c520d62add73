"""A LeRobotDataset with cameras, made by LeRobot itself, becomes a run's data: episode by episode, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onestride.data.deferred import DeferredImages
from onestride.data.minari import read_dataset, read_metadata
from onestride.robot.fields import Field, camera
from onestride.runs.ingest import import_dataset
from onestride.tasks import TASKS

CAMERAS = Path(__file__).parents[1] / "data" / "lerobot" / "fixtures"


def seen_task(size=(24, 32)):
    """A task with two cameras and the rate of the data set of tests/data/lerobot."""
    task = TASKS["pusht-image"]()
    fields = (Field("agent", (2,), "px"), *(camera(name, *size) for name in ("top", "wrist")))
    step = sum(field.size for field in fields)
    control = replace(task.control, fields=fields, observation_dim=2 * step, example=np.zeros(2 * step))
    return replace(task, control=control)


@pytest.mark.parametrize("name", ["images", "videos"])
def test_a_lerobot_dataset_with_cameras_becomes_the_runs_data(name, tmp_path, monkeypatch):
    decoded = []
    decode = DeferredImages.__array__
    monkeypatch.setattr(DeferredImages, "__array__", lambda self, *a, **k: decoded.append(1) or decode(self, *a, **k))
    made = import_dataset(tmp_path, seen_task(), CAMERAS / name)
    assert (made.episodes, made.steps) == (3, 9)
    assert "camera 'wrist' is observation.images.wrist" in made.notes
    assert any("no rewards" in note for note in made.notes)  # the medoid needs none
    assert len(decoded) == 2 * 3  # each camera of each episode once
    golden = np.load(CAMERAS / name / "golden.npz")
    there = list(read_dataset(tmp_path / "data"))
    for number, e in enumerate(there):
        for camera_name in ("top", "wrist"):
            wanted = golden[f"observation.images.{camera_name}"][golden["episode"] == number]
            assert np.abs(e.images[camera_name].astype(int) - wanted).max() <= (name == "videos")
    assert "they were there already" in import_dataset(tmp_path, seen_task(), CAMERAS / name).notes
    with pytest.raises(FileExistsError, match="is there already"):
        import_dataset(tmp_path, seen_task(), CAMERAS / name, resize="crop")


def test_images_of_another_size_are_refused_or_resized_before_anything_is_written(tmp_path):
    small = seen_task((12, 12))
    with pytest.raises(ValueError, match=r"top is 24 x 32 px, camera 'top' of the task is 12 x 12; give --resize crop"):
        import_dataset(tmp_path / "run", small, CAMERAS / "videos")
    with pytest.raises(ValueError, match="images are resized by stretch or crop, got 'pad'"):
        import_dataset(tmp_path / "run", small, CAMERAS / "videos", resize="pad")
    assert not (tmp_path / "run").exists()
    import_dataset(tmp_path / "run", small, CAMERAS / "videos", resize="crop")
    assert read_metadata(tmp_path / "run" / "data")["resize"] == "crop"
    assert next(read_dataset(tmp_path / "run" / "data")).images["top"].shape == (5, 12, 12, 3)
    np.savez(tmp_path / "a.npz", observations=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"a\.npz is no LeRobotDataset, whose images alone are resized"):
        import_dataset(tmp_path / "other", small, tmp_path / "a.npz", resize="crop")


def test_a_video_that_breaks_while_it_is_read_leaves_nothing(tmp_path, monkeypatch):
    def broken(self, *_args, **_more):
        raise ValueError("frame 3 cannot be decoded")

    monkeypatch.setattr(DeferredImages, "__array__", broken)
    with pytest.raises(ValueError, match="frame 3 cannot be decoded"):
        import_dataset(tmp_path, seen_task(), CAMERAS / "videos")
    assert not (tmp_path / "data").exists()
