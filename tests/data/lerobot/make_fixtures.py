"""Make the LeRobotDatasets with cameras that the tests read, by LeRobot's own code.

    python3.12 -m venv lerobot && lerobot/bin/pip install "lerobot[dataset]==0.6.1"
    lerobot/bin/python tests/data/lerobot/make_fixtures.py tests/data/lerobot/fixtures

``images`` and ``videos`` (H.264, and AV1, which is LeRobot's default) are of version 3, as LeRobot's recorder writes
them. ``videos-v2`` has the layout of version 2.1, which LeRobot 0.6.1 no longer writes: its videos are made by
LeRobot's encoder, and LeRobot's own converter to version 3 makes of it a data set with the frames of ``videos``.
``golden.npz`` has what LeRobotDataset returns, images as bytes. Statistics, which nobody reads here, are then left out.
This file needs nothing of onestride.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import encode_video_frames
from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset
from PIL import Image
from pyarrow import parquet

LENGTHS, FPS, SIZE = (5, 3, 4), 10, (24, 32)
CAMERAS = ("observation.images.top", "observation.images.wrist")
ENCODERS = {"h264": RGBEncoderConfig(vcodec="h264"), "av1": RGBEncoderConfig(vcodec="libsvtav1")}


def image(episode: int, frame: int, camera: int) -> np.ndarray:
    """A square that moves over a slope of colours, each camera's and episode's another."""
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    made = np.stack([6 * x, 8 * y, np.full(SIZE, 60 * episode + 40 * camera)], 2).astype(np.uint8)
    made[6 * camera + 4 : 6 * camera + 12, 5 * frame + 2 : 5 * frame + 10] = (250, 250 - 60 * episode, 20)
    return made


def features(kind: str) -> dict:
    numbers = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    pictures = {"dtype": kind, "shape": (*SIZE, 3), "names": ["height", "width", "channels"]}
    return {"observation.state": numbers, "action": numbers, **dict.fromkeys(CAMERAS, pictures)}


def numbers(episode: int, frame: int) -> dict:
    at = np.array([100 * episode + frame, 10 * frame], np.float32)
    return {"observation.state": at, "action": at + 1}


def write_v3(folder: Path, kind: str, encoder: str = "h264") -> None:
    dataset = LeRobotDataset.create(
        "made/up", FPS, features(kind), root=folder, use_videos=kind == "video", rgb_encoder=ENCODERS[encoder]
    )
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            seen = {name: image(episode, frame, number) for number, name in enumerate(CAMERAS)}
            dataset.add_frame({**numbers(episode, frame), **seen, "task": "push"})
        dataset.save_episode()
    dataset.finalize()


def golden(root: Path) -> dict[str, np.ndarray]:
    """What LeRobot itself returns of a dataset's frames, images as bytes (M, height, width, 3)."""
    dataset = LeRobotDataset("made/up", root=root, video_backend="pyav")
    rows = [dataset[i] for i in range(len(dataset))]
    made = {
        name: np.stack([(row[name] * 255).round().byte().permute(1, 2, 0).numpy() for row in rows]) for name in CAMERAS
    }
    made |= {name: np.stack([row[name].numpy() for row in rows]) for name in ("observation.state", "action")}
    return made | {"episode": np.array([int(row["episode_index"]) for row in rows])}


def write_v2(folder: Path, source: Path) -> None:
    """The episodes of ``source`` (version 3, videos) in the layout of version 2.1."""
    table = pa.concat_tables([parquet.read_table(path) for path in sorted((source / "data").rglob("*.parquet"))])
    kept = ["observation.state", "action", "timestamp", "frame_index", "episode_index", "index", "task_index"]
    for episode, length in enumerate(LENGTHS):
        rows = table.filter(pa.compute.equal(table["episode_index"], episode)).select(kept)
        path = folder / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(rows.replace_schema_metadata(None), path)
        for number, name in enumerate(CAMERAS):
            with tempfile.TemporaryDirectory() as frames:
                for frame in range(length):
                    Image.fromarray(image(episode, frame, number)).save(Path(frames) / f"frame-{frame:06d}.png")
                video = folder / f"videos/chunk-000/{name}/episode_{episode:06d}.mp4"
                video.parent.mkdir(parents=True, exist_ok=True)
                encode_video_frames(frames, video, FPS, ENCODERS["h264"])
    info = json.loads((source / "meta/info.json").read_text())
    for name in ("data_files_size_in_mb", "video_files_size_in_mb"):
        info.pop(name, None)
    info |= {
        "codebase_version": "v2.1", "total_videos": len(LENGTHS) * len(CAMERAS), "total_chunks": 1, "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    stats = json.loads((source / "meta/stats.json").read_text())
    stats = {name: {k: v for k, v in of.items() if not k.startswith("q")} for name, of in stats.items()}
    (folder / "meta").mkdir()
    (folder / "meta/info.json").write_text(json.dumps(info))
    lines = {
        "episodes": [{"episode_index": i, "tasks": ["push"], "length": n} for i, n in enumerate(LENGTHS)],
        "episodes_stats": [{"episode_index": i, "stats": stats} for i in range(len(LENGTHS))],
        "tasks": [{"task_index": 0, "task": "push"}],
    }
    for name, found in lines.items():
        (folder / f"meta/{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in found))


def without_statistics(folder: Path) -> None:
    """Leave out what is larger than all else."""
    (folder / "meta/stats.json").unlink()
    for path in (folder / "meta/episodes").rglob("*.parquet"):
        table = parquet.read_table(path)
        kept = [name for name in table.column_names if not name.startswith("stats/")]
        parquet.write_table(table.select(kept).replace_schema_metadata(None), path)


def main(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    sets = {"images": ("image", "h264"), "videos": ("video", "h264"), "videos-av1": ("video", "av1")}
    for name, (kind, encoder) in sets.items():
        write_v3(out / name, kind, encoder)
        np.savez_compressed(out / name / "golden.npz", **golden(out / name))
    write_v2(out / "videos-v2", out / "videos")
    with tempfile.TemporaryDirectory() as copy:
        converted = Path(copy) / "set"
        shutil.copytree(out / "videos-v2", converted)
        convert_dataset("made/up", root=converted, push_to_hub=False)
        found, expected = golden(converted), np.load(out / "videos" / "golden.npz")
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    (out / "videos-v2/meta/episodes_stats.jsonl").unlink()
    for name in sets:
        without_statistics(out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
