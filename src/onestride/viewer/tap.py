"""The loop's end of a link: what passes the loop is copied into shared memory, and what a viewer wishes is done.

A tap stands between the loop and its robot and policy, so that the loop itself knows nothing of it. It copies numbers
into memory that is there already, takes no lock that another process holds, and never waits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from onestride.control.log import EpisodeLog
from onestride.robot.control_spec import ControlSpec
from onestride.robot.decision import Decider, Decision
from onestride.robot.robot import Robot, TimedObservation
from onestride.viewer.records import CANDIDATES, FAULTS, LEVELS, ROWS, Link, decision_record, tick_record

LATE, HANGS, NAN, REPEATS = range(1, len(FAULTS))
#: Moves a thing of a simulated robot's world: the robot, the thing's name, its new position (3,) [m].
Place = Callable[[Any, str, np.ndarray], None]


class Tap:
    """Tells a viewer of one loop, episode after episode.

    Args:
        link: the rings.
        control: the loop's control interface.
        handles: names of the things that can be dragged, in the order of the rings.
        place: moves one of them in a simulated robot's world; it raises ValueError where it cannot be. None: a viewer
            can only look, as at a robot: nothing is moved, no fault injected, no episode ended.

    Raises:
        ValueError: the link was made for another control interface.
    """

    def __init__(
        self, link: Link, control: ControlSpec, handles: tuple[str, ...] = (), place: Place | None = None
    ) -> None:
        if link.ticks.dtype != tick_record(control) or link.decisions.dtype != decision_record(control):
            raise ValueError(
                f"the viewer's records are not those of '{control.name}', whose observations have "
                f"{control.observation_dim} numbers and plans {control.transition_dim} columns; make the link "
                "with this control interface (Link.of)"
            )
        self.link, self.control, self.handles, self.place = link, control, handles, place
        self.spent: list[float] | None = None  # where it is a list, how long each reading was delayed [s]
        self._log = EpisodeLog(1)
        self._wishes: Any = np.zeros((), link.wishes.dtype)
        self._seen = 0  # of the wishes
        self._moved = np.zeros_like(self._wishes["moved"])
        self._faults = self._restarts = self._episode = 0
        self._fault, self._until = 0, -math.inf
        self._command = np.full(control.action_dim, np.nan)
        self._reason: tuple[str | None, bytes] = (None, b"")
        self._last: np.ndarray | None = None  # observation, for a sensor that repeats itself

    # ------------------------------------------------------------ episodes

    def begin(self, robot: Robot, log: EpisodeLog) -> Robot:
        """Return the robot to give to ``run_episode`` for a new episode, whose log is ``log``.

        What was dragged before is forgotten: the robot has its own scene.
        """
        self._read_wishes()
        self._moved = self._wishes["moved"].copy()
        self._faults, self._restarts = int(self._wishes["faults"]), int(self._wishes["restarts"])
        self._fault, self._until, self._last = 0, -math.inf, None
        self._log, self._episode = log, self._episode + 1
        self._command[:] = np.nan
        return WatchedRobot(robot, self)

    @property
    def asked_for(self) -> tuple[bool, bool, int]:
        """Whether to quit, whether another episode is wanted, and the scene's number."""
        self._read_wishes()
        wishes = self._wishes
        return bool(wishes["quit"]), int(wishes["restarts"]) != self._restarts, int(wishes["scene"])

    def _read_wishes(self) -> None:
        if (count := self.link.wishes.count) != self._seen:
            newest = self.link.wishes.newest()
            self._wishes, self._seen = self._wishes if newest is None else newest, count

    # ------------------------------------------------------------ what passes the loop

    def decider(self, policy: Decider) -> Decider:
        """Return what decides as ``policy`` does, and later where that fault is injected."""
        return WatchedDecider(policy, self)

    def on_decision(self, observation: np.ndarray, decision: Decision) -> None:
        """Copy a decision; the loop calls it."""
        slot = self.link.decisions.slot
        every = -(-len(decision.plan) // ROWS)
        count, length = min(len(decision.plans), CANDIDATES), -(-len(decision.plan) // every)
        slot["time"], slot["took"] = time.perf_counter(), decision.timings["total"]
        slot["observation"] = observation[: slot["observation"].size]
        slot["plan"][:length] = decision.plan[::every]
        slot["plans"][:count, :length] = decision.plans[:count, ::every]
        slot["scores"][:count] = decision.scores[:count]
        slot["candidates"], slot["rows"] = count, length
        self.link.decisions.publish()

    def before_reading(self, robot: Robot) -> None:
        """Do what was wished since the last reading: move things, begin a fault."""
        if self.place is None:
            return
        self._read_wishes()
        wishes = self._wishes
        for number, name in enumerate(self.handles):
            if wishes["moved"][number] != self._moved[number]:
                self._moved[number] = wishes["moved"][number]
                try:
                    self.place(robot, name, wishes["position"][number])
                except ValueError:  # it cannot be there: it stays where it was
                    continue
        if int(wishes["faults"]) != self._faults:
            self._faults = int(wishes["faults"])
            self._fault, self._until = int(wishes["fault"]), time.perf_counter() + float(wishes["length"])
        if self.fault == HANGS:
            time.sleep(max(self._until - time.perf_counter(), 0.0))

    @property
    def fault(self) -> int:
        """The number of the fault that lasts now, 0 for none."""
        return self._fault if time.perf_counter() < self._until else 0

    @property
    def late_until(self) -> float:
        """Until when a decision is held back [s by time.perf_counter]."""
        return self._until if self._fault == LATE else -math.inf

    def faulty(self, given: np.ndarray | TimedObservation) -> np.ndarray | TimedObservation:
        """Return a reading as it comes out of a sensor with the fault that lasts now."""
        if not isinstance(given, np.ndarray) or self.place is None:
            return given
        fault = self.fault
        if fault == NAN:
            return np.full_like(given, np.nan)
        if fault == REPEATS and self._last is not None:
            return self._last
        self._last = given.copy()
        return given

    def publish(self, given: np.ndarray | TimedObservation) -> None:
        """Copy a reading and the loop's counters."""
        log, slot, now = self._log, self.link.ticks.slot, time.perf_counter()
        values = given.values if isinstance(given, TimedObservation) else given
        slot["time"], slot["passed"] = now, log.duration
        slot["episode"], slot["ticks"], slot["executed"] = self._episode, log.ticks, log.executed
        slot["filled"], slot["overruns"], slot["dropped"] = log.filled, log.overruns, log.dropped
        slot["refused"] = sum(log.refused.values())
        for level in LEVELS:
            slot[level] = log.late.get(level, 0)
        if log.last_reason is not self._reason[0]:
            self._reason = log.last_reason, (log.last_reason or "").encode()
        slot["reason"] = self._reason[1]
        numbers = slot["observation"].size
        if isinstance(values, np.ndarray) and values.ndim == 1 and values.size >= numbers:
            slot["observation"] = values[:numbers]
        else:
            slot["observation"] = np.nan  # of no shape that can be shown
        slot["command"] = self._command
        self.link.ticks.publish()

    def sent(self, command: np.ndarray) -> None:
        """Note the command that the robot gets."""
        self._command[:] = command


class WatchedRobot:
    """A robot that a viewer is told of. ``run_episode`` takes it in the robot's place."""

    def __init__(self, robot: Robot, tap: Tap) -> None:
        self.robot, self.tap, self.stop = robot, tap, robot.stop

    def read(self) -> np.ndarray | TimedObservation:
        """Do what a viewer wished, read the robot, and tell the viewer."""
        began = time.perf_counter()
        self.tap.before_reading(self.robot)
        asked = time.perf_counter()
        given = self.robot.read()
        came = time.perf_counter()
        given = self.tap.faulty(given)
        self.tap.publish(given)
        if self.tap.spent is not None:
            self.tap.spent.append(asked - began + time.perf_counter() - came)
        return given

    def write(self, command: np.ndarray) -> None:
        """Send the command."""
        self.robot.write(command)
        self.tap.sent(command)

    def fault(self) -> str | None:
        """Return the robot's fault, or that a viewer asked for another episode of a simulated one."""
        ended = self.tap.place is not None and any(self.tap.asked_for[:2])
        return "ended by the viewer" if ended else self.robot.fault()


class WatchedDecider:
    """Decides as ``policy`` does, and later where that fault is injected."""

    def __init__(self, policy: Decider, tap: Tap) -> None:
        self.policy, self.tap = policy, tap

    @property
    def longest_prefix(self) -> int:
        """How many commands may be committed when it decides."""
        return getattr(self.policy, "longest_prefix", 0)

    def decide(self, observation: np.ndarray, *, committed: np.ndarray | None = None) -> Decision:
        """Return the policy's decision, as late as a fault makes it."""
        decide: Any = self.policy.decide
        decision = decide(observation) if committed is None else decide(observation, committed=committed)
        left = self.tap.late_until - time.perf_counter()
        if left > 0:
            time.sleep(left)
        return decision
