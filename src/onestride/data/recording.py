"""How a dataset was recorded: environment, settings, wrappers and rate, which shapes do not show."""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from onestride.data.lerobot import rate_of, read_info
from onestride.data.minari import read_metadata
from onestride.data.robomimic import control_rate, is_robomimic
from onestride.files import METADATA

#: Wrappers that change no observation, action or reward.
HARMLESS = (
    "PassiveEnvChecker", "OrderEnforcing", "TimeLimit", "RecordEpisodeStatistics", "RecordVideo", "Autoreset",
    "DataCollector", "DataCollectorV0", "HumanRendering", "RenderCollection", "StepDataCallback",
)  # fmt: skip
#: Settings that only change pictures.
OF_PICTURES = ("render_mode", "width", "height", "camera_id", "camera_name", "default_camera_config", "max_geom")


@dataclass(frozen=True)
class Recording:
    """How a dataset was recorded. None means that the dataset does not say.

    Attributes:
        environment: Gymnasium's id.
        settings: arguments of the environment.
        wrappers: names of the wrappers around it.
        rate: of control [Hz].
    """

    environment: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    rate: float | None = None


def read_recording(path: Path) -> Recording:
    """Return what a dataset's metadata say about its recording."""
    if (path / METADATA).is_file():
        return _by_spec(read_metadata(path).get("env_spec"))
    if (path / "meta" / "info.json").is_file():
        return Recording(rate=rate_of(read_info(path)))
    if is_robomimic(path):
        return Recording(rate=control_rate(path))
    return Recording()


def _by_spec(said: Any) -> Recording:
    try:
        spec = json.loads(said) if isinstance(said, str) else said
    except json.JSONDecodeError:
        return Recording()
    if not isinstance(spec, dict) or not isinstance(spec.get("id"), str):
        return Recording()
    settings, wrapped = spec.get("kwargs"), spec.get("additional_wrappers")
    names = [w.get("name") for w in wrapped if isinstance(w, dict)] if isinstance(wrapped, list) else []
    return Recording(
        spec["id"],
        {k: v for k, v in settings.items() if k not in OF_PICTURES} if isinstance(settings, dict) else {},
        tuple(str(name) for name in names if name not in HARMLESS),
    )


def differing_settings(recording: Recording, environment: str) -> list[str]:
    """Return how a recording's environment differs from ``environment`` made without settings, in words."""
    found = [f"it was wrapped in {name}" for name in recording.wrappers]
    defaults = _defaults(environment)
    for name, value in recording.settings.items():
        usual = defaults.get(name, "no such setting")
        if value != (list(usual) if isinstance(usual, tuple) else usual):
            found.append(f"{name} was {value!r}, and is {usual!r}")
    return found


def _defaults(environment: str) -> dict[str, Any]:
    """Return an environment's arguments with their defaults, and those that its registration sets."""
    spec = gymnasium.spec(environment)
    entry = spec.entry_point
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(entry).parameters if entry is not None else {}
    found = {k: p.default for k, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return found | dict(spec.kwargs)
