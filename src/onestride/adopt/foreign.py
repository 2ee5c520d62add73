"""What is read of another library's policy, and its network's weights by the names that they have here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from onestride.adopt.columns import Columns
from onestride.files import CheckpointError
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.networks.rgb_encoder import RgbEncoderConfig
from onestride.networks.unet1d import FilmUNetConfig

#: Names in LeRobot and in the original, of both of which the network is one -> names in ``FilmUNet``.
NAMES = (
    (r"^diffusion_step_encoder\.1\.", "time.net.0."),
    (r"^diffusion_step_encoder\.3\.", "time.net.2."),
    (r"^(down|up)_modules\.(\d+)\.0\.", r"\1.\2.first."),
    (r"^(down|up)_modules\.(\d+)\.1\.", r"\1.\2.second."),
    (r"^(down|up)_modules\.(\d+)\.2\.(conv\.)?", r"\1sample.\2."),
    (r"^mid_modules\.0\.", "middle.first."),
    (r"^mid_modules\.1\.", "middle.second."),
    (r"^final_conv\.0\.block\.", "output.0."),
    (r"^final_conv\.1\.", "output.1."),
    (r"\.(conv1|blocks\.0)\.block\.", ".first."),
    (r"\.(conv2|blocks\.1)\.block\.", ".second."),
    (r"\.cond_encoder\.", ".time."),
    (r"\.residual_conv\.", ".skip."),
)
SCHEDULE = "squaredcos_cap_v2"


@dataclass(frozen=True)
class ForeignCamera:
    """A camera of a policy: its name there, height and width [px], its encoder's weights by our names."""

    name: str
    size: tuple[int, int]
    encoder: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ForeignPolicy:
    """A policy of another library.

    Attributes:
        library: which.
        config: the teacher that it is here.
        weights: its network's, by the names of ``FilmUNet``.
        horizon: rows of a chunk, with those before now.
        n_obs_steps: observations that it is given.
        n_action_steps: rows that it carries out there.
        features: names and sizes of the numbers that make one observation, in order.
        step: how one observation is normalised.
        actions: how actions are.
        cameras: in the policy's order.
        vision: how they are encoded, where there are any.
        order: names of features and cameras as the network's condition has one observation, where there are cameras.
        told: what the user said of it, where its files do not.
        notes: for the user.
    """

    library: str
    config: TeacherConfig
    weights: dict[str, Tensor]
    horizon: int
    n_obs_steps: int
    n_action_steps: int
    features: tuple[tuple[str, int], ...]
    step: Columns
    actions: Columns
    cameras: tuple[ForeignCamera, ...] = ()
    vision: RgbEncoderConfig | None = None
    order: tuple[str, ...] = ()
    told: str = ""
    notes: tuple[str, ...] = ()


def renamed(weights: Mapping[str, Tensor], rules: Iterable[tuple[str, str]] = NAMES) -> dict[str, Tensor]:
    """Return weights by the names that they have here."""
    made = {}
    for name, value in weights.items():
        for pattern, by in rules:
            name = re.sub(pattern, by, name)
        made[name] = value
    return made


def network_of(weights: Mapping[str, Tensor], n_groups: int, past_rows: int, where: str) -> FilmUNetConfig:
    """Return the shape of the network that weights by our names are of.

    Args:
        weights: by our names.
        n_groups: of its normalisation, which no weight's shape shows.
        past_rows: rows of a chunk before now.
        where: they are from, for the message.

    Raises:
        CheckpointError: they are of another network.
    """
    dims = []
    try:
        while (name := f"down.{len(dims)}.first.first.0.weight") in weights:
            dims.append(weights[name].shape[0])
        kernel = weights["down.0.first.first.0.weight"].shape[2]
        said, step_dim = weights["down.0.first.time.1.weight"].shape[0], weights["time.net.2.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{where}: its weights are of no conditional U-Net with a global condition (no {error}); transformers and "
            "other networks are not read"
        ) from error
    scaled = said == 2 * dims[0]
    return FilmUNetConfig(tuple(dims), kernel, n_groups, step_dim, film_scale=scaled, past_rows=past_rows)


def sampling_of(
    where: str, *, scheduler: str, schedule: str, prediction: str, steps: int, calls: int | None, clip: float | None
) -> dict[str, object]:
    """Return the teacher's settings for how diffusers' DDPM or DDIM scheduler is set up.

    Raises:
        CheckpointError: it is set up in a way that is not read.
    """
    solvers, predictions = {"DDPM": "ddpm", "DDIM": "ddim"}, {"epsilon": "eps", "sample": "x0"}
    checked = (("noise scheduler", scheduler, solvers), ("prediction", prediction, predictions))
    for what, found, known in (*checked, ("beta schedule", schedule, (SCHEDULE,))):
        if found not in known:
            raise CheckpointError(f"{where}: its {what} is {found!r:.60}; {', '.join(known)} can be read")
    if not 1 <= (calls or steps) <= steps:
        raise CheckpointError(f"{where}: it samples in {calls} of {steps} steps")
    return {
        "n_steps": steps, "schedule": "squared-cosine", "prediction": predictions[prediction],
        "solver": solvers[scheduler], "sample_steps": None if calls in (None, steps) else calls, "spacing": "leading",
        "clip": clip, "first_action_weight": 1.0, "network": "film-unet",
    }  # fmt: skip
