"""Observations of named fields, such as states and cameras' images: packed into one vector, and back."""

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
    """A named part of an observation.

    Attributes:
        name: of the field.
        shape: such as (7,), or (height, width, 3) of a camera's image.
        unit: of its numbers.
        camera: whether it is a camera's image, uint8, which data sets keep apart and encoders read.
    """

    name: str
    shape: tuple[int, ...]
    unit: str = ""
    camera: bool = False

    @property
    def size(self) -> int:
        """How many numbers it is."""
        return prod(self.shape)


@dataclass(frozen=True)
class Column:
    """The name and the unit ("": unknown) of one number of an observation."""

    name: str
    unit: str


def columns_of(spec: ControlSpec) -> list[Column]:
    """Return the names and units of an observation's numbers, in order, without images.

    A field's numbers are called ``field[i]`` or ``field[i,j]``; those of a task that names none, ``observation[i]``.
    """
    fields = spec.fields or spec.named or (Field("observation", (spec.step_dim,)),)
    return [
        Column(f"{field.name}[{','.join(map(str, index))}]" if index else field.name, field.unit)
        for field in fields
        if not field.camera
        for index in np.ndindex(field.shape)
    ]


def pack(fields: Sequence[Field], observation: Mapping[str, Any]) -> np.ndarray:
    """Return an observation's fields as one vector, in the order of ``fields``.

    Raises:
        ObservationError: a field is missing, unexpected, or of another shape, or no numbers; a camera's is not uint8.
    """
    names = {field.name for field in fields}
    if observation.keys() != names:
        missing, more = sorted(names - observation.keys()), sorted(observation.keys() - names)
        raise ObservationError(f"the observation lacks the fields {missing} and has {more}; expected {sorted(names)}")
    parts = []
    for field in fields:
        value = np.asarray(observation[field.name])
        if field.camera:
            parts.append(check_image(field, value).ravel().astype(np.float64))
            continue
        if value.shape != field.shape:
            raise ObservationError(f"field '{field.name}' has shape {value.shape}, expected {field.shape}")
        parts.append(observation_vector(value.ravel(), field.size, f" of field '{field.name}'"))
    return np.concatenate(parts)


def camera(name: str, height: int, width: int) -> Field:
    """Return the field of a camera's image, uint8 (height, width, 3) in RGB."""
    return Field(name, (height, width, 3), "RGB, 0 to 255", camera=True)


def check_image(field: Field, image: np.ndarray) -> np.ndarray:
    """Return a camera's image or images (..., height, width, 3) as they are.

    Raises:
        ObservationError: another type, size or layout. The message says what to do about it.
    """
    height, width, colours = field.shape
    found = image.shape[-3:]
    if image.dtype == np.uint8 and found == field.shape:
        return image
    advice = "resize or crop it as in the data that the policy learnt from"
    if image.dtype != np.uint8:
        advice = "give the camera's own bytes, 0 to 255, not scaled"
    elif found == (colours, height, width):
        advice = "colours come last; give np.moveaxis(image, -3, -1)"
    elif found == (width, height, colours):
        advice = "rows come first; transpose it"
    raise ObservationError(
        f"image '{field.name}' is {image.dtype} {image.shape}, expected uint8 {field.shape}: {advice}"
    )


def split_images(fields: Sequence[Field], vectors: Any, n_obs_steps: int = 1) -> tuple[Any, dict[str, Any]]:
    """Return packed observations (..., n_obs_steps * step_dim) as their numbers and their images.

    NumPy arrays and tensors alike. The numbers are (..., n_obs_steps * numbers of a step), each image is
    (..., n_obs_steps, height, width, 3).
    """
    numbers = sum(field.size for field in fields if not field.camera)
    found = unpack(fields, vectors, n_obs_steps)
    steps = vectors.reshape(*vectors.shape[:-1], n_obs_steps, -1)
    flat = steps[..., :numbers].reshape(*vectors.shape[:-1], n_obs_steps * numbers)
    return flat, {field.name: found[field.name] for field in fields if field.camera}


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
