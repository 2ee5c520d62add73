"""A task as whoever drives its robot knows it: NumPy alone, one decision at a time.

An exported engine and the control loop need no more of a task, and start without torch. What a planner learns from and
is judged by is ``task.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING

import numpy as np

from onestride.robot.limits import Limits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: Kinds of arrays that an observation may be.
NUMBERS = "fiu"
#: Decisions are made in single precision, which holds no number beyond this.
LARGEST = float(np.finfo(np.float32).max)
FLOATS = np.dtype(np.float64), np.dtype(np.float32)


class ObservationError(ValueError):
    """An observation that cannot be acted on: the robot holds. The message says what to mend."""


@dataclass(frozen=True, kw_only=True)
class ControlSpec:
    """A frozen record; functions take one observation (observation_dim,).

    check(observation) raises ObservationError for one that cannot be acted on.
    arrived(observation) says whether the goal is reached; it must stay so for ``dwell`` control periods.
    limits: what the robot may be told.
    commands(plan (H, D), observation) -> (H, A) of every row, in the robot's units: what may be sent of a plan when the
        next decision is late; None where only the first row is a command.
    positions: commands say where the robot should be one control period from now, so that what lies between two rows
        of a plan is a command too; else a row is for a whole period, such as a torque.
    rest(observation) -> (A,) the command that keeps the robot where it is; None: there is none.
    frozen_after: identical observations for longer than this [s], while the robot is told to move, are a dead sensor's;
        infinite: never.
    example: an observation that can be acted on; None: zeros can.
    layout: what an observation's numbers are, in order, with their units.
    plain: made by ``plain_control``, so that its numbers say all: an exported folder carries them.
    """

    name: str
    observation_dim: int
    state_dim: int  # O
    action_dim: int  # A
    horizon: int  # H
    control_dt: float  # [s]
    validate_observation: Callable[[np.ndarray], None]
    goal_reached: Callable[[np.ndarray], bool]
    limits: Limits
    commands: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    position_commands: bool = False
    hold_command: Callable[[np.ndarray], np.ndarray] | None = None
    dwell_steps: int = 0
    frozen_after: float = 0.5  # [s]
    example: np.ndarray | None = None
    layout: str = "as the environment gives them"
    plain: bool = False

    @property
    def transition_dim(self) -> int:
        """D = O + A."""
        return self.state_dim + self.action_dim


def observation_vector(given: ArrayLike, dim: int, what: str = "") -> np.ndarray:
    """Return what a driver hands over as the vector that is decided on (dim,), float64 in native order and contiguous.

    Integers, float16, long double, lists, other byte orders and strides are turned into it; a vector that is one
    already is given back as it is, not copied.

    Args:
        given: ``dim`` numbers.
        dim: how many there have to be.
        what: ends the message about a wrong shape, such as " of hopper-v5".

    Raises:
        ObservationError: a wrong shape, no real numbers, or one that is not finite in single precision.
    """
    if type(given) is np.ndarray and given.dtype in FLOATS and given.shape == (dim,) and given.flags.carray:
        if hypot(*given.tolist()) < LARGEST:  # not where one is NaN; several times faster than np.isfinite(given).all()
            return given if given.dtype is FLOATS[0] else given.astype(np.float64)
    elif isinstance(given, np.ndarray) and type(given) is not np.ndarray and np.ma.is_masked(given):
        raise ObservationError(f"{np.ma.count_masked(given)} of the observation's numbers are masked, expected none")
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ObservationError(f"observation is no array of numbers: {error}; expected ({dim},){what}") from error
    if array.shape != (dim,):
        raise ObservationError(f"observation has shape {array.shape}, expected ({dim},){what}")
    if array.dtype.kind not in NUMBERS:
        raise ObservationError(f"observation is an array of {array.dtype}, expected of float or integer numbers")
    bad = np.flatnonzero(~(np.abs(array.astype(np.longdouble)) <= LARGEST))  # which no number overflows
    if len(bad):
        value = array[bad[0]]
        beyond = f", beyond single precision (up to {LARGEST:.3g})" if np.isfinite(value) else ""
        raise ObservationError(f"observation[{bad[0]}] is {value}{beyond}; check the sensor that fills this entry")
    return np.array(array, np.float64)


def check_numbers(observation: ArrayLike, dim: int, what: str) -> None:
    """Raise ObservationError where ``observation_vector`` does: these are not ``dim`` finite numbers."""
    observation_vector(observation, dim, what)


def plain_control(
    *, name: str, observation_dim: int, horizon: int, control_dt: float, low: np.ndarray, high: np.ndarray
) -> ControlSpec:
    """Return the interface of a body whose plans are [observation | action], both as it gives and takes them.

    Any finite observation (observation_dim,) can be acted on; commands lie within low and high (A,), and 0, or what is
    next to it within them, keeps the body at rest. control_dt in [s].
    """
    still = np.clip(np.zeros_like(low), low, high)
    return ControlSpec(
        name=name,
        observation_dim=observation_dim,
        state_dim=observation_dim,
        action_dim=len(low),
        horizon=horizon,
        control_dt=control_dt,
        validate_observation=lambda observation: check_numbers(observation, observation_dim, f" of {name}"),
        goal_reached=lambda _observation: False,
        limits=Limits(low, high),
        commands=lambda plan, _observation: plan[:, observation_dim:].clip(low, high),
        hold_command=lambda _observation: still.copy(),
        plain=True,
    )
