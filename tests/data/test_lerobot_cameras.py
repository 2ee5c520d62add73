"""LeRobotDatasets with cameras, made by LeRobot's own code: what LeRobot returns of them is what is read here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from onestride.data.lerobot import read_lerobot
from onestride.data.resizing import resized

FIXTURES = Path(__file__).parent / "lerobot" / "fixtures"  # lerobot/make_fixtures.py makes them
SIZE = (24, 32)
CAMERAS = {"top": SIZE, "wrist": SIZE}
LENGTHS = (5, 3, 4)
#: Whose frames LeRobot returns -> what two versions of FFmpeg may differ by.
GOLDEN = {"images": ("images", 0), "videos": ("videos", 1), "videos-av1": ("videos-av1", 1), "videos-v2": ("videos", 1)}


@pytest.fixture
def copy(tmp_path):
    def copied(name):
        return shutil.copytree(FIXTURES / name, tmp_path / name)

    return copied


def told(folder, change):
    """Alter meta/info.json."""
    path = folder / "meta" / "info.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_images_are_those_that_lerobot_returns(name):
    golden, near = np.load(FIXTURES / GOLDEN[name][0] / "golden.npz"), GOLDEN[name][1]
    notes = []
    episodes = list(read_lerobot(FIXTURES / name, cameras=CAMERAS, notes=notes))
    assert "camera 'top' is observation.images.top" in notes
    assert [len(e) for e in episodes] == [n - 1 for n in LENGTHS]  # the format has no observation after the last frame
    for number, e in enumerate(episodes):
        rows = golden["episode"] == number
        np.testing.assert_array_equal(e.observations, golden["observation.state"][rows])
        np.testing.assert_array_equal(e.actions, golden["action"][rows][:-1])
        for camera in CAMERAS:
            wanted = golden[f"observation.images.{camera}"][rows].astype(int)
            found = np.asarray(e.images[camera])
            assert found.shape == (LENGTHS[number], *SIZE, 3)
            assert found.dtype == np.uint8
            assert np.abs(found - wanted).max() <= near
            others = golden[f"observation.images.{camera}"][~rows].astype(int)
            assert all(np.abs(found[:, None] - others).max((2, 3, 4)).min(1) > 30)  # no other episode's


def test_nothing_is_decoded_before_it_is_asked_for(monkeypatch):
    looked = []
    frames = "onestride.data.video.Video.frames"
    monkeypatch.setattr(frames, lambda _self, times: looked.append(len(times)) or iter(()))
    episodes = list(read_lerobot(FIXTURES / "videos", cameras=CAMERAS))
    assert not looked
    assert episodes[1].images["top"].shape == (3, *SIZE, 3)
    np.asarray(episodes[1].images["top"])
    assert looked == [3]


def test_cuts_keep_each_image_with_its_row(copy):
    """Frames that were dropped: with mend the episode is two, and its images are those of its rows."""
    folder = copy("images")
    (path,) = (folder / "data").rglob("*.parquet")
    table = parquet.read_table(path)
    time = table["timestamp"].to_numpy().copy()
    time[2:5] += 1.0
    table = table.set_column(table.column_names.index("timestamp"), "timestamp", pa.array(time, pa.float32()))
    parquet.write_table(table, path)
    golden = np.load(FIXTURES / "images" / "golden.npz")["observation.images.top"]
    episodes = list(read_lerobot(folder, cameras=CAMERAS, mend=True))
    for e, rows in zip(episodes, (slice(0, 2), slice(2, 5), slice(5, 8), slice(8, 12)), strict=True):
        np.testing.assert_array_equal(np.asarray(e.images["top"]), golden[rows])


def test_one_camera_needs_no_name_and_a_part_of_them_may_be_read():
    golden = np.load(FIXTURES / "images" / "golden.npz")["observation.images.wrist"]
    (first, *_) = read_lerobot(FIXTURES / "images", cameras={"wrist": SIZE})
    np.testing.assert_array_equal(np.asarray(first.images["wrist"]), golden[:5])
    assert list(first.images) == ["wrist"]


def test_a_single_column_is_the_single_camera(copy):
    folder = copy("images")
    told(folder, lambda said: said["features"].pop("observation.images.wrist"))
    (first, *_) = read_lerobot(folder, cameras={"front": SIZE})
    golden = np.load(FIXTURES / "images" / "golden.npz")["observation.images.top"]
    np.testing.assert_array_equal(np.asarray(first.images["front"]), golden[:5])


# ---- sizes ----


def test_images_of_another_size_are_resized_as_asked():
    notes, size = [], (12, 12)
    source = np.load(FIXTURES / "images" / "golden.npz")["observation.images.top"][0]
    found = {}
    for how in ("crop", "stretch"):
        (first, *_) = read_lerobot(FIXTURES / "images", cameras={"top": size}, resize=how, notes=notes)
        found[how] = np.asarray(first.images["top"])[0]
        np.testing.assert_array_equal(found[how], resized(source, size, how))
    assert notes == [f"camera 'top' is observation.images.top, 24 x 32 px made 12 x 12 by '{w}'" for w in found]
    middle = Image.fromarray(source[:, 4:28]).resize((12, 12), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found["crop"], np.asarray(middle))
    whole = Image.fromarray(source).resize((12, 12), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found["stretch"], np.asarray(whole))


def test_getting_smaller_averages():
    checks = np.indices((24, 32)).sum(0) % 2 * np.uint8(200)
    image = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    assert np.abs(resized(image, (12, 16), "stretch")[1:-1, 1:-1].astype(int) - 100).max() <= 1


# ---- what is refused, before anything is decoded ----


def refused(folder, message, cameras=CAMERAS, **options):
    with pytest.raises(ValueError, match=message) as error:
        read_lerobot(folder, cameras=cameras, **options)
    assert "\n" not in str(error.value)


def test_another_size_is_refused_where_nobody_says_how():
    refused(FIXTURES / "videos", r"top is 24 x 32 px, camera 'top' of the task is 96 x 96; give --resize",
            {"top": (96, 96)})  # fmt: skip


def test_a_camera_of_another_name_is_refused():
    there = r"it has observation\.images\.top, observation\.images\.wrist\. Call the task's camera"
    refused(FIXTURES / "videos", f"has no images of camera 'front'; {there}", {"front": SIZE})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("videos", {"shape": [24, 32, 1]}, "has shape .*, and cameras have three colours"),
        ("videos", {"shape": [24, 32]}, r"has images of shape \[24, 32\]; cameras have three colours"),
        ("videos", {"info": {"is_depth_map": True}}, "has images of depths"),
        ("videos", {"shape": [32, 24, 3]}, r"top is 32 x 24 px, camera 'top' of the task is 24 x 32"),
        ("images", {"shape": [3, 32, 24]}, "has shape .*, and cameras have three colours"),  # as its names say
        ("images", {"dtype": "video"}, r"has no column videos/observation\.images\.top/chunk_index"),
    ],
)
def test_a_column_that_is_no_cameras_is_refused(name, change, message, copy):
    folder = copy(name)
    told(folder, lambda said: said["features"]["observation.images.top"].update(change))
    refused(folder, message)


@pytest.mark.slow
def test_colours_first_are_understood_by_their_names(copy):
    folder = copy("images")
    other = {"shape": [3, 24, 32], "names": ["channels", "height", "width"]}
    told(folder, lambda said: said["features"]["observation.images.top"].update(other))
    assert next(read_lerobot(folder, cameras=CAMERAS)).images["top"].shape == (5, *SIZE, 3)


def test_a_picture_of_another_size_than_its_description_is_refused(copy):
    for name in ("images", "videos"):
        folder = copy(name)
        change = {"shape": [12, 32, 3]}
        told(folder, lambda said, change=change: said["features"]["observation.images.top"].update(change))
        refused(folder, "is 24 x 32 px, meta/info.json says 12 x 32", {"top": (12, 32)})


def test_a_lost_video_is_refused(copy):
    for name, file in (("videos", "chunk-000/file-000.mp4"), ("videos-v2", "episode_000001.mp4")):
        folder = copy(name)
        next(p for p in folder.rglob("*.mp4") if str(p).endswith(file) and "wrist" in str(p)).unlink()
        refused(folder, r"there is no video .*wrist.*; was it downloaded whole\?")


def test_a_video_shorter_than_its_rows_is_refused(copy):
    folder = copy("videos-v2")
    videos = folder / "videos/chunk-000/observation.images.top"
    shutil.copy(videos / "episode_000001.mp4", videos / "episode_000000.mp4")  # of 3 frames, for 5 rows
    refused(folder, r"no frame for 2 of the 5 rows of episode 0: the first is at 0\.300 s, its 3 frames end at 0\.200")


def test_a_video_of_another_rate_is_refused(copy):
    folder = copy("videos")
    (path,) = (folder / "data").rglob("*.parquet")
    table = parquet.read_table(path)
    slower = pa.array(table["timestamp"].to_numpy() * 2, pa.float32())
    parquet.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", slower), path)
    told(folder, lambda said: said.update(fps=5))
    refused(folder, "has 10 frames per second, and meta/info.json says 5;")
    told(folder, lambda said: said.update(fps=None))
    refused(folder, r"meta/info\.json has no rate")


@pytest.mark.parametrize("name", ["videos", "videos-v2"])
def test_a_damaged_video_is_refused(name, copy):
    folder = copy(name)
    path = sorted(p for p in folder.rglob("*.mp4") if "top" in str(p))[0]
    path.write_bytes(b"no video" * 50)
    refused(folder, r"cannot be read as a video .*was it downloaded whole\?")
    path.write_bytes(b"")
    refused(folder, r"mp4")


def test_a_frame_that_cannot_be_decoded_is_told_when_it_is_reached(copy):
    folder = copy("videos")
    path = folder / "videos/observation.images.top/chunk-000/file-000.mp4"
    content = bytearray(path.read_bytes())
    at = content.index(b"mdat") + 8
    content[at : at + 2000] = bytes(2000)
    path.write_bytes(content)
    first = next(iter(read_lerobot(folder, cameras=CAMERAS)))
    with pytest.raises(ValueError, match=r"file-000\.mp4"):
        np.asarray(first.images["top"])


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ({"bytes": b"no picture", "path": None}, r"top at 0\.100 s is no PNG or JPEG \(10 bytes\)"),
        ({"bytes": None, "path": "elsewhere.png"}, "row 1 has no picture"),
    ],
)
def test_a_picture_that_is_none_is_refused(picture, message, copy):
    folder = copy("images")
    (path,) = (folder / "data").rglob("*.parquet")
    table = parquet.read_table(path)
    at = table.column_names.index("observation.images.top")
    pictures = table.column(at).to_pylist()
    pictures[1] = picture
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(table.set_column(at, "observation.images.top", pa.array(pictures, kind)), path)
    refused(folder, message)


def test_numbers_where_pictures_are_expected_are_refused(copy):
    folder = copy("images")
    told(folder, lambda said: said["features"]["index"].update(dtype="image", shape=[24, 32, 3]))
    refused(folder, "column index holds int64, expected pictures with their bytes", {"index": SIZE})


def test_a_video_whose_titles_are_no_text_is_read_all_the_same(copy):
    folder = copy("videos")
    path = folder / "videos/observation.images.top/chunk-000/file-000.mp4"
    content = path.read_bytes()
    assert b"Lavf" in content  # who wrote it
    path.write_bytes(content.replace(b"Lavf", b"\xaf\xaf\xaf\xaf"))
    golden = np.load(FIXTURES / "videos" / "golden.npz")["observation.images.top"]
    found = np.asarray(next(read_lerobot(folder, cameras=CAMERAS)).images["top"]).astype(int)
    assert np.abs(found - golden[:5]).max() <= 1
