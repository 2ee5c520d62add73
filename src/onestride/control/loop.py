"""The one episode loop: simulation, evaluation and hardware differ only in robot and clock.

Deadlines are absolute: tick k is due at start + k * period. A decision is made in one of two ways.

Within the tick (a ``Decider``): a decision that is not ready by the next tick is sent late and skips the ticks it
missed (never a burst); until it is ready the robot holds the last command.

Beside the loop (a ``Beside``, see ``worker.py``): each tick has until the next one. Shortly before that the
late-command ladder acts for it (``ladder.py``), on an observation of that moment, so that no period is without a
command; a decision that comes after all is sent too. Where commands are positions, a decision that took long is moved
on along its plan: what is sent is for the time from now on. What was computed from an observation older than its
expiry is dropped, never sent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from onestride.control.clock import Clock
from onestride.control.decision import Decider, Decision, NoPlanError, decided
from onestride.control.ladder import Ladder, Patience
from onestride.control.log import EpisodeLog
from onestride.control.robot import Robot
from onestride.control.signals import Signals
from onestride.tasks.interface import Interface, ObservationError

#: Of a period, at most so many seconds: how long before its end the ladder acts for a tick without a decision.
MARGIN, LONGEST_MARGIN = 0.1, 0.002
#: Of a plan's row: a decision that takes longer is moved on along its plan when it is sent, where rows are positions.
AGED = 0.2


@dataclass(frozen=True)
class Answer:
    """A decision, or why there is none, about the observation (observation_dim,) of time ``observed``.

    took: its wall time [s]. number: how many answers this one makes; a gap says that one was replaced unseen.
    """

    observed: float
    observation: np.ndarray
    decision: Decision | None
    no_plan: NoPlanError | ObservationError | None
    took: float
    number: int


@runtime_checkable
class Beside(Protocol):
    """Decides while the loop goes on."""

    def ask(self, observation: np.ndarray, observed: float) -> None:
        """Decide about this one next; one that still waits is replaced."""
        ...

    def answer(self, until: float) -> Answer | None:
        """The newest answer nobody took yet; waits for it up to clock time ``until``, then None."""
        ...


#: Called with every observation and the decision it led to, after the clock has been charged.
OnDecision = Callable[[np.ndarray, Decision], None]


def run_episode(
    robot: Robot,
    clock: Clock,
    policy: Decider | Beside,
    task: Interface,
    *,
    timeout: float,
    period: float | None = None,
    patience: Patience | None = None,
    on_decision: OnDecision | None = None,
    log: EpisodeLog | None = None,
) -> EpisodeLog:
    """Observe, decide, check, command, once per control period, until arrival, fault or ``timeout`` [s].

    A refused observation (not finite, wrong shape) or command (not finite, out of limits) sends nothing: the
    robot holds, the event is counted by its reason, and the next tick tries again. Whatever happens, an
    exception or a signal to end (SIGINT, SIGTERM, SIGHUP) included, the robot is stopped at the end. Signals come to a
    process's main thread alone: from another one, whoever runs the loop has to see to them.

    period [s] between ticks: by default the task's. patience: with late decisions of a policy beside the loop; by
    default what suits the period. log: a new one, filled as the episode goes on; whoever gave it has it after an
    exception too.

    Raises:
        ValueError: with this patience every decision would have expired before it can be sent, or there is no such
            period or timeout, or the log is of another episode.
        SystemExit: SIGTERM or SIGHUP came, and nothing else handles it.
    """
    dt = task.control_dt if period is None else period
    if not (0 < dt < math.inf and 0 <= timeout < math.inf):
        raise ValueError(f"period is {dt:g} s and timeout {timeout:g} s; expected finite times, the period above 0")
    dwell = round(task.dwell * task.control_dt / dt)
    if log is None:
        log = EpisodeLog.lasting(timeout, dt)
    elif log.ticks or log.duration:
        raise ValueError(f"the log holds {log.ticks} ticks of another episode; give a new one")
    start = log.began = clock.now()
    if isinstance(policy, Beside):
        ticking = _BesideTick(robot, clock, policy, task, dt, start, patience or Patience.at(dt), on_decision, log)
    else:
        ticking = _WithinTick(robot, clock, policy, task, dt, start, on_decision, log)
    arrived, signals = 0, Signals()
    try:
        signals.watch()
        while True:
            now = clock.now()  # before reading: an observation is at least as old as it is taken to be
            observation = np.array(robot.read())  # a driver may fill the same array again
            log.duration, log.final_observation = now - start, observation
            due = log.ticks * dt
            ticking.catch_up(_periods(now - start, dt, timeout))
            refusal = _refusal(task, observation)
            arrived = arrived + 1 if refusal is None and task.arrived(observation) else 0
            fault = robot.fault()
            if fault is not None:
                log.outcome = fault
                break
            if arrived > dwell:
                log.success, log.outcome = True, "arrived"
                break
            if now - start >= timeout:
                break
            log.started.add(due, now - start - due)
            ended = ticking.tick(observation, refusal, now)
            if ended is not None:
                log.outcome, log.duration = ended, clock.now() - start
                ticking.catch_up(_periods(log.duration, dt, timeout))
                break
            clock.sleep_until(start + log.ticks * dt)
    except BaseException as error:
        log.outcome, log.duration = f"ended by {type(error).__name__}", clock.now() - start
        raise
    finally:
        signals.wait()
        robot.stop()
        signals.leave()
    return log


def _periods(passed: float, dt: float, timeout: float) -> int:
    """Whole control periods in ``passed`` [s]; beyond the timeout there are no more ticks."""
    return math.floor(passed / dt + 1e-9) if passed < timeout else math.ceil(timeout / dt - 1e-9)


def _refusal(task: Interface, observation: np.ndarray) -> str | None:
    """Why an observation cannot be acted on, or None."""
    try:
        task.check(observation)
    except ObservationError as error:
        return _why_not(error)
    return None


def _why_not(error: NoPlanError | ObservationError) -> str:
    return f"{'no plan' if isinstance(error, NoPlanError) else 'observation refused'}: {error}"


# ---------------------------------------------------------------- a tick: from an observation to a command


class _Gate:
    """Whether commands may be sent from where the robot is now; ``reason`` is why the first that may not may not."""

    def __init__(self, task: Interface, observation: np.ndarray) -> None:
        self.limits, self.observation, self.refusal = task.limits, observation, _refusal(task, observation)
        self.reason: str | None = None

    def __call__(self, command: np.ndarray) -> bool:
        violation = self.refusal or self.limits.violation(command, self.observation)
        self.reason = self.reason or violation
        return violation is None


@dataclass
class _WithinTick:
    """Decides, then sends, however late that is."""

    robot: Robot
    clock: Clock
    policy: Decider
    task: Interface
    dt: float
    start: float
    on_decision: OnDecision | None
    log: EpisodeLog

    def catch_up(self, periods: int) -> None:
        """Nothing: ticks that were missed are counted when the decision is there."""

    def tick(self, observation: np.ndarray, refusal: str | None, now: float) -> str | None:
        """Moves the log on by the periods that passed. Returns why the episode is over: never."""
        del now
        log = self.log
        if refusal is not None:
            log.hold(refusal)
        elif (command := self._decide(observation)) is not None:
            self.robot.write(command)
            log.wrote(self.clock.now() - self.start, self.dt)
            log.executed += 1
        late = math.floor((self.clock.now() - self.start) / self.dt + 1e-9) - log.ticks  # periods since this tick
        if late >= 1:
            log.overruns += 1
        log.ticks += late + 1
        return None

    def _decide(self, observation: np.ndarray) -> np.ndarray | None:
        """The command to send, or None to hold."""
        began = time.perf_counter()
        try:
            decision = decided(self.policy, observation)
        except (NoPlanError, ObservationError) as error:
            self.log.hold(_why_not(error))
            decision = None
        took = time.perf_counter() - began
        self.clock.charge(took)
        self.log.decided.add(self.clock.now() - self.start, took)
        if decision is None:
            return None
        if self.on_decision is not None:
            self.on_decision(observation, decision)
        violation = self.task.limits.violation(decision.action, observation)
        if violation is not None:
            self.log.hold(f"command refused: {violation}")
            return None
        return decision.action


class _BesideTick:
    """Asks, and sends the answer if it comes before the next tick is due; the ladder acts for ticks without one."""

    def __init__(
        self,
        robot: Robot,
        clock: Clock,
        policy: Beside,
        task: Interface,
        dt: float,
        start: float,
        patience: Patience,
        on_decision: OnDecision | None,
        log: EpisodeLog,
    ) -> None:
        if patience.expiry < dt:
            raise ValueError(
                f"expiry is {patience.expiry:g} s, shorter than the control period of {dt:g} s: decisions could expire "
                "before they are late; allow at least one period"
            )
        self.robot, self.clock, self.policy, self.task = robot, clock, policy, task
        self.dt, self.start, self.on_decision, self.log = dt, start, on_decision, log
        self.ladder = Ladder(patience, task.control_dt, start, task.positions)
        self.number: int | None = None  # of the last answer

    def catch_up(self, periods: int) -> None:
        """So many have passed: count the ticks that never began, because this process stood still."""
        asleep = periods - self.log.ticks
        if asleep > 0:
            self.log.overruns += asleep
            self.log.ticks += asleep

    def tick(self, observation: np.ndarray, refusal: str | None, now: float) -> str | None:
        """Moves the log on by one period. Returns why the episode is over, or None."""
        log, sent, ended = self.log, self.log.executed, None
        deadline = self.start + (log.ticks + 1) * self.dt
        soon = deadline - min(MARGIN * self.dt, LONGEST_MARGIN)
        if refusal is not None:
            log.hold(refusal)
        else:
            self.policy.ask(observation, now)
        answered = refusal is not None or self._answered(observation, now, soon, deadline)
        if log.executed == sent:
            self.clock.sleep_until(soon)
            ended = self._late()
            answered = answered or self._answered(observation, now, deadline, deadline)
        log.overruns += not answered
        log.ticks += 1
        return ended

    def _answered(self, observation: np.ndarray, asked: float, until: float, deadline: float) -> bool:
        """Wait for this tick's decision up to ``until``. Returns whether the tick is answered."""
        while (answer := self.policy.answer(until)) is not None:
            if answer.observed < self.start:
                continue  # of the episode before
            answered = self._take(answer, observation, asked, deadline)
            if self.on_decision is not None and answer.decision is not None:
                self.on_decision(answer.observation, answer.decision)  # after the command is sent
            if answered:
                return True
        return False

    def _take(self, answer: Answer, observation: np.ndarray, asked: float, deadline: float) -> bool:
        """Send what is in time, keep what is late for the ladder, drop what has expired. Returns whether this
        tick is answered."""
        log, now = self.log, self.clock.now()
        if self.number is not None:
            log.replaced += answer.number - self.number - 1
        self.number = answer.number
        log.decided.add(now - self.start, answer.took)
        own = answer.observed == asked and now < deadline
        if answer.decision is None:
            if answer.no_plan is not None:
                log.hold(_why_not(answer.no_plan))
            return own
        if not self.ladder.fresh(answer.observed, now):
            log.dropped += 1
            return False
        command = answer.decision.action
        violation = self.task.limits.violation(command, answer.observation)
        if violation is not None:
            log.hold(f"command refused: {violation}")
            return own
        self.ladder.take(partial(commands_of, self.task, answer), answer.observed)
        if own and self.task.positions and self.ladder.rows_since(answer.observed, now) > AGED:
            command = self._moved_on(command, now)
            if command is None:
                return True
        now = self.clock.now()  # again, directly before the write: this process may have stood still since
        if not own or now >= deadline:
            return False
        self.robot.write(command)
        log.wrote(now - self.start, self.dt)
        log.executed += 1
        log.sent.add(now - self.start, now - answer.observed)
        self.ladder.sent(command, self._rest(observation), now)
        return True

    def _moved_on(self, command: np.ndarray, now: float) -> np.ndarray | None:
        """What the plan wants from now on, where its decision took long, or None where nothing may be sent from where
        the robot is by now. What was within limits from where it was seen need not be any more: sent all the same, it
        made the arm swing to and fro."""
        gate = _Gate(self.task, np.array(self.robot.read()))
        row = self.ladder.row(now, gate)
        if row is None and gate.reason is None and gate(command):  # its rows are no commands
            row = command
        if row is None:
            self.log.hold(f"command refused: {gate.reason}")
        return row

    def _late(self) -> str | None:
        """The ladder's command for a tick without a decision. Without a usable observation nothing can be checked or
        sent."""
        log, now = self.log, self.clock.now()
        observation = np.array(self.robot.read())
        gate = _Gate(self.task, observation)
        rest = self._rest(observation) if gate.refusal is None else None
        rung, command = self.ladder.late(now, rest, gate)
        if rung == "stop":
            log.late[rung] += 1
            last = f" ({log.last_reason})" if log.last_reason else ""
            return f"stopped: no decision for {self.ladder.patience.stop:g} s{last}"
        if gate.refusal is not None:
            return None
        if rung != "plan" and gate.reason is not None:  # a plan that went astray: slow down
            log.hold(f"late command refused: {gate.reason}")
        if command is not None:
            violation = None if rung == "plan" else self.task.limits.violation(command, observation)
            read, now = now, self.clock.now()  # again, directly before the write
            if not self.ladder.fresh(self.ladder.observed if rung == "plan" else read, now):
                violation = "expired"
            if violation is not None:
                log.hold(f"late command refused: {violation}")
                return None
            self.robot.write(command)
            log.wrote(now - self.start, self.dt)
            log.filled += 1
            if rung == "plan":
                log.sent.add(now - self.start, now - self.ladder.observed)
                self.ladder.sent(command, rest, now)
        log.late[rung] += 1
        return None

    def _rest(self, observation: np.ndarray) -> np.ndarray | None:
        return self.task.rest(observation) if self.task.rest is not None else None


def commands_of(task: Interface, answer: Answer) -> np.ndarray | None:
    """Every row of the chosen plan as a command (H, A), or None where the task's rows are none."""
    if task.commands is None or answer.decision is None:
        return None
    return task.commands(answer.decision.plan.astype(np.float64), answer.observation)
