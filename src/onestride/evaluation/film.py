"""The film of an evaluation: the arms of two methods side by side, at the same wall time.

Frames are rendered by MuJoCo in a process of its own: OpenGL's backend is fixed when ``mujoco`` is first imported,
and one that is not installed fails there. Where none works, a stick arm is drawn instead.
"""

# mujoco is compiled, its names are not seen:
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import mujoco
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from mpl_toolkits.mplot3d import proj3d
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from onestride.checkpoint import CheckpointError, load_tensors, write_atomically
from onestride.evaluation.figures import ARRIVED, COLOURS, SHORT, label, ordered
from onestride.progress import track
from onestride.tasks.kinova.arm import CAMERA, LINKS, TOOL, build_model
from onestride.tasks.kinova.scene import ABSENT, SPHERE, Scene
from onestride.tasks.kinova.simulation import render_frames
from onestride.tasks.kinova.task import GOAL_RADIUS

FPS = 15  # of the film
LONGEST, PAUSE = 11.0, 1.0  # of the motion as played, and of the last picture [s]
SPEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100)
HEADER, FOOTER = 48, 32  # bars above and below the arms [px]
GIF_BYTES = 3_000_000
STILLS = 6
MIDDLE = 0.17, 0.92  # the part of a frame's width that the arm needs, for the strip
CHUNK = 30  # frames per renderer

Frames = Iterator[np.ndarray]  # each (height, width, 3) uint8
Project = Callable[[np.ndarray], np.ndarray]  # points (n, 3) [m] -> where they are seen (n, 2) [px]


@dataclass(frozen=True)
class Motion:
    """One trial of several methods in the same scene; times start at 0 on the clock that decisions were charged to."""

    scene: Scene
    joints: dict[str, np.ndarray]  # row -> (T, 7) [rad]
    times: dict[str, np.ndarray]  # row -> (T,) [s]
    path: dict[str, np.ndarray]  # row -> (T, 3), of the tool [m]

    @classmethod
    def load(cls, path: Path) -> Motion:
        """Read ``motion.safetensors``.

        Raises:
            CheckpointError: no such file, or a tensor is missing.
        """
        tensors, _ = load_tensors(path)
        arrays = {name: value.double().numpy() for name, value in tensors.items()}
        rows = ordered(name.removeprefix("joints.") for name in arrays if name.startswith("joints."))
        wanted = ["obstacles", "start", "goal", *(f"{kind}.{row}" for row in rows for kind in ("times", "path"))]
        missing = [name for name in wanted if name not in arrays]
        if missing or not rows:
            raise CheckpointError(f"{path} lacks {missing or 'joints.<row>'}, holds {sorted(arrays)}: evaluate again")
        scene = Scene(arrays["start"], arrays["goal"], arrays["obstacles"])
        joints, times, paths = ({row: arrays[f"{kind}.{row}"] for row in rows} for kind in ("joints", "times", "path"))
        return cls(scene, joints, {row: t - t[0] for row, t in times.items()}, paths)

    def ending(self, row: str) -> str:
        """How it ended, in a word or two."""
        short = float(np.linalg.norm(self.path[row][-1] - self.scene.goal))
        return "arrived" if short <= GOAL_RADIUS else f"{1000 * short:.0f} mm short"


@dataclass(frozen=True)
class Film:
    """What was made. ``stills[row]`` are frames (h, w, 3) uint8 at ``moments`` (M,) [s], with a note or "" each."""

    mp4: Path
    gif: Path
    speed: int  # seconds of motion per second of film
    drawn_because: str | None  # why the arm is a stick figure; None: it was rendered
    moments: np.ndarray
    stills: dict[str, list[np.ndarray]]
    notes: dict[str, list[str]]


def film(motion: Motion, out_mp4: Path, out_gif: Path, size: tuple[int, int] = (480, 400)) -> Film:
    """Film the first two rows of ``motion`` side by side, each (width, height) [px]; both even numbers.

    Whoever has arrived stays put. At most 12 s long: a longer motion is played faster, and the picture says so.
    """
    rows = ordered(motion.joints)[:2]
    ends = {row: float(motion.times[row][-1]) for row in rows}
    last = max(ends.values())
    speed = next((s for s in SPEEDS if last / s <= LONGEST), SPEEDS[-1])
    count = int(np.ceil(last / speed * FPS)) + 1
    moments = np.minimum(np.arange(count) * speed / FPS, last)  # (count,) [s]
    moving = {row: int(np.searchsorted(moments, ends[row])) for row in rows}  # the picture in which it has arrived
    schedule = [(i, row) for i in range(count) for row in rows if i <= moving[row]]
    shots, project, drawn_because = _shoot(
        motion.scene, np.array([_joints_at(motion, row, moments[i]) for i, row in schedule]), *size
    )
    trails = {row: project(motion.path[row]) for row in rows}
    middle = slice(round(MIDDLE[0] * size[0]), round(MIDDLE[1] * size[0]))
    wanted = _strip(sorted(ends.values()), moments)
    stills: dict[str, list[np.ndarray]] = {row: [] for row in rows}
    view: dict[str, np.ndarray] = {}
    pictures: list[np.ndarray] = []
    with track("film", len(schedule)) as bar:
        done = 0
        for i, t in enumerate(moments):
            for row in rows:
                if i <= moving[row]:
                    view[row] = _with_trail(next(shots), trails[row][motion.times[row] <= t], COLOURS.get(row, "#555"))
                    done += 1
            pictures.append(_compose(motion, rows, view, float(t), speed))
            for row in rows:
                stills[row] += [view[row][:, middle]] * wanted.count(i)
            bar.update(done)
    pictures += [pictures[-1]] * round(PAUSE * FPS)
    write_atomically(out_mp4, lambda p: _write_mp4(p, pictures))
    write_atomically(out_gif, lambda p: _write_gif(p, pictures))
    said = {row: f"{motion.ending(row)}, {ends[row]:.1f} s" for row in rows}
    notes = {row: [said[row] if i >= moving[row] else "" for i in wanted] for row in rows}
    return Film(out_mp4, out_gif, speed, drawn_because, moments[wanted], stills, notes)


def _joints_at(motion: Motion, row: str, t: float) -> np.ndarray:
    """(7,) [rad]; the last ones after the end."""
    return np.array([np.interp(t, motion.times[row], angle) for angle in motion.joints[row].T])


def _strip(ends: list[float], moments: np.ndarray) -> list[int]:
    """Which pictures tell the story: until the first arrival, and from there to the last."""
    first, last = ends[0], ends[-1]
    early = STILLS // 2
    times = [*np.linspace(0, first, early, endpoint=False), *np.linspace(first, last, STILLS - early)]
    if last - first < 0.2 * last:
        times = list(np.linspace(0, last, STILLS))
    return [min(int(np.searchsorted(moments, t)), len(moments) - 1) for t in times]


# --- one picture -------------------------------------------------------------------------------------------------


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib carries this font: it is on every machine."""
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")), size)


def _with_trail(frame: np.ndarray, trail: np.ndarray, colour: str) -> np.ndarray:
    """The frame and where the tool has been so far, (n, 2) [px]."""
    if len(trail) < 2:
        return frame
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).line([(float(x), float(y)) for x, y in trail], fill=colour, width=3, joint="curve")
    return np.asarray(image)


def _compose(motion: Motion, rows: list[str], view: dict[str, np.ndarray], t: float, speed: int) -> np.ndarray:
    """The arms under their names and clocks; a clock stops when its arm does."""
    h, w = view[rows[0]].shape[:2]
    image = Image.new("RGB", (w * len(rows), HEADER + h + FOOTER), "white")
    draw = ImageDraw.Draw(image)
    for k, row in enumerate(rows):
        end = float(motion.times[row][-1])
        image.paste(Image.fromarray(view[row]), (k * w, HEADER))
        draw.text((k * w + 14, HEADER // 2), label(row), COLOURS.get(row, "#555"), _font(24, bold=True), anchor="lm")
        clock = f"{min(t, end):.1f} s"
        draw.text(((k + 1) * w - 14, HEADER // 2), clock, "#222", _font(22, bold=True), anchor="rm")
        if t >= end:
            note, font = motion.ending(row), _font(15, bold=True)
            badge = (24 + draw.textlength(label(row), _font(24, bold=True)) + k * w, 11)
            wide = draw.textlength(note, font) + 16
            fill = ARRIVED if note == "arrived" else SHORT
            draw.rounded_rectangle((*badge, badge[0] + wide, HEADER - 11), 6, fill=fill)
            draw.text((badge[0] + wide / 2, HEADER // 2), note, "white", font, anchor="mm")
        if k:
            draw.line((k * w, 0, k * w, HEADER + h), "white", 4)
    shown = "in real time" if speed == 1 else f"played {speed}x faster"
    foot = f"wall time {t:.1f} s, {shown}"
    draw.text((image.width // 2, HEADER + h + FOOTER // 2), foot, "#555", _font(15), anchor="mm")
    return np.asarray(image)


# --- files -------------------------------------------------------------------------------------------------------


def _write_mp4(path: Path, pictures: list[np.ndarray]) -> None:
    h, w = pictures[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (w, h), fps=FPS, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2, quality=7,
        output_params=["-f", "mp4", "-movflags", "+faststart"],
    )  # fmt: skip
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture))
    writer.close()


def _write_gif(path: Path, pictures: list[np.ndarray]) -> None:
    """Smaller and with fewer pictures, until it is at most ``GIF_BYTES``."""
    h, w = pictures[0].shape[:2]
    for width, every, colours in ((960, 2, 128), (640, 2, 96), (560, 3, 64), (480, 5, 48)):
        size = min(width, w), round(h * min(width, w) / w)
        small = [Image.fromarray(p).resize(size, Image.Resampling.LANCZOS) for p in pictures[::every]]
        palette = _palette(small[len(small) // 2], colours)  # one for all: what does not move does not change
        frames = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in small]
        frames[0].save(
            path, format="GIF", save_all=True, append_images=frames[1:], duration=round(1000 * every / FPS), loop=0
        )
        if path.stat().st_size <= GIF_BYTES:
            return


def _palette(picture: Image.Image, colours: int) -> Image.Image:
    """Colours of a picture, and those that small things in it are told apart by."""
    small_things = [*COLOURS.values(), ARRIVED, "#26BF66", "#E66B38"]  # the last two: goal, obstacles
    w, h = picture.size
    with_patches = Image.new("RGB", (w, h + h // 4))
    with_patches.paste(picture)
    for k, colour in enumerate(small_things):
        left, right = (round(edge * w / len(small_things)) for edge in (k, k + 1))
        with_patches.paste(colour, (left, h, right, h + h // 4))
    return with_patches.quantize(colours)


# --- cameras -----------------------------------------------------------------------------------------------------


def _shoot(scene: Scene, joints: np.ndarray, width: int, height: int) -> tuple[Frames, Project, str | None]:
    """A picture for each row of ``joints`` (n, 7), how points are seen in it, and why it was drawn, if it was."""
    reasons = []
    for backend in _backends():
        shots = _rendered(scene, joints, width, height, backend)
        try:
            first = next(shots)
        except RuntimeError as error:  # no OpenGL of this kind
            reasons.append(str(error))
            continue
        return chain([first], shots), _camera(scene, width, height), None
    return *_drawn(scene, joints, width, height), "; ".join(reasons)


def _backends() -> list[str | None]:
    """Values of MUJOCO_GL to try; None leaves it to MuJoCo, which is right where there is a display."""
    if "MUJOCO_GL" in os.environ:
        return [os.environ["MUJOCO_GL"]]
    headless = sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return ["egl", "osmesa"] if headless else [None]


def _rendered(scene: Scene, joints: np.ndarray, width: int, height: int, backend: str | None) -> Frames:
    """Frames from a renderer in another process.

    Raises:
        RuntimeError: it stopped before the last one; the message is its last line.
    """
    request = {"start": scene.start, "goal": scene.goal, "obstacles": scene.obstacles, "joints": joints}
    request["size"] = np.array([width, height])
    environment = os.environ | ({"MUJOCO_GL": backend} if backend else {}) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
            env=environment,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process, process.stdout as frames:
            try:
                with suppress(BrokenPipeError), process.stdin as out:  # should it be gone, its complaint is read below
                    out.write(to_bytes(request))
                for _ in joints:
                    data = frames.read(width * height * 3)
                    if len(data) < width * height * 3:
                        process.wait()
                        complaints.seek(0)
                        lines = complaints.read().decode(errors="replace").strip().splitlines() or ["no message"]
                        raise RuntimeError(f"MUJOCO_GL={backend or 'unset'}: {lines[-1]}")
                    yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            finally:
                process.kill()


def serve() -> None:
    """The other process: a request on the standard input, raw frames on the standard output."""
    request = from_bytes(sys.stdin.buffer.read())
    scene = Scene(request["start"], request["goal"], request["obstacles"])
    width, height = request["size"].tolist()
    joints = request["joints"]
    for first in range(0, len(joints), CHUNK):
        part = joints[first : first + CHUNK]
        for frame in render_frames(scene, part, np.arange(len(part), dtype=np.float64), width, height, fps=1.0):
            sys.stdout.buffer.write(frame.tobytes())
        sys.stdout.buffer.flush()


def _camera(scene: Scene, width: int, height: int) -> Project:
    """How the model's own camera sees points."""
    model = build_model(scene.obstacles)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = model.camera(CAMERA).id
    eye, axes = data.cam_xpos[camera].copy(), data.cam_xmat[camera].reshape(3, 3).copy()
    focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)  # [px]

    def project(points: np.ndarray) -> np.ndarray:
        x, y, z = ((points - eye) @ axes).T  # right, up, backward
        return np.stack((width / 2 - focal * x / z, height / 2 + focal * y / z), -1)

    return project


def _drawn(scene: Scene, joints: np.ndarray, width: int, height: int) -> tuple[Frames, Project]:
    """A stick arm among the obstacles, for machines without OpenGL."""
    model = build_model(scene.obstacles)
    data = mujoco.MjData(model)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((-0.12, -0.12, 1.24, 1.24), projection="3d", computed_zorder=False)
    axes.set(xlim=(-0.05, 0.65), ylim=(-0.4, 0.4), zlim=(0, 0.65))
    axes.set_aspect("equal")
    axes.view_init(elev=20, azim=-37)
    axes.set_axis_off()
    floor = [[(-0.15, -0.45, 0), (0.75, -0.45, 0), (0.75, 0.45, 0), (-0.15, 0.45, 0)]]
    axes.add_collection3d(Poly3DCollection(floor, facecolor="#EEF0F3", edgecolor="#D5D9DF"))
    for row in scene.obstacles:
        if row[0] != ABSENT:
            surface = _sphere(row) if row[0] == SPHERE else _box(row)
            axes.plot_surface(*surface, color="#E66B38", alpha=0.75, linewidth=0, rcount=12, ccount=16)
    axes.plot(*scene.goal, "*", color="#008F5A", markersize=13)
    (arm,) = axes.plot([], [], [], "-o", color="#3A3F47", linewidth=6, markersize=7, solid_capstyle="round")
    canvas.draw()  # settles the projection

    def frames() -> Frames:
        for q in joints:
            data.qpos[:] = q
            mujoco.mj_kinematics(model, data)
            points = np.stack([np.zeros(3), *(data.body(link.name).xpos for link in LINKS), data.site(TOOL).xpos])
            arm.set_data_3d(*points.T)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def project(points: np.ndarray) -> np.ndarray:
        x, y, _ = proj3d.proj_transform(points[:, 0], points[:, 1], points[:, 2], axes.get_proj())
        seen = axes.transData.transform(np.stack((x, y), -1))
        return np.stack((seen[:, 0], height - seen[:, 1]), -1)

    return frames(), project


def _sphere(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface of a sphere as three grids [m]."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 17), np.linspace(0, np.pi, 13))
    x, y, z = row[4] * np.cos(u) * np.sin(v), row[4] * np.sin(u) * np.sin(v), row[4] * np.cos(v)
    return row[1] + x, row[2] + y, row[3] + z


def _box(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface of a box as three grids [m]: bottom's centre, bottom ring, top ring, top's centre."""
    around = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]])
    rings = [0 * around, around, around, 0 * around]
    x, y = np.array(rings)[..., 0] * row[4], np.array(rings)[..., 1] * row[5]  # (4, 5)
    z = np.repeat([-1, -1, 1, 1], 5).reshape(4, 5) * row[6]
    cos, sin = np.cos(row[7]), np.sin(row[7])
    return row[1] + cos * x - sin * y, row[2] + sin * x + cos * y, row[3] + z


if __name__ == "__main__":
    serve()
