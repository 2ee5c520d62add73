"""Synchronous inference: a tick decides, then sends, however late that is. Meanwhile the robot holds its command."""

from __future__ import annotations

import math
import time
from functools import partial

from onestride.control.episode import AGED, Episode, Gate, commands_of, why_not
from onestride.control.sensor import Reading
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decider, Decision, NoPlanError, decided


class SynchronousTick:
    """Decides within the tick."""

    def __init__(self, episode: Episode, policy: Decider) -> None:
        self.episode, self.policy = episode, policy
        self._usable = episode.start  # until when there were observations that could be acted on

    def catch_up(self, periods: int) -> None:
        """Nothing: ticks that were missed are counted when the decision is there."""

    def observe(self) -> Reading | None:
        """Return this tick's reading, waiting for it as long as the robot may go on without one."""
        e = self.episode
        if not e.reader.busy:
            e.reader.request()
        return e.reader.poll(self._usable + e.ladder.patience.stop)

    def tick(self, reading: Reading | None, refusal: str | None) -> str | None:
        """Decide about a reading, send, and move the log on by the periods that passed.

        Returns:
            Why the episode is over, or None.
        """
        e, log = self.episode, self.episode.log
        if reading is None or refusal is not None:
            if refusal is not None:
                log.hold(refusal)
            if e.clock.now() - self._usable > e.ladder.patience.stop:
                why = f" ({refusal})" if refusal else ""
                return f"stopped: no observation to act on for {e.ladder.patience.stop:g} s{why}"
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
        decision = self._decide(reading)
        if decision is None:
            return
        command, observation = decision.action, reading.observation
        if e.task.position_commands:
            e.ladder.take(partial(commands_of, e.task, decision.plan, observation), reading.time)
            if e.ladder.rows_since(reading.time, seen) > AGED:  # a slow sensor: its sample was old when it came
                observation = e.observation_at(reading, seen)
                row = e.ladder.row_at(seen, Gate(e.task, observation, None))
                command = command if row is None else row
        violation = e.task.limits.violation(command, observation)
        if violation is not None:
            log.hold(f"command refused: {violation}")
            return
        rest = e.rest(reading.observation)
        e.send(command, rest, e.clock.now())
        e.ladder.sent(command, rest, e.clock.now())
        log.executed += 1

    def _decide(self, reading: Reading) -> Decision | None:
        """The decision, or None to hold."""
        e, log = self.episode, self.episode.log
        began, decision = time.perf_counter(), None
        try:
            decision = decided(self.policy, reading.observation)
        except (NoPlanError, ObservationError) as error:
            log.hold(why_not(error))
        took = time.perf_counter() - began
        e.clock.charge(took)
        log.decided.add(e.passed, took)
        if decision is not None and e.on_decision is not None:
            e.on_decision(reading.observation, decision)
        return decision
