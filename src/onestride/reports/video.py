"""One film writer: frames of several planners side by side under their names, as MP4 and GIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from onestride.evaluation.variant import Variant
from onestride.files import write_atomically
from onestride.reports.style import ARRIVED, FAILED, GREY, colour, method_colours

GIF_BYTES = 3_000_000
#: Width [px], pictures per second and colours of a GIF, tried in turns until it is small enough.
GIFS = ((960, 7.5, 128), (640, 7.5, 96), (560, 5, 64), (480, 3, 48))


@dataclass(frozen=True)
class View:
    """One planner in one picture: a frame under its name, a text on the right, and how it ended or ""."""

    variant: Variant
    frame: np.ndarray  # (h, w, 3) uint8
    text: str
    badge: str = ""


@dataclass(frozen=True)
class Look:
    """Bars above and below the frames, margin, and sizes of letters [px]."""

    header: int
    footer: int
    margin: int
    name: int
    text: int
    foot: int
    badge: int
    bold: bool = False  # the text
    badge_above: bool = False  # beside the name instead of in the frame


def compose(views: Sequence[View], foot: str, look: Look) -> np.ndarray:
    """Return views side by side over a line of text, as one picture (h, w, 3) uint8."""
    h, w = views[0].frame.shape[:2]
    image = Image.new("RGB", (w * len(views), look.header + h + look.footer), "white")
    draw = ImageDraw.Draw(image)
    middle = look.header // 2
    for k, view in enumerate(views):
        left, name = k * w + look.margin, view.variant.label
        image.paste(Image.fromarray(view.frame), (k * w, look.header))
        draw.text((left, middle), name, colour(view.variant.method), font(look.name, bold=True), anchor="lm")
        draw.text(((k + 1) * w - look.margin, middle), view.text, "#222", font(look.text, look.bold), anchor="rm")
        if view.badge:
            letters = font(look.badge, bold=True)
            wide = draw.textlength(view.badge, letters) + 16
            x, y, tall = left, look.header + 8, 22
            if look.badge_above:
                x, y, tall = left + 10 + draw.textlength(name, font(look.name, bold=True)), 11, look.header - 22
            fill = ARRIVED if view.badge == "arrived" else FAILED
            draw.rounded_rectangle((x, y, x + wide, y + tall), 6, fill=fill)
            draw.text((x + wide / 2, y + tall / 2), view.badge, "white", letters, anchor="mm")
        if k:
            draw.line((k * w, 0, k * w, look.header + h), "white", 4)
    draw.text((image.width // 2, look.header + h + look.footer // 2), foot, GREY, font(look.foot), anchor="mm")
    return np.asarray(image)


def with_trail(frame: np.ndarray, trail: np.ndarray, shade: str) -> np.ndarray:
    """Return the frame with a line through points (n, 2) [px]."""
    if len(trail) < 2:
        return frame
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).line([(float(x), float(y)) for x, y in trail], fill=shade, width=3, joint="curve")
    return np.asarray(image)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib carries: it is on every machine."""
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")), size)


# --- files -------------------------------------------------------------------------------------------------------


def write_film(pictures: Sequence[np.ndarray], fps: int, mp4: Path, gif: Path | None = None) -> None:
    """Write pictures (h, w, 3) uint8 as an MP4, and as a GIF of fewer of them where one is asked for."""
    write_atomically(mp4, lambda p: _write_mp4(p, pictures, fps))
    if gif is not None:
        write_atomically(gif, lambda p: _write_gif(p, pictures, fps))


def _write_mp4(path: Path, pictures: Sequence[np.ndarray], fps: int) -> None:
    h, w = pictures[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (w, h), fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2, quality=7,
        output_params=["-f", "mp4", "-movflags", "+faststart"],
    )  # fmt: skip
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture))
    writer.close()


def _write_gif(path: Path, pictures: Sequence[np.ndarray], fps: int) -> None:
    """Write it smaller and with fewer pictures, until it is at most ``GIF_BYTES``."""
    h, w = pictures[0].shape[:2]
    for widest, rate, colours in GIFS:
        every, width = round(fps / rate), min(widest, w)
        size = width, round(h * width / w)
        small = [Image.fromarray(p).resize(size, Image.Resampling.LANCZOS) for p in pictures[::every]]
        palette = _palette(small[len(small) // 2], colours)  # one for all: what does not move does not change
        frames = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in small]
        timing = round(1000 * every / fps)
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=timing, loop=0)
        if path.stat().st_size <= GIF_BYTES:
            return


def _palette(picture: Image.Image, colours: int) -> Image.Image:
    """Return the colours of a picture, and those that small things in it are told apart by."""
    small_things = [*method_colours(), ARRIVED, "#26BF66", "#E66B38"]  # the last two: goal, obstacles
    w, h = picture.size
    with_patches = Image.new("RGB", (w, h + h // 4))
    with_patches.paste(picture)
    for k, shade in enumerate(small_things):
        left, right = (round(edge * w / len(small_things)) for edge in (k, k + 1))
        with_patches.paste(shade, (left, h, right, h + h // 4))
    return with_patches.quantize(colours)
