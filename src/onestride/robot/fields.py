"""Observations of named fields, such as states and images: packed into one vector, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError, observation_vector
from onestride.robot.robot import Robot, TimedObservation


@dataclass(frozen=True)
class Field:
    """A named part of an observation: its shape, such as (7,) or (96, 96, 3) for an image, and its unit."""

    name: str
    shape: tuple[int, ...]
    unit: str = ""

    @property
    def size(self) -> int:
        """How many numbers it is."""
        return prod(self.shape)


def pack(fields: Sequence[Field], observation: Mapping[str, Any]) -> np.ndarray:
    """Return an observation's fields as one vector, in the order of ``fields``.

    Raises:
        ObservationError: a field is missing, unexpected, or of another shape, or no numbers.
    """
    names = {field.name for field in fields}
    if observation.keys() != names:
        missing, more = sorted(names - observation.keys()), sorted(observation.keys() - names)
        raise ObservationError(f"the observation lacks the fields {missing} and has {more}; expected {sorted(names)}")
    parts = []
    for field in fields:
        value = np.asarray(observation[field.name])
        if value.shape != field.shape:
            raise ObservationError(f"field '{field.name}' has shape {value.shape}, expected {field.shape}")
        parts.append(observation_vector(value.ravel(), field.size, f" of field '{field.name}'"))
    return np.concatenate(parts)


def unpack(fields: Sequence[Field], vectors: Any, n_obs_steps: int = 1) -> dict[str, Any]:
    """Return the fields of packed observations (..., n_obs_steps * step_dim) as (..., n_obs_steps, *shape).

    NumPy arrays and tensors alike.
    """
    steps = vectors.reshape(*vectors.shape[:-1], n_obs_steps, -1)
    found, first = {}, 0
    for field in fields:
        part = steps[..., first : first + field.size]
        found[field.name] = part.reshape(*part.shape[:-1], *field.shape)
        first += field.size
    return found


def decision_vector(spec: ControlSpec, given: Any, what: str = "") -> np.ndarray:
    """Return what is decided on as a vector (observation_dim,).

    Args:
        spec: of the robot.
        given: a vector, or for a robot with fields a mapping of them: (n_obs_steps, *shape) each, the oldest first, or
            (*shape) where that is one.
        what: the end of the message about a wrong shape.

    Raises:
        ObservationError: it cannot be made of what was given.
    """
    if not isinstance(given, Mapping):
        return observation_vector(given, spec.observation_dim, what)
    if not spec.fields:
        raise ObservationError(f"the observation is a mapping; expected a vector ({spec.observation_dim},){what}")
    if spec.n_obs_steps == 1:
        return pack(spec.fields, given)
    steps = [{name: np.asarray(value)[i] for name, value in given.items()} for i in range(spec.n_obs_steps)]
    return np.concatenate([pack(spec.fields, step) for step in steps])


class Fields:
    """A robot whose observations are mappings, read as vectors. What cannot be packed comes back to be refused."""

    def __init__(self, robot: Robot, spec: ControlSpec) -> None:
        self.robot, self.spec = robot, spec
        self.write, self.stop, self.fault = robot.write, robot.stop, robot.fault

    def read(self) -> Any:
        """Return the observation as a vector (step_dim,), with its time where it has one."""
        given = self.robot.read()
        timed = isinstance(given, TimedObservation)
        values = given.values if timed else given
        if not isinstance(values, Mapping):
            return given
        try:
            vector = pack(self.spec.fields, values)
        except ObservationError:
            vector = np.full(self.spec.step_dim, np.nan)  # refused as not finite: nothing is sent
        return TimedObservation(vector, given.time) if timed else vector
