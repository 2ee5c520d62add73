"""Requests of clients as observations: by which names and in which shapes a policy's fields come over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError
from onestride.robot.fields import Field, check_image, pack, unpack
from onestride.serving.messages import MessageError, text_of

#: What stands before a field's name, where a client follows openpi's naming.
PREFIX = "observation/"
#: Names of the vector of all numbers of an observation, without its images.
VECTOR = ("observation", "observation/state", "state")
#: What a request may hold besides; openpi's clients send a prompt, which no policy here reads.
BESIDES = ("endpoint", "prompt", "seed", "time")
#: Bytes of a message beside its observation's: names, a prompt, an image of nearly the right size.
SLACK = 1 << 20


def largest(spec: ControlSpec) -> int:
    """Return the size of the largest request that is looked into [bytes]."""
    images = sum(field.size for field in spec.cameras)
    return spec.n_obs_steps * (9 * spec.numbers_dim + images) + SLACK  # a number of msgpack has 9 bytes


def fields_of(spec: ControlSpec) -> tuple[Field, ...]:
    """Return the fields of an observation; without any it is one, the vector of all its numbers."""
    return spec.fields or (Field(VECTOR[0], (spec.step_dim,), spec.layout),)


def steps_of(spec: ControlSpec, request: Mapping[str, Any]) -> np.ndarray:
    """Return a request's observations (K, step_dim), the oldest first; K is 1 or ``n_obs_steps``.

    Raises:
        MessageError: a name is unknown, missing or there twice, or a value is no array.
        ObservationError: a field cannot be acted on: its shape, its type, or a number that is not finite.
    """
    fields = fields_of(spec)
    given = {name: _array(name, value) for name, value in _named(fields, request).items()}
    if VECTOR[0] in given and spec.fields:
        given |= _split(spec, given.pop(VECTOR[0]))
    steps = {field.name: _steps(field, given[field.name], spec) for field in fields}
    counts = {name: len(value) for name, value in steps.items()}
    if len(set(counts.values())) > 1:
        raise ObservationError(f"the fields have different numbers of observations: {counts}; send as many of each")
    count = next(iter(counts.values()))
    vectors = [pack(fields, {name: value[i] for name, value in steps.items()}) for i in range(count)]
    return vectors[0][None] if count == 1 else np.stack(vectors)


def _named(fields: tuple[Field, ...], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request's values by the policy's own names; the vector of all numbers by the first of its names."""
    names = {field.name: field.camera for field in fields}
    found: dict[str, Any] = {}
    for key, value in _flat(request).items():
        own = next((name for name in (key, key.removeprefix(PREFIX)) if name in names), None)
        name = own or (VECTOR[0] if key in VECTOR else None)
        if name is None and key not in BESIDES:
            near = get_close_matches(key.removeprefix(PREFIX), names, 1)
            raise MessageError(
                f"this policy observes no '{key[:80]}'{f', did you mean {near[0]!r}?' if near else ''}; it observes "
                f"{', '.join(map(repr, names))}"
            )
        if name in found:
            raise MessageError(f"'{name}' is there twice, once as '{key}'")
        if name is not None:
            found[name] = value
    vector = VECTOR[0] in found and VECTOR[0] not in names
    if missing := [name for name, camera in names.items() if name not in found and (camera or not vector)]:
        raise MessageError(f"the observation lacks {', '.join(map(repr, missing))}; it has {list(found) or 'no field'}")
    return found


def _flat(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"observation": {"state": ...}} as {"observation/state": ...}."""
    flat: dict[str, Any] = {}
    for key, value in request.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{text_of(name)}": part for name, part in value.items()}
        else:
            flat[key] = value
    return flat


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
        return array.astype(np.float64) if array.dtype.kind == "f" else array  # native numbers are checked faster
    except (ValueError, TypeError, OverflowError) as error:  # lists of several lengths
        raise MessageError(f"'{name}' is no array of numbers ({' '.join(str(error).split())[:120]})") from error


def _split(spec: ControlSpec, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The vector of all numbers, (numbers_dim,) or (n_obs_steps, numbers_dim), as fields."""
    if numbers.ndim not in (1, 2) or numbers.shape[-1] != spec.numbers_dim:
        raise ObservationError(f"the state has shape {numbers.shape}, expected ({spec.numbers_dim},): {spec.layout}")
    found, first = {}, 0
    for field in spec.fields:
        if not field.camera:
            found[field.name] = numbers[..., first : first + field.size].reshape(*numbers.shape[:-1], *field.shape)
            first += field.size
    return found


def _steps(field: Field, value: np.ndarray, spec: ControlSpec) -> np.ndarray:
    """A field of the last observations, (K, *shape)."""
    if value.shape == field.shape:
        return value[None]
    if value.shape[1:] == field.shape and len(value) in (1, spec.n_obs_steps):
        return value
    if not spec.fields and value.shape == (spec.observation_dim,):
        return value.reshape(spec.n_obs_steps, spec.step_dim)
    if field.camera:
        check_image(field, value)
    several = f", or the last {spec.n_obs_steps} along a first axis" if spec.n_obs_steps > 1 else ""
    what = f": {spec.layout}" if not spec.fields else ""
    raise ObservationError(f"'{field.name}' has shape {value.shape}, expected {field.shape}{several}{what}")


def request_of(spec: ControlSpec, vector: np.ndarray) -> dict[str, np.ndarray]:
    """Return a decision's observation (observation_dim,) as a client sends it: images as bytes."""
    fields = fields_of(spec)
    parts = unpack(fields, vector, spec.n_obs_steps)
    return {f.name: parts[f.name].astype(np.uint8) if f.camera else parts[f.name] for f in fields}


def example_of(spec: ControlSpec) -> dict[str, np.ndarray]:
    """Return a request that can be answered: the specification's example, or zeros."""
    return request_of(spec, np.zeros(spec.observation_dim) if spec.example is None else np.asarray(spec.example))
