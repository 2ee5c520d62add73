"""What a loop and its viewer tell one another: records of fixed size, one ring for each kind and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from onestride.robot.control_spec import ControlSpec
from onestride.viewer.shared_ring import SharedRing

#: At most so many candidates and rows of a plan are sent: of a longer plan every second, third, ... row.
CANDIDATES, ROWS = 64, 64
#: At most so many things can be dragged.
HANDLES = 8
#: Levels of the fallback in the order of ``TICKS``' counters.
LEVELS = ("plan", "hold", "standing", "stop")
#: What a loop is doing, by the number in ``STATUS``.
Phase = Literal["loading", "warming up", "driving", "over", "failed"]
PHASES: tuple[Phase, ...] = get_args(Phase)
#: Faults that a viewer may inject, by their number in ``WISHES``. Each lasts for as long as it is asked to.
FAULTS = ("none", "decision late", "sensor hangs", "sensor gives NaN", "sensor repeats itself")

STATUS = np.dtype([("phase", "i8"), ("scene", "i8"), ("synchronous", "?"), ("text", "S240")])
WISHES = np.dtype(
    [
        ("moved", "i8", (HANDLES,)),  # how often each handle was moved
        ("position", "f8", (HANDLES, 3)),
        ("faults", "i8"),  # how many were injected
        ("fault", "i8"),  # the last one's number in FAULTS
        ("length", "f8"),  # how long it lasts [s]
        ("restarts", "i8"),  # how many new episodes were asked for
        ("scene", "i8"),  # number of the scene that they are in
        ("quit", "?"),
    ]
)


def tick_record(control: ControlSpec) -> np.dtype:
    """Return the record of one reading of the robot, with the loop's counters at that moment."""
    counters = ("episode", "ticks", "executed", "filled", "overruns", "dropped", "refused", *LEVELS)
    return np.dtype(
        [
            ("time", "f8"),  # time.perf_counter [s]
            ("passed", "f8"),  # since the episode's start [s]
            *((name, "i8") for name in counters),
            ("reason", "S160"),  # the last one for which something was refused
            ("observation", "f8", (control.numbers_dim,)),  # without images
            ("command", "f8", (control.action_dim,)),  # the last one that was sent
        ]
    )


def decision_record(control: ControlSpec) -> np.dtype:
    """Return the record of one decision: its candidates, their scores and the chosen plan.

    It does not depend on the horizon: a policy's plans may be shorter than its task's.
    """
    columns = control.transition_dim
    return np.dtype(
        [
            ("time", "f8"),  # time.perf_counter when it was known [s]
            ("took", "f8"),  # [s]
            ("observation", "f8", (control.observation_dim if not control.cameras else control.numbers_dim,)),
            ("plan", "f4", (ROWS, columns)),
            ("plans", "f4", (CANDIDATES, ROWS, columns)),
            ("scores", "f4", (CANDIDATES,)),
            ("candidates", "i8"),  # how many of them there are
            ("rows", "i8"),
        ]
    )


@dataclass(frozen=True)
class Link:
    """The rings between one loop and its viewer.

    Attributes:
        name: of what decides, such as "dnk-0".
        ticks: of ``tick_record``, from the loop.
        decisions: of ``decision_record``, from the loop.
        status: of ``STATUS``, from the loop.
        wishes: of ``WISHES``, from the viewer.
    """

    name: str
    ticks: SharedRing
    decisions: SharedRing
    status: SharedRing
    wishes: SharedRing

    @classmethod
    def of(cls, name: str, control: ControlSpec) -> Link:
        """Return new rings for a loop of this control interface: five seconds of ticks at 100 Hz, four decisions."""
        return cls(
            name,
            SharedRing(tick_record(control), 512),
            SharedRing(decision_record(control), 4),
            SharedRing(STATUS, 16),
            SharedRing(WISHES, 16),
        )

    def say(self, phase: Phase, scene: int, text: str = "", *, synchronous: bool = False) -> None:
        """Tell the viewer what the loop is doing, in which scene, and a line about it, which may be cut off.

        synchronous: whether the loop waits for its decisions.
        """
        slot = self.status.slot
        slot["phase"], slot["scene"], slot["synchronous"] = PHASES.index(phase), scene, synchronous
        slot["text"] = text.encode()
        self.status.publish()
