"""Asynchronous inference: each tick asks, and sends the answer if it comes before the next tick is due.

Shortly before that the late-command ladder acts for it (``ladder.py``), so that no period is without a command; a
decision that comes after all is kept for the ladder. Where commands are positions, a decision that took long is moved
on along its plan: what is sent is for the time from now on. What was computed from an observation older than its expiry
is dropped, never sent.

**Lateness does not feed itself.** A late tick reads no more than a timely one, but where a reading costs next to
nothing. After a stall, what would end in the next tick and make that one late as well is left out, be it a reading, a
decision or a command, where the three fit a period when they begin on time. So a tick soon begins with an idle sensor
and an idle policy, and is on time.
"""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np

from onestride.control.episode import AGED, Episode, Gate, commands_of, why_not
from onestride.control.sensor import Expected, Reading
from onestride.robot.decision import Answer, Beside

#: Of a period, at most so many seconds: how long before its end the ladder acts for a tick without a decision.
MARGIN, LONGEST_MARGIN = 0.1, 0.002
#: A reading that takes no more than this of a period may be taken again before a late command is sent.
CHEAP_READING = 0.1
#: Of times that are sums of others [s].
ROUNDING = 1e-9
#: Observations asked about lately, by which answers are known to be of this episode.
ASKED = 64


class AsynchronousTick:
    """Asks ``policy`` and goes on."""

    def __init__(self, episode: Episode, policy: Beside) -> None:
        self.episode, self.policy = episode, policy
        self._reads, self._decides = Expected(), Expected()
        self._reading: Reading | None = None  # the last
        self._refusal: str | None = None  # why that cannot be acted on
        self._asked: deque[float] = deque(maxlen=ASKED)  # times of the observations asked about
        self._since: float | None = None  # the policy has been at work on one since then; None: idle
        self._number: int | None = None  # of the last answer

    # ------------------------------------------------------------ when

    @property
    def _due(self) -> float:
        """When this tick is due, by the clock [s]."""
        return self.episode.start + self.episode.log.ticks * self.episode.dt

    @property
    def _deadline(self) -> float:
        return self.episode.start + (self.episode.log.ticks + 1) * self.episode.dt

    @property
    def _soon(self) -> float:
        """When the ladder acts for this tick: early enough for its command to be written by the deadline."""
        return max(self._deadline - max(self._margin, self._writes), self._due)

    @property
    def _margin(self) -> float:
        return min(MARGIN * self.episode.dt, LONGEST_MARGIN)

    def _spills(self, now: float, deadline: float) -> bool:
        """Whether a command written now would delay the next tick, though none needs to."""
        return self._fits and now + self._writes > deadline + ROUNDING

    @property
    def _writes(self) -> float:
        """How long a command is expected to take to write [s]."""
        return self.episode.writes.seconds or 0.0

    @property
    def _fits(self) -> bool:
        """Whether a tick that begins on time is expected to read, decide and write within its period."""
        reads, decides = self._reads.seconds, self._decides.seconds
        return reads is not None and decides is not None and reads + decides + self._writes <= self.episode.dt

    def catch_up(self, periods: int) -> None:
        """So many have passed: count the ticks that never began, because this process or its sensor stood still."""
        log = self.episode.log
        asleep = periods - log.ticks
        if asleep > 0:
            log.overruns += asleep
            log.ticks += asleep

    # ------------------------------------------------------------ a tick

    def observe(self) -> Reading | None:
        """Return this tick's reading; None where it is late, or would make the next one late."""
        e = self.episode
        if not e.reader.busy:
            if self._fits and e.clock.now() + (self._reads.seconds or 0.0) > self._deadline + ROUNDING:
                return None
            e.reader.request()
        return self._poll(self._soon)

    def tick(self, reading: Reading | None, refusal: str | None) -> str | None:
        """Ask about a reading, send what is in time, and move the log on by one period.

        Returns:
            Why the episode is over, or None.
        """
        e, log, sent = self.episode, self.episode.log, self.episode.log.executed
        self.catch_up(e.periods(e.passed))  # the reading may have taken several
        if e.passed >= e.timeout:
            return None
        deadline, soon, asked, answered = self._deadline, self._soon, None, False
        if reading is not None:
            self._reading, self._refusal = reading, refusal
            if refusal is not None:
                log.hold(refusal)
                answered = True
            else:
                asked = self._ask(reading)
        if not answered:
            answered = self._answered(asked, soon, deadline)
        ended = None
        if log.executed == sent:
            e.clock.sleep_until(soon)
            ended = self._late(deadline)
            answered = answered or self._answered(asked, deadline, deadline)
        log.overruns += not answered
        log.ticks += 1
        if not self._fits and not e.reader.busy and self._reads.seconds is not None and self._reads.seconds > e.dt:
            e.reader.request()  # the sensor is slower than the ticks: it goes at its own pace
        return ended

    def _poll(self, until: float) -> Reading | None:
        reading = self.episode.reader.poll(until)
        if reading is not None:
            self._reads.add(reading.took)
        return reading

    # ------------------------------------------------------------ the policy

    def _ask(self, reading: Reading) -> float | None:
        """Ask about a reading, unless the answer would be late and make the next tick's late as well. Returns the
        observation's time where it was asked about."""
        e, expected = self.episode, self._decides.seconds
        while self._since is not None and (answer := self.policy.answer(e.clock.now())) is not None:
            self._take(answer, None, 0.0)
        now = e.clock.now()
        if expected is not None:
            begins = now if self._since is None else max(now, self._since + expected)
            done = begins + expected + self._writes
            if self._fits and done > self._deadline + ROUNDING and done + expected > self._deadline + e.dt + ROUNDING:
                return None
        if self._since is None:
            self._since = now
        self._asked.append(reading.time)
        self.policy.ask(reading.observation, reading.time)
        return reading.time

    def _answered(self, asked: float | None, until: float, deadline: float) -> bool:
        """Wait for the decision about the observation of time ``asked`` up to ``until``. Returns whether this tick is
        answered."""
        if self._since is None:
            return False
        while (answer := self.policy.answer(until)) is not None:
            if self._take(answer, asked, deadline):
                return True
        return False

    def _take(self, answer: Answer, asked: float | None, deadline: float) -> bool:
        """Use an answer and show it to who watches. Returns whether this tick is answered."""
        if answer.observed not in self._asked:
            return False  # of the episode before
        log, now = self.episode.log, self.episode.clock.now()
        if self._number is not None:
            log.replaced += answer.number - self._number - 1
        self._number = answer.number
        self._since = None if answer.observed == self._asked[-1] else now
        self._decides.add(answer.took)
        log.decided.add(now - self.episode.start, answer.took)
        answered = self._use(answer, answer.observed == asked and now < deadline, deadline)
        if self.episode.on_decision is not None and answer.decision is not None:
            self.episode.on_decision(answer.observation, answer.decision)  # after the command is sent
        return answered

    def _use(self, answer: Answer, own: bool, deadline: float) -> bool:
        """Send what is in time, keep what is late for the ladder, drop what has expired.

        own: it is this tick's, and in time. Returns whether this tick is answered.
        """
        e, log = self.episode, self.episode.log
        if answer.decision is None:
            if answer.no_plan is not None:
                log.hold(why_not(answer.no_plan))
            return own
        now = e.clock.now()
        if not e.ladder.fresh(answer.observed, now):
            log.dropped += 1
            return False
        command = answer.decision.action
        violation = e.task.limits.violation(command, answer.observation)
        if violation is not None:
            log.hold(f"command refused: {violation}")
            return own
        e.ladder.take(partial(commands_of, e.task, answer.decision.plan, answer.observation), answer.observed)
        if own and e.task.position_commands and e.ladder.rows_since(answer.observed, now) > AGED:
            command = self._moved_on(command, now, deadline)
            if command is None:
                return True
        now = e.clock.now()  # again, directly before the write: this process may have stood still since
        if not own or now >= deadline or self._spills(now, deadline):
            return False
        rest = e.rest(answer.observation)
        e.send(command, rest, now)
        log.executed += 1
        log.sent.add(now - e.start, now - answer.observed)
        e.ladder.sent(command, rest, now)
        return True

    def _moved_on(self, command: np.ndarray, now: float, deadline: float) -> np.ndarray | None:
        """What the plan wants from now on, where its decision took long, or None where nothing may be sent from where
        the robot is by now. What was within limits from where it was seen need not be any more: sent all the same, it
        made the arm swing to and fro."""
        e = self.episode
        gate = self._gate(deadline)
        row = e.ladder.row(now, gate)
        if row is None and gate.reason is None and gate(command):  # its rows are no commands
            row = command
        if row is None:
            e.log.hold(f"command refused: {gate.reason}")
        return row

    # ------------------------------------------------------------ the ladder

    def _late(self, deadline: float) -> str | None:
        """Send the ladder's command for a tick without a decision. Without a usable observation nothing can be checked
        or sent. Returns why the episode is over, or None."""
        e, log, began = self.episode, self.episode.log, self.episode.clock.now()
        gate = self._gate(deadline)
        rest = e.rest(gate.observation) if gate.refusal is None else None
        rung, command = e.ladder.late(began, rest, gate)
        if rung == "stop":
            log.late[rung] += 1
            why = gate.refusal or log.last_reason
            return f"stopped: no decision for {e.ladder.patience.stop:g} s{f' ({why})' if why else ''}"
        if gate.refusal is not None:
            return None
        if rung != "plan" and gate.reason is not None:  # a plan that went astray: slow down
            log.hold(f"late command refused: {gate.reason}")
        if command is not None:
            violation = None if rung == "plan" else e.task.limits.violation(command, gate.observation)
            now = e.clock.now()  # again, directly before the write
            if not e.ladder.fresh(e.ladder.observed if rung == "plan" else began, now):
                violation = "expired"
            if violation is not None:
                log.hold(f"late command refused: {violation}")
                return None
            # After a pause beyond the deadline a command is sent all the same, where it costs next to nothing.
            if self._spills(now, deadline) and (now < deadline or self._writes > self._margin):
                return None
            e.send(command, rest, now)
            log.filled += 1
            if rung == "plan":
                log.sent.add(now - e.start, now - e.ladder.observed)
                e.ladder.sent(command, rest, now)
        log.late[rung] += 1
        return None

    def _gate(self, deadline: float) -> Gate:
        """The gate from where the robot is now: by a reading of this moment where that costs next to nothing, else by
        the last one."""
        e, reads, now = self.episode, self._reads.seconds, self.episode.clock.now()
        affordable = CHEAP_READING * e.dt
        if now < deadline:
            affordable = min(affordable, deadline - 2 * self._writes - now)  # this command, and a decision's after all
        if reads is not None and reads <= affordable and not e.reader.busy:
            e.reader.request()
            if (reading := self._poll(now + affordable)) is not None:
                self._reading, self._refusal = reading, e.watch.refusal(reading, e.clock.now())
        now, reading, refusal = e.clock.now(), self._reading, self._refusal
        if reading is None:
            return Gate(e.task, np.zeros(e.task.observation_dim), "no observation came yet")
        if refusal is None and not e.ladder.fresh(reading.time, now):
            refusal = f"the last observation is older than {e.ladder.patience.expiry:g} s"
        return Gate(e.task, e.observation_at(reading, now), refusal)
