"""Films of an evaluation: which frames of recorded motions are shown when, beside what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from onestride.evaluation.variant import Variant
from onestride.progress import track
from onestride.reports.motions import LONGEST, ArmMotion, BodyMotion
from onestride.reports.render import RenderError, Size, render_arm, render_body, seen_by_camera
from onestride.reports.stick_arm import Project, draw
from onestride.reports.style import colour
from onestride.reports.video import Look, View, compose, with_trail, write_film
from onestride.tasks.kinova.scene import Scene as ArmScene
from onestride.tasks.obstacles import Scene

STILLS = 6  # frames of a strip
ARM_LOOK = Look(header=48, footer=32, margin=14, name=24, text=22, foot=15, badge=15, bold=True, badge_above=True)
ARM_FPS, ARM_LONGEST, ARM_PAUSE = 15, 11.0, 1.0  # length of the motion as played, and of the last picture [s]
SPEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100)
MIDDLE = 0.17, 0.92  # the part of a frame's width that the arm needs, for the strip
BODY_LOOK = Look(header=30, footer=24, margin=8, name=16, text=12, foot=12, badge=13)
BODY_FPS, BODY_PAUSE = 25, 0.6


@dataclass(frozen=True)
class Strip:
    """Some frames (h, w, 3) uint8 of films at ``moments`` (M,) [s], with a note or "" each."""

    moments: np.ndarray
    frames: dict[Variant, list[np.ndarray]]
    notes: dict[Variant, list[str]]


# --- the arm -----------------------------------------------------------------------------------------------------


def film_arm(motion: ArmMotion, mp4: Path, gif: Path, size: Size = (480, 400)) -> tuple[Strip, int, str | None]:
    """Film the first two variants of a motion side by side, each (width, height) [px], even numbers.

    An arm that has arrived stays put. At most 12 s long: a longer motion is played faster, and the picture says so.
    Returns a strip, how many times faster it is played, and why the arm was drawn as sticks, if it was.

    Raises:
        RenderError: no OpenGL works here, and the robot is no arm.
    """
    pair = list(motion.joints)[:2]
    ends = {v: float(motion.times[v][-1]) for v in pair}
    last = max(ends.values())
    speed = next((s for s in SPEEDS if last / s <= ARM_LONGEST), SPEEDS[-1])
    moments = np.minimum(np.arange(math.ceil(last / speed * ARM_FPS) + 1) * speed / ARM_FPS, last)  # (count,) [s]
    arrival = {v: int(np.searchsorted(moments, ends[v])) for v in pair}  # the picture in which it has arrived
    moving = [motion.joints_at(v, moments[: arrival[v] + 1]) for v in pair]
    frames, project, drawn_because = _arm_frames(motion.scene, np.concatenate(moving), size)
    first = dict(zip(pair, (0, len(moving[0])), strict=False))  # of each one's frames
    trails = {v: project(motion.path[v]) for v in pair}

    def view(v: Variant, i: int) -> View:
        shown = min(i, arrival[v])
        trail = trails[v][motion.times[v] <= moments[shown]]
        frame = with_trail(frames[first[v] + shown], trail, colour(v.method))
        badge = motion.ending(v) if moments[i] >= ends[v] else ""
        return View(v, frame, f"{min(moments[i], ends[v]):.1f} s", badge)

    shown = "in real time" if speed == 1 else f"played {speed}x faster"
    pictures = [
        compose([view(v, i) for v in pair], f"wall time {t:.1f} s, {shown}", ARM_LOOK) for i, t in enumerate(moments)
    ]
    write_film(pictures + [pictures[-1]] * round(ARM_PAUSE * ARM_FPS), ARM_FPS, mp4, gif)
    wanted = _telling(sorted(ends.values()), moments)
    middle = slice(round(MIDDLE[0] * size[0]), round(MIDDLE[1] * size[0]))
    said = {v: f"{motion.ending(v)}, {ends[v]:.1f} s" for v in pair}
    stills = {v: [view(v, i).frame[:, middle] for i in wanted] for v in pair}
    notes = {v: [said[v] if i >= arrival[v] else "" for i in wanted] for v in pair}
    return Strip(moments[wanted], stills, notes), speed, drawn_because


def _arm_frames(scene: Scene, joints: np.ndarray, size: Size) -> tuple[np.ndarray, Project, str | None]:
    """Return frames of coordinates (n, nq), where points are seen in them, and why they were drawn, if they were."""
    with track("film", 1) as bar:
        try:
            frames = render_arm(scene, joints, size)
            return frames, partial(seen_by_camera, scene, size), None
        except RenderError as error:
            if not isinstance(scene, ArmScene):
                raise
            return *draw(scene, joints, size), str(error)
        finally:
            bar.update(1)


def _telling(ends: list[float], moments: np.ndarray) -> list[int]:
    """Return which pictures tell the story: until the first arrival, and from there to the last."""
    first, last = ends[0], ends[-1]
    early = STILLS // 2
    times = [*np.linspace(0, first, early, endpoint=False), *np.linspace(first, last, STILLS - early)]
    if last - first < 0.2 * last:
        times = list(np.linspace(0, last, STILLS))
    return [min(int(np.searchsorted(moments, t)), len(moments) - 1) for t in times]


# --- bodies ------------------------------------------------------------------------------------------------------


def schedule(motion: BodyMotion, periods: Mapping[str, float], fps: float) -> dict[str, np.ndarray]:
    """Return how many control periods have passed at every picture of a film (n,), by row.

    periods: how long one takes in the film [s]. It lasts as long as its longest motion, at most ``LONGEST`` seconds.
    """
    counts = {row: len(motion.actions[row]) for row in periods}
    length = min(max(counts[row] * period for row, period in periods.items()), LONGEST)
    moments = np.arange(math.ceil(length * fps) + 1) / fps
    passed = {row: np.floor(moments / period + 1e-6).astype(int) for row, period in periods.items()}
    return {row: np.minimum(passed[row], counts[row]) for row in periods}


def film_bodies(
    motion: BodyMotion, variants: Mapping[str, Variant], latency_s: Mapping[str, float], folder: Path,
    names: Mapping[str, str], size: Size = (320, 240),
) -> Strip:  # fmt: skip
    """Film every row by itself as if decisions took no time, and the first two side by side waiting for theirs.

    latency_s: mean time of a decision by row [s]. names: files of ``folder`` for each row, "replay" and "gif".

    Raises:
        RenderError: no OpenGL works here.
    """
    dt = motion.control_dt
    rows = [row for row in variants if row in motion.actions]
    plain = schedule(motion, dict.fromkeys(rows, dt), BODY_FPS)
    periods = {row: max(dt, latency_s[row]) for row in rows[:2] if row in latency_s}
    replay = schedule(motion, periods, BODY_FPS) if len(periods) == 2 else {}
    rendered: dict[str, dict[int, tuple[np.ndarray, float]]] = {}  # row -> step -> frame, distance [m]
    with track("film", len(plain)) as bar:
        for row in plain:
            steps = np.union1d(plain[row], replay.get(row, plain[row]))
            made = render_body(motion.environment, motion.seed, motion.actions[row], steps, size)
            rendered[row] = dict(zip(steps.tolist(), zip(*made, strict=True), strict=True))
            bar.update(len(rendered), variants[row].label)

    def view(row: str, step: int, period: float | None = None) -> View:
        frame, travelled = rendered[row][step]
        text = f"{step * dt:.1f} s"
        if not math.isnan(travelled):
            text += f", {round(travelled, 1) + 0.0:.1f} m"  # + 0.0: no -0.0
        if period is not None:
            text = ("full speed: " if period == dt else f"{period / dt:.1f}x slower: ") + text
        return View(variants[row], frame, text, "fell" if motion.is_down(row, step) else "")

    for row, steps in plain.items():
        pictures = [compose([view(row, s)], "as if decisions took no time", BODY_LOOK) for s in steps.tolist()]
        write_film(pictures, BODY_FPS, folder / names[row])
    if replay:
        pictures = []
        for i, steps in enumerate(zip(*(each.tolist() for each in replay.values()), strict=True)):
            views = [view(row, step, periods[row]) for row, step in zip(replay, steps, strict=True)]
            foot = f"wall time {i / BODY_FPS:.1f} s; each body waits for its planner"
            pictures.append(compose(views, foot, BODY_LOOK))
        pictures += [pictures[-1]] * round(BODY_PAUSE * BODY_FPS)
        write_film(pictures, BODY_FPS, folder / names["replay"], folder / names["gif"])
    chosen = np.linspace(0, len(next(iter(plain.values()))) - 1, STILLS).round().astype(int)
    then = {row: steps[chosen].tolist() for row, steps in plain.items()}
    stills = {variants[row]: [rendered[row][step][0] for step in steps] for row, steps in then.items()}
    notes = {
        variants[row]: [f"fell, {motion.end(row):.1f} s" if motion.is_down(row, step) else "" for step in steps]
        for row, steps in then.items()
    }
    return Strip(chosen / BODY_FPS, stills, notes)
