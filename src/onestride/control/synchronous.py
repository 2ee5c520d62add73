"""Synchronous inference: a tick decides, then sends, however late that is. Meanwhile the robot keeps its command."""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np

from onestride.control.episode import COMPENSATION_THRESHOLD, Episode, SafetyFilter, commands_of, why_not
from onestride.control.sensor import Reading
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decider, Decision, NoPlanError, decided


class SynchronousTick:
    """One tick of synchronous inference: it waits for the decision of ``policy``."""

    def __init__(self, episode: Episode, policy: Decider) -> None:
        self.episode, self.policy = episode, policy
        self._rows: np.ndarray | None = None  # commands of the plan in hand
        self._began = episode.start  # when its first was sent [s]
        self._observed = episode.start  # when what it is about was observed [s]
        self._usable = episode.start  # when the last observation that could be acted on was used [s]

    def catch_up(self, periods: int) -> None:
        """Do nothing: missed ticks are counted when the decision is there."""

    def observe(self) -> Reading | None:
        """Return this tick's reading, or None where it takes longer than the robot may go on without one."""
        e = self.episode
        if not e.reader.busy:
            e.reader.request()
        return e.reader.poll(self._usable + e.fallback.timeouts.stop)

    def tick(self, reading: Reading | None, refusal: str | None) -> str | None:
        """Decide about a reading, send the command, and advance the log by the periods that passed.

        Args:
            reading: the tick's reading, or None where there is none.
            refusal: why the reading cannot be acted on, or None.

        Returns:
            Why the episode is over, or None where it goes on.
        """
        e, log = self.episode, self.episode.log
        if reading is None or refusal is not None:
            if refusal is not None:
                log.refuse(refusal)
                self._slow_down()
            if e.clock.now() - self._usable > e.fallback.timeouts.stop:
                why = f" ({refusal})" if refusal else ""
                return f"stopped: no observation to act on for {e.fallback.timeouts.stop:g} s{why}"
        else:
            self._act(reading)
            self._usable = e.clock.now()
        late = math.floor(e.passed / e.dt + 1e-9) - log.ticks  # periods since this tick
        if late >= 1:
            log.overruns += 1
        log.ticks += late + 1
        return None

    def _act(self, reading: Reading) -> None:
        e, log, seen = self.episode, self.episode.log, self.episode.clock.now()
        row = self._in_hand(seen)
        if row is not None and e.control.limits.violation(row, reading.observation) is None:
            self._send(row, reading)
            return
        self._rows, self._observed = None, reading.time
        decision = self._decide(reading)
        if decision is None:
            return
        command, observation = decision.action, reading.observation
        if e.control.position_commands:
            e.fallback.take(partial(commands_of, e.control, decision.plan, observation), reading.time)
            if e.fallback.rows_since(reading.time, seen) > COMPENSATION_THRESHOLD:  # the sample was old when it came
                observation = e.observation_at(reading, seen)
                row = e.fallback.row_at(seen, SafetyFilter(e.control, observation, None))
                command = command if row is None else row
        violation = e.control.limits.violation(command, observation)
        if violation is not None:
            log.refuse(f"command refused: {violation}")
            return
        self._began = e.clock.now()
        self._send(command, reading)
        if e.control.n_action_steps > 1:
            self._rows = commands_of(e.control, decision.plan, reading.observation)

    def _slow_down(self) -> None:
        """Send the way to rest, where that needs no observation. Otherwise the robot keeps its command."""
        e, rest, now = self.episode, self.episode.control.rest, self.episode.clock.now()
        command = None if rest is None else e.fallback.toward_rest(now, rest)
        if command is not None:
            e.send(command, rest, now)
            e.log.filled += 1
            e.log.late["hold"] += 1

    def _in_hand(self, now: float) -> np.ndarray | None:
        """Return the command of the plan in hand for the period that begins ``now``, or None where it is carried out.

        Rows whose period has passed, since this process stood still or the decision took long, are left out.
        """
        if self._rows is None:
            return None
        number = round((now - self._began) / self.episode.control.control_dt)
        return self._rows[number] if number < self.episode.control.n_action_steps else None

    def _send(self, command: np.ndarray, reading: Reading) -> None:
        e = self.episode
        hold, now = e.control.hold(reading.observation), e.clock.now()
        sent = e.send(command, hold, now)
        e.log.command_age.add(now - e.start, now - self._observed)
        e.fallback.mark_sent(sent, hold, e.clock.now())
        e.log.executed += 1

    def _decide(self, reading: Reading) -> Decision | None:
        """Return the decision, or None where the robot has to keep its command."""
        e, log = self.episode, self.episode.log
        began, decision = time.perf_counter(), None
        try:
            decision = decided(self.policy, reading.observation)
        except (NoPlanError, ObservationError) as error:
            log.refuse(why_not(error))
        took = time.perf_counter() - began
        e.clock.charge(took)
        log.decision_times.add(e.passed, took)
        if decision is not None and e.on_decision is not None:
            e.on_decision(reading.observation, decision)
        return decision
