"""The control interface of a task: what the control loop and an exported engine need to know of it.

It is written in NumPy alone and deals with one decision at a time, so that robots are driven without torch. What a
planner is trained and evaluated on is ``tasks/task.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, inf
from typing import TYPE_CHECKING, Any

import numpy as np

from onestride.robot.limits import Limits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from onestride.robot.fields import Field

#: Kinds of dtype that an observation may have.
NUMBERS = "fiu"
#: Largest number of single precision, in which decisions are computed.
LARGEST = float(np.finfo(np.float32).max)
#: Vectors longer than this are looked through by NumPy.
LONG = 1_000
FLOATS = np.dtype(np.float64), np.dtype(np.float32)


class ObservationError(ValueError):
    """Raised for an observation that cannot be acted on. The message says what to correct."""


@dataclass(frozen=True, kw_only=True)
class ControlSpec:
    """The control interface of a task. Its functions take one observation (observation_dim,).

    Attributes:
        name: of the task.
        observation_dim: size of an observation.
        state_dim: O, observation columns of a plan.
        action_dim: A, action columns of a plan.
        horizon: H, rows of a plan.
        control_dt: control period [s].
        validate_observation: raises ObservationError for an observation that cannot be acted on.
        goal_reached: returns whether the goal is reached, which must hold for ``dwell_steps`` control periods;
            ``no_goal`` where there is none.
        limits: on commands.
        commands: maps a plan (H, D) and an observation to the command of every row (H, A) in the robot's units, which
            may be sent while the next decision is late; None where only the first row is a command.
        action_columns: maps commands of a plan's first rows (n, A) and an observation to the action columns of these
            rows (n, A), the inverse of ``commands``; ``as_they_are`` where both are the same numbers. None: what is
            committed cannot be told to a planner.
        position_commands: whether a command is where the robot should be one control period from now. Then commands
            between two rows of a plan are interpolated. Otherwise a row is for a whole period, such as a torque.
        hold_command: returns the command that keeps the robot where it is (A,); None where there is none.
        rest: the command that brings the robot to rest whatever is observed (A,), such as zero speed or torque. It is
            also sent while there is no observation to act on. Given instead of ``hold_command``; None where it depends
            on where the robot is.
        dwell_steps: control periods for which the goal must stay reached.
        frozen_after: identical observations for longer than this, while the robot is told to move, mean a dead
            sensor [s]; infinite: never.
        example: an observation that can be acted on; None where zeros can.
        layout: the numbers of an observation, in order, with their units.
        n_obs_steps: how many of the robot's last observations, one per control period and the oldest first, make the
            observation of a decision.
        n_action_steps: how many rows of a plan are carried out, one per control period, before the next decision.
        fields: names and shapes of what an observation is made of, where the robot gives a mapping; see ``fields.py``.
        named: the same of an observation that is always a vector, for messages about its numbers.
        plain: whether ``plain_control`` made it, so that an exported folder can rebuild it from its numbers.
    """

    name: str
    observation_dim: int
    state_dim: int
    action_dim: int
    horizon: int
    control_dt: float
    validate_observation: Callable[[np.ndarray], None]
    goal_reached: Callable[[np.ndarray], bool]
    limits: Limits
    commands: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    action_columns: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    position_commands: bool = False
    hold_command: Callable[[np.ndarray], np.ndarray] | None = None
    rest: np.ndarray | None = None
    dwell_steps: int = 0
    frozen_after: float = 0.5
    example: np.ndarray | None = None
    layout: str = "as the environment gives them"
    plain: bool = False
    n_obs_steps: int = 1
    n_action_steps: int = 1
    fields: tuple[Field, ...] = ()
    named: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}, expected at least 1")
        if not 0 < self.control_dt < inf:
            raise ValueError(f"control_dt is {self.control_dt}, expected a positive number of seconds")
        if self.n_obs_steps < 1 or self.observation_dim % self.n_obs_steps:
            raise ValueError(
                f"a decision's observation has {self.observation_dim} numbers, which are no {self.n_obs_steps} "
                "observations of equal size"
            )
        for fields in filter(None, (self.fields, self.named)):
            if sum(field.size for field in fields) != self.step_dim:
                raise ValueError(f"the fields have {sum(f.size for f in fields)} numbers, expected {self.step_dim}")
        if [field.camera for field in self.fields] != sorted(field.camera for field in self.fields):
            raise ValueError("cameras come after all other fields of an observation")
        if not 1 <= self.n_action_steps <= self.horizon:
            raise ValueError(f"n_action_steps is {self.n_action_steps}, expected 1 to the horizon, {self.horizon}")
        if self.n_action_steps > 1 and self.commands is None:
            raise ValueError("n_action_steps above 1 needs `commands`, which turn every row of a plan into a command")
        if self.n_obs_steps > 1 and self.limits.max_step is not None:
            raise ValueError("limits.max_step counts from an observation's first numbers; it needs n_obs_steps = 1")
        if self.rest is not None:
            self._check_rest(self.rest)

    def _check_rest(self, rest: np.ndarray) -> None:
        if self.hold_command is not None:
            raise ValueError("a task has a hold_command or a command of rest, not both")
        if self.position_commands or self.limits.max_step is not None:
            raise ValueError("commands are positions here, so that none brings the robot to rest from everywhere")
        violation = self.limits.violation(rest, np.zeros(self.observation_dim))
        if violation is not None:
            raise ValueError(f"the command of rest is {np.array(rest).tolist()}, against the limits: {violation}")

    def hold(self, observation: np.ndarray) -> np.ndarray | None:
        """Return the command that keeps the robot where it is (A,), or None where the task knows none."""
        if self.rest is not None:
            return self.rest.copy()
        return self.hold_command(observation) if self.hold_command is not None else None

    @property
    def step_dim(self) -> int:
        """Numbers of one observation of the robot; a decision's has ``n_obs_steps`` of them, the oldest first."""
        return self.observation_dim // self.n_obs_steps

    @property
    def cameras(self) -> tuple[Field, ...]:
        """The fields that are cameras' images, the last of an observation's."""
        return tuple(field for field in self.fields if field.camera)

    @property
    def numbers_dim(self) -> int:
        """Numbers of one observation of the robot without its images."""
        return self.step_dim - sum(field.size for field in self.cameras)

    @property
    def transition_dim(self) -> int:
        """D = O + A, the columns of a plan."""
        return self.state_dim + self.action_dim


def no_goal(observation: np.ndarray) -> bool:
    """Return False: of a task without a goal that ends an episode."""
    del observation
    return False


def as_they_are(commands: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Return commands (n, A) as they are, for plans whose action columns are commands; see ``action_columns``."""
    del observation
    return commands


def committed_columns(spec: ControlSpec, commands: ArrayLike, observation: np.ndarray, longest: int) -> np.ndarray:
    """Return committed commands (n, A) as the action columns of a plan's first rows (longest, A), NaN after row n.

    Args:
        spec: the control interface.
        commands: what is sent in the next n control periods, whatever is decided; n at most ``longest``.
        observation: that the plan is made for (observation_dim,).
        longest: the longest prefix that the planner has learnt.

    Raises:
        ValueError: they have another shape, are too many or not finite, or the planner has learnt no prefix.
    """
    if not longest or spec.action_columns is None:
        raise ValueError(
            f"commands are committed, and this planner of '{spec.name}' knows no prefix; train it with --prefix, or "
            "switch chunks without (chunking='switch')"
        )
    given = np.asarray(commands, np.float64)
    if given.ndim != 2 or given.shape[1] != spec.action_dim or len(given) > longest or not np.isfinite(given).all():
        raise ValueError(
            f"committed commands have shape {given.shape}, expected ({longest} or fewer, {spec.action_dim}), all finite"
        )
    made = np.full((longest, spec.action_dim), np.nan, np.float32)
    made[: len(given)] = spec.action_columns(given, observation)
    return made


def observation_vector(given: ArrayLike, dim: int, what: str = "") -> np.ndarray:
    """Return a driver's observation as a vector (dim,) of float64 in native byte order, contiguous.

    Integers, float16, long double, lists, other byte orders and strides are converted. A vector that needs no
    conversion is returned as it is, not copied.

    Args:
        given: ``dim`` numbers.
        dim: the expected size.
        what: the end of the message about a wrong shape, such as " of hopper-v5".

    Raises:
        ObservationError: a wrong shape, no real numbers, or a number that is not finite in single precision.
    """
    if type(given) is np.ndarray and given.dtype in FLOATS and given.shape == (dim,) and given.flags.carray:
        # Neither is true where one is NaN. The first is several times faster than np.isfinite(given).all().
        if (hypot(*given.tolist()) if dim < LONG else np.abs(given).max()) < LARGEST:
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
    """Raise ObservationError unless ``observation`` has ``dim`` finite numbers. See ``observation_vector``."""
    observation_vector(observation, dim, what)


def numbers_of(spec: ControlSpec) -> dict[str, Any]:
    """Return a plain specification's numbers, from which ``plain_control(**numbers)`` makes it again.

    Raises:
        ValueError: it is more than its numbers.
    """
    if not spec.plain:
        raise ValueError(
            f"the control specification of '{spec.name}' has functions of its own; numbers do not say them"
        )
    return {
        "name": spec.name,
        "observation_dim": spec.observation_dim,
        "horizon": spec.horizon,
        "control_dt": spec.control_dt,
        "low": spec.limits.low.tolist(),
        "high": spec.limits.high.tolist(),
    }


def plain_control(
    *, name: str, observation_dim: int, horizon: int, control_dt: float, low: ArrayLike, high: ArrayLike
) -> ControlSpec:
    """Return the control interface of a body whose plan rows are [observation | action] in the body's own units.

    Any finite observation can be acted on. The command of rest is 0, clipped to the limits.

    Args:
        name: of the task.
        observation_dim: size of an observation.
        horizon: H, rows of a plan.
        control_dt: control period [s].
        low: smallest command (A,).
        high: largest command (A,).
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return ControlSpec(
        name=name,
        observation_dim=observation_dim,
        state_dim=observation_dim,
        action_dim=len(low),
        horizon=horizon,
        control_dt=control_dt,
        validate_observation=lambda observation: check_numbers(observation, observation_dim, f" of {name}"),
        goal_reached=no_goal,
        limits=Limits(low, high),
        commands=lambda plan, _observation: plan[:, observation_dim:].clip(low, high),
        action_columns=as_they_are,
        rest=np.clip(np.zeros_like(low), low, high),
        plain=True,
    )
