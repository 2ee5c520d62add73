"""Films of a benchmark's planners, and the replay in which each one's body waits for its decisions.

Planners act from the same start; what they did is kept, and rendered afterwards by playing it again: in a process of
its own, since OpenGL's backend is fixed when ``mujoco`` is first imported, and only the frames that are shown.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from onestride.engine.engine import Engine
from onestride.evaluation.benchmark_figures import colour, label, ordered
from onestride.evaluation.cameras import _backends
from onestride.evaluation.film import FPS as GIF_FPS
from onestride.evaluation.film import _font, _write_gif, _write_mp4
from onestride.evaluation.lineup import lineup, policy_of
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.files import CheckpointError, decode, write_atomically
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.reports.style import FAILED
from onestride.runs.run import task_of
from onestride.runs.settings import ReturnsConfig
from onestride.tasks.lockstep import make_environment
from onestride.tensors import load_tensors, save_tensors

FILMED = ("teacher", "dnk", "kdm", "kdm-f")  # the paper's rollout videos
SIDE_BY_SIDE = ("teacher", "dnk")
FPS, LONGEST, PAUSE = 25, 8.0, 0.6  # of films; length of the motion and of the last picture [s]
SIZE = (320, 240)  # of one body's picture [px]
HEADER, FOOTER = 30, 24  # bars above and below [px]
STILLS = 6


class RenderError(RuntimeError):
    """No OpenGL works here; the message has every backend's complaint."""


@dataclass(frozen=True)
class Motion:
    """What planners did in the environment from the same start, one action per control period."""

    environment: str  # Gymnasium's id
    seed: int  # of the environment
    control_dt: float  # [s]
    actions: dict[str, np.ndarray]  # row -> (T, A)
    fell: dict[str, bool]  # row -> whether it ended so

    def end(self, row: str) -> float:
        """Simulated time at which a row's motion ends [s]."""
        return len(self.actions[row]) * self.control_dt


@dataclass(frozen=True)
class Shots:
    """Pictures of one row: ``frames`` (n, h, w, 3) uint8 after so many ``steps`` (n,), ``travelled`` (n,) [m]."""

    steps: np.ndarray
    frames: np.ndarray
    travelled: np.ndarray

    def at(self, step: int) -> tuple[np.ndarray, float]:
        i = int(np.searchsorted(self.steps, step))
        return self.frames[i], float(self.travelled[i])


# --- acting ------------------------------------------------------------------------------------------------------


def motion_of(run: Path, config: ReturnsConfig, path: Path, device: str = "cpu") -> Motion:
    """What the planners of ``FILMED`` do with the selectors they are evaluated with; made once, then kept in ``path``.

    Raises:
        CheckpointError: the run holds no planners, or ``path`` no motion.
    """
    if path.is_file():
        return load_motion(path)
    task = task_of(run)
    assert task.benchmark is not None
    first = {e.row: e for e in reversed(lineup(run, config)) if e.row in FILMED}
    actions: dict[str, np.ndarray] = {}
    fell: dict[str, bool] = {}
    with track("motion", len(first)) as bar:
        for row in ordered(first):
            policy = policy_of(run, first[row], device)
            actions[row], fell[row] = act(policy, task.benchmark.environment, FIRST_SEED)
            bar.update(len(actions), label(row))
    motion = Motion(task.benchmark.environment, FIRST_SEED, task.control_dt, actions, fell)
    save_motion(motion, path)
    return motion


def act(policy: Policy | Engine, environment: str, seed: int) -> tuple[np.ndarray, bool]:
    """Actions (T, A) from the environment's start, at most ``LONGEST`` seconds of them, and whether it fell."""
    policy.reset(0)
    env = make_environment(environment)
    observation, _ = env.reset(seed=seed)
    actions: list[np.ndarray] = []
    terminated = truncated = False
    while len(actions) < LONGEST / policy.task.control_dt - 1e-6 and not (terminated or truncated):
        actions.append(policy.act(np.asarray(observation)[None])[0].astype(np.float32))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
    env.close()
    return np.stack(actions), terminated


def save_motion(motion: Motion, path: Path) -> None:
    about = {"environment": motion.environment, "seed": motion.seed, "control_dt": motion.control_dt}
    header = {"about": json.dumps(about | {"fell": motion.fell})}
    save_tensors(path, {f"actions.{row}": torch.from_numpy(a) for row, a in motion.actions.items()}, header)


class About(TypedDict):
    """What the header says of a ``Motion``."""

    environment: str
    seed: int
    control_dt: float
    fell: dict[str, bool]


def load_motion(path: Path) -> Motion:
    """Read ``motion.safetensors``.

    Raises:
        CheckpointError: no such file, or it holds no motion.
    """
    tensors, header = load_tensors(path)
    actions = {n.removeprefix("actions."): v.numpy() for n, v in tensors.items() if n.startswith("actions.")}
    if "about" not in header or not actions:
        raise CheckpointError(f"{path} holds no motion, but {sorted(tensors)}: delete it and evaluate again")
    about = decode(header["about"], About, f"{path}, header, about")
    return Motion(actions=actions, **about)


# --- rendering ---------------------------------------------------------------------------------------------------


def shoot(motion: Motion, row: str, steps: Sequence[int], size: tuple[int, int] = SIZE) -> Shots:
    """Pictures of a row after so many control periods each.

    Raises:
        RenderError: no OpenGL works here.
    """
    request = {"actions": motion.actions[row], "steps": np.unique(steps).astype(np.int64)}
    about = json.dumps({"environment": motion.environment, "seed": motion.seed, "size": size}).encode()
    request["about"] = np.frombuffer(about, np.uint8)
    reasons = []
    for backend in _backends():
        variables = os.environ | ({"MUJOCO_GL": backend} if backend else {}) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "onestride.evaluation.benchmark_film"]
        answer = subprocess.run(command, input=to_bytes(request), capture_output=True, env=variables, check=False)
        if answer.returncode == 0:
            return Shots(**from_bytes(answer.stdout))
        complaints = answer.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        reasons.append(f"MUJOCO_GL={backend or 'unset'}: {complaints[-1]}")
    raise RenderError("; ".join(reasons))


def serve() -> None:
    """The other process: a request on the standard input, ``Shots`` on the standard output."""
    request = from_bytes(sys.stdin.buffer.read())
    about = json.loads(request["about"].tobytes())
    width, height = about["size"]
    # Named, or it would stay where the body started.
    settings = {"camera_name": "track", "width": width, "height": height}
    env = make_environment(about["environment"], render_mode="rgb_array", **settings)
    _widen_floor(env.unwrapped.model)  # type: ignore[attr-defined]
    env.reset(seed=about["seed"])
    wanted = set(request["steps"].tolist())
    frames, travelled = [], []
    for step in range(max(wanted) + 1):
        if step:
            env.step(request["actions"][step - 1])
        if step in wanted:
            frames.append(np.asarray(env.render()))
            travelled.append(env.unwrapped.data.qpos[0])  # type: ignore[attr-defined]
    env.close()
    answer = {"steps": request["steps"], "frames": np.stack(frames), "travelled": np.array(travelled, np.float64)}
    sys.stdout.buffer.write(to_bytes(answer))


def _widen_floor(model: Any) -> None:
    """Draw ten times as much of it: a quick body leaves the 40 m that are drawn, the plane itself has no end."""
    floor = model.geom("floor")
    floor.size[:2] *= 10
    model.mat_texrepeat[floor.matid] *= 10


# --- what is shown when ------------------------------------------------------------------------------------------


def schedule(motion: Motion, periods: Mapping[str, float], fps: float) -> dict[str, np.ndarray]:
    """Control periods that have passed at every picture of a film (n,), by row.

    periods: how long one takes in the film [s]. It lasts as long as its longest motion, at most ``LONGEST`` seconds.
    """
    counts = {row: len(motion.actions[row]) for row in periods}
    length = min(max(counts[row] * period for row, period in periods.items()), LONGEST)
    moments = np.arange(math.ceil(length * fps) + 1) / fps
    passed = {row: np.floor(moments / period + 1e-6).astype(int) for row, period in periods.items()}
    return {row: np.minimum(passed[row], counts[row]) for row in periods}


@dataclass(frozen=True)
class Film:
    """What was made. ``stills[row]`` are frames (h, w, 3) uint8 at ``moments`` (M,) [s], with a note or "" each."""

    periods: dict[str, float]  # row -> seconds per control period in the replay; empty: there is none
    moments: np.ndarray
    stills: dict[str, list[np.ndarray]]
    notes: dict[str, list[str]]


def film(
    motion: Motion, latency_s: Mapping[str, float], folder: Path, names: Mapping[str, str],
    size: tuple[int, int] = SIZE,
) -> Film:  # fmt: skip
    """Film every row by itself as if decisions took no time, and two of them side by side waiting for theirs.

    latency_s: mean time of a decision by row [s]. names: files of ``folder`` for each row, "replay" and "gif".

    Raises:
        RenderError: no OpenGL works here.
    """
    dt = motion.control_dt
    plain = schedule(motion, dict.fromkeys(ordered(motion.actions), dt), FPS)
    periods = {row: max(dt, latency_s[row]) for row in SIDE_BY_SIDE if row in latency_s and row in motion.actions}
    if len(periods) < len(SIDE_BY_SIDE):
        periods = {}
    replays = {fps: schedule(motion, periods, fps) for fps in (FPS, GIF_FPS)} if periods else {}
    shots: dict[str, Shots] = {}
    with track("film", len(plain)) as bar:
        for row, steps in plain.items():
            wanted = [steps, *(replay[row] for replay in replays.values() if row in replay)]
            shots[row] = shoot(motion, row, np.concatenate(wanted).tolist(), size)
            bar.update(len(shots), label(row))
    for row, steps in plain.items():
        pictures = [_bars([_view(motion, row, shots[row], s)], "as if decisions took no time") for s in steps]
        write_atomically(folder / names[row], lambda p, made=pictures: _write_mp4(p, made, FPS))
    for fps, name, write in ((FPS, "replay", partial(_write_mp4, fps=FPS)), (GIF_FPS, "gif", _write_gif)):
        if fps in replays:
            pictures = _side_by_side(motion, shots, replays[fps], periods, fps)
            write_atomically(folder / names[name], lambda p, made=pictures, write=write: write(p, made))
    chosen = np.linspace(0, len(next(iter(plain.values()))) - 1, STILLS).round().astype(int)
    then = {row: steps[chosen].tolist() for row, steps in plain.items()}
    stills = {row: [shots[row].at(step)[0] for step in steps] for row, steps in then.items()}
    notes = {
        row: [f"fell, {motion.end(row):.1f} s" if _down(motion, row, step) else "" for step in steps]
        for row, steps in then.items()
    }
    return Film(periods, chosen / FPS, stills, notes)


def _side_by_side(
    motion: Motion, shots: Mapping[str, Shots], steps: Mapping[str, np.ndarray], periods: Mapping[str, float], fps: int
) -> list[np.ndarray]:
    pictures = []
    for i, now in enumerate(zip(*steps.values(), strict=True)):
        views = [_view(motion, row, shots[row], s, periods[row]) for row, s in zip(steps, now, strict=True)]
        pictures.append(_bars(views, f"wall time {i / fps:.1f} s; each body waits for its planner"))
    return pictures + [pictures[-1]] * round(PAUSE * fps)


def _down(motion: Motion, row: str, step: int) -> bool:
    return motion.fell[row] and step >= len(motion.actions[row])


# --- one picture -------------------------------------------------------------------------------------------------


def _view(motion: Motion, row: str, shots: Shots, step: int, period: float | None = None) -> Image.Image:
    """A body under its planner's name, with how far it has come, and how it is slowed where it waits."""
    frame, travelled = shots.at(step)
    h, w = frame.shape[:2]
    image = Image.new("RGB", (w, HEADER + h), "white")
    image.paste(Image.fromarray(frame), (0, HEADER))
    draw = ImageDraw.Draw(image)
    draw.text((8, HEADER // 2), label(row), colour(row), _font(16, bold=True), anchor="lm")
    said = f"{step * motion.control_dt:.1f} s, {round(travelled, 1) + 0.0:.1f} m"  # + 0.0: no -0.0
    if period is not None:
        slower = period / motion.control_dt
        said = ("full speed: " if slower == 1 else f"{slower:.1f}x slower: ") + said
    draw.text((w - 8, HEADER // 2), said, "#222", _font(12), anchor="rm")
    if _down(motion, row, step):
        draw.rounded_rectangle((8, HEADER + 8, 60, HEADER + 30), 6, fill=FAILED)
        draw.text((34, HEADER + 19), "fell", "white", _font(13, bold=True), anchor="mm")
    return image


def _bars(views: Sequence[Image.Image], foot: str) -> np.ndarray:
    """Views side by side over a line of text."""
    w, h = views[0].size
    image = Image.new("RGB", (w * len(views), h + FOOTER), "white")
    for k, view in enumerate(views):
        image.paste(view, (k * w, 0))
    draw = ImageDraw.Draw(image)
    for k in range(1, len(views)):
        draw.line((k * w, 0, k * w, h), "white", 4)
    draw.text((image.width // 2, h + FOOTER // 2), foot, "#555", _font(12), anchor="mm")
    return np.asarray(image)


if __name__ == "__main__":
    serve()
