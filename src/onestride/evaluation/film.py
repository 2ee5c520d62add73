"""The film of an evaluation: the arms of two methods side by side, at the same wall time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from onestride.evaluation.cameras import shoot
from onestride.files import CheckpointError, write_atomically
from onestride.progress import track
from onestride.reports.style import ARRIVED, COLOURS, FAILED, colour, label, ordered
from onestride.tasks.kinova.interface import GOAL_RADIUS
from onestride.tasks.kinova.scene import Scene
from onestride.tensors import load_tensors

FPS = 15  # of the film
LONGEST, PAUSE = 11.0, 1.0  # of the motion as played, and of the last picture [s]
SPEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100)
HEADER, FOOTER = 48, 32  # bars above and below the arms [px]
GIF_BYTES = 3_000_000
STILLS = 6
MIDDLE = 0.17, 0.92  # the part of a frame's width that the arm needs, for the strip


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
    shots, project, drawn_because = shoot(
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
                    view[row] = _with_trail(next(shots), trails[row][motion.times[row] <= t], colour(row))
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


def _with_trail(frame: np.ndarray, trail: np.ndarray, shade: str) -> np.ndarray:
    """The frame and where the tool has been so far, (n, 2) [px]."""
    if len(trail) < 2:
        return frame
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).line([(float(x), float(y)) for x, y in trail], fill=shade, width=3, joint="curve")
    return np.asarray(image)


def _compose(motion: Motion, rows: list[str], view: dict[str, np.ndarray], t: float, speed: int) -> np.ndarray:
    """The arms under their names and clocks; a clock stops when its arm does."""
    h, w = view[rows[0]].shape[:2]
    image = Image.new("RGB", (w * len(rows), HEADER + h + FOOTER), "white")
    draw = ImageDraw.Draw(image)
    for k, row in enumerate(rows):
        end = float(motion.times[row][-1])
        image.paste(Image.fromarray(view[row]), (k * w, HEADER))
        draw.text((k * w + 14, HEADER // 2), label(row), colour(row), _font(24, bold=True), anchor="lm")
        clock = f"{min(t, end):.1f} s"
        draw.text(((k + 1) * w - 14, HEADER // 2), clock, "#222", _font(22, bold=True), anchor="rm")
        if t >= end:
            note, font = motion.ending(row), _font(15, bold=True)
            badge = (24 + draw.textlength(label(row), _font(24, bold=True)) + k * w, 11)
            wide = draw.textlength(note, font) + 16
            fill = ARRIVED if note == "arrived" else FAILED
            draw.rounded_rectangle((*badge, badge[0] + wide, HEADER - 11), 6, fill=fill)
            draw.text((badge[0] + wide / 2, HEADER // 2), note, "white", font, anchor="mm")
        if k:
            draw.line((k * w, 0, k * w, HEADER + h), "white", 4)
    shown = "in real time" if speed == 1 else f"played {speed}x faster"
    foot = f"wall time {t:.1f} s, {shown}"
    draw.text((image.width // 2, HEADER + h + FOOTER // 2), foot, "#555", _font(15), anchor="mm")
    return np.asarray(image)


# --- files -------------------------------------------------------------------------------------------------------


def _write_mp4(path: Path, pictures: Sequence[np.ndarray], fps: int = FPS) -> None:
    h, w = pictures[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (w, h), fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2, quality=7,
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
    small_things = [*list(COLOURS.values())[:4], ARRIVED, "#26BF66", "#E66B38"]  # the last two: goal, obstacles
    w, h = picture.size
    with_patches = Image.new("RGB", (w, h + h // 4))
    with_patches.paste(picture)
    for k, shade in enumerate(small_things):
        left, right = (round(edge * w / len(small_things)) for edge in (k, k + 1))
        with_patches.paste(shade, (left, h, right, h + h // 4))
    return with_patches.quantize(colours)
