"""Asynchronous inference: each tick submits an observation and sends the decision if it comes within the period.

Shortly before the period ends the fallback (``fallback.py``) sends a command instead, so that no period is without
one. A decision that comes later still becomes the plan that the fallback follows. Where commands are positions, a slow
decision is latency-compensated: the command is the plan's for the time from now on. A decision about an observation
older than ``max_observation_age`` is dropped.

**One late tick does not make the next one late.** When reading, deciding and sending fit into a period, a tick that
runs late leaves out whatever would end in the next period: a reading, a decision or a command. Soon a tick begins with
an idle sensor and an idle policy, and is on time.

The file is longer than others: it is one tick from its reading to its command, and its parts share that tick's state.
"""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np

from onestride.control.chunks import Chunking, Chunks
from onestride.control.episode import COMPENSATION_THRESHOLD, Episode, SafetyFilter, commands_of, why_not
from onestride.control.sensor import Expected, Reading
from onestride.robot.decision import AsyncAnswer, AsyncDecider

#: The fallback acts this share of a period before the period's end, at most so many seconds before it [s].
MARGIN, LONGEST_MARGIN = 0.1, 0.002
#: A sensor that takes no more than this share of a period is read again before a late command is sent.
CHEAP_READING = 0.1
#: Tolerance for comparing sums of times [s].
ROUNDING = 1e-9
#: This many submitted observations are remembered, to tell this episode's answers from those of an earlier one.
REMEMBERED = 64


class AsynchronousTick:
    """One tick of asynchronous inference: it submits to ``policy`` and goes on. chunking: how its plans join."""

    def __init__(self, episode: Episode, policy: AsyncDecider, chunking: Chunking) -> None:
        self.episode, self.policy = episode, policy
        longest = getattr(policy, "longest_prefix", 0)
        self._chunks = Chunks(chunking, episode.control, episode.fallback, longest)
        self._reads, self._decides = Expected(), Expected()
        self._reading: Reading | None = None  # the last
        self._refusal: str | None = None  # why it cannot be acted on
        self._submitted: deque[float] = deque(maxlen=REMEMBERED)  # times of the observations
        self._since: float | None = None  # the policy has been computing since then [s]; None: it is idle
        self._number: int | None = None  # the last answer's number

    # ------------------------------------------------------------ when

    @property
    def _due(self) -> float:
        """Clock time at which this tick is due [s]."""
        return self.episode.start + self.episode.log.ticks * self.episode.dt

    @property
    def _deadline(self) -> float:
        return self.episode.start + (self.episode.log.ticks + 1) * self.episode.dt

    @property
    def _soon(self) -> float:
        """Clock time at which the fallback acts, early enough for its command to be written by the deadline [s]."""
        return max(self._deadline - max(self._margin, self._writes), self._due)

    @property
    def _margin(self) -> float:
        return min(MARGIN * self.episode.dt, LONGEST_MARGIN)

    def _spills(self, now: float, deadline: float) -> bool:
        """Return whether a command written now would delay the next tick, though a period is long enough."""
        return self._fits and now + self._writes > deadline + ROUNDING

    @property
    def _writes(self) -> float:
        """Expected duration of writing a command [s]."""
        return self.episode.writes.seconds or 0.0

    @property
    def _fits(self) -> bool:
        """Whether reading, deciding and writing are expected to fit into one period."""
        reads, decides = self._reads.seconds, self._decides.seconds
        return reads is not None and decides is not None and reads + decides + self._writes <= self.episode.dt

    def catch_up(self, periods: int) -> None:
        """Count the ticks that never began because this process or its sensor stood still.

        Args:
            periods: control periods since the episode's start.
        """
        log = self.episode.log
        asleep = periods - log.ticks
        if asleep > 0:
            log.overruns += asleep
            log.ticks += asleep

    # ------------------------------------------------------------ a tick

    def observe(self) -> Reading | None:
        """Return this tick's reading, or None where it is late or would make the next tick late."""
        e = self.episode
        if not e.reader.busy:
            if self._fits and e.clock.now() + (self._reads.seconds or 0.0) > self._deadline + ROUNDING:
                return None
            e.reader.request()
        return self._poll(self._soon)

    def tick(self, reading: Reading | None, refusal: str | None) -> str | None:
        """Submit a reading, send a command, and advance the log by one period.

        Args:
            reading: the tick's reading, or None where there is none.
            refusal: why the reading cannot be acted on, or None.

        Returns:
            Why the episode is over, or None where it goes on.
        """
        e, log, sent = self.episode, self.episode.log, self.episode.log.executed
        self.catch_up(e.periods(e.passed))  # the reading may have taken several
        if e.passed >= e.timeout:
            return None
        deadline, soon, submitted, answered = self._deadline, self._soon, None, False
        if reading is not None and refusal is None and (row := self._in_hand(reading)) is not None:
            self._reading, self._refusal = reading, None
            self._carry_out(row, reading)
            log.ticks += 1
            return None
        if reading is not None:
            self._reading, self._refusal = reading, refusal
            if refusal is not None:
                log.refuse(refusal)
                answered = True
            else:
                submitted = self._submit(reading)
        if not answered:
            answered = self._answered(submitted, soon, deadline)
        ended = None
        if log.executed == sent:
            e.clock.sleep_until(soon)
            ended = self._late(deadline)
            answered = answered or self._answered(submitted, deadline, deadline)
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

    def _submit(self, reading: Reading) -> float | None:
        """Submit a reading, unless its decision would be late and make the next tick's late too.

        Nor while a plan is made that was told a prefix: another would be told what is no longer sent by then.

        Returns:
            The observation's time, or None where it was not submitted.
        """
        e, expected = self.episode, self._decides.seconds
        while self._since is not None and (answer := self.policy.poll(e.clock.now())) is not None:
            self._take(answer, None, 0.0)
        if self._chunks.waits and self._since is not None:
            return None
        now = e.clock.now()
        if expected is not None:
            begins = now if self._since is None else max(now, self._since + expected)
            done = begins + expected + self._writes
            if self._fits and done > self._deadline + ROUNDING and done + expected > self._deadline + e.dt + ROUNDING:
                return None
        if self._since is None:
            self._since = now
        self._submitted.append(reading.time)
        self._chunks.submit(self.policy, reading, now, self._takes)
        return reading.time

    def _answered(self, submitted: float | None, until: float, deadline: float) -> bool:
        """Wait until ``until`` for the decision about the observation of time ``submitted``.

        Returns:
            Whether this tick has its decision.
        """
        if self._since is None:
            return False
        while (answer := self.policy.poll(until)) is not None:
            if self._take(answer, submitted, deadline):
                return True
        return False

    def _take(self, answer: AsyncAnswer, submitted: float | None, deadline: float) -> bool:
        """Use an answer, then call ``on_decision``. Return whether this tick has its decision."""
        if answer.observed not in self._submitted:
            return False  # an earlier episode's
        log, now = self.episode.log, self.episode.clock.now()
        if self._number is not None:
            log.replaced += answer.number - self._number - 1
        self._number = answer.number
        self._since = None if answer.observed == self._submitted[-1] else now
        self._decides.add(answer.took)
        log.decision_times.add(now - self.episode.start, answer.took)
        answered = self._use(answer, answer.observed == submitted and now < deadline, deadline)
        if self.episode.on_decision is not None and answer.decision is not None:
            self.episode.on_decision(answer.observation, answer.decision)  # after the command is sent
        return answered

    def _use(self, answer: AsyncAnswer, own: bool, deadline: float) -> bool:
        """Send a decision that is in time, keep a late one for the fallback, drop an expired one.

        Args:
            answer: the decision, or why there is none.
            own: whether it is this tick's, and in time.
            deadline: clock time at which the next tick is due [s].

        Returns:
            Whether this tick has its decision.
        """
        e, log = self.episode, self.episode.log
        if answer.decision is None:
            if answer.no_plan is not None:
                log.refuse(why_not(answer.no_plan))
            return own
        now = e.clock.now()
        if not e.fallback.fresh(answer.observed, now):
            log.dropped += 1
            return False
        promised = self._chunks.promised(answer.observed)
        command = answer.decision.action if promised is None else promised[0]
        violation = e.control.limits.violation(command, answer.observation)
        if violation is not None:
            log.refuse(f"command refused: {violation}")
            return own
        rows = partial(commands_of, e.control, answer.decision.plan, answer.observation)
        e.fallback.take(self._chunks.joined(rows, answer.observed), answer.observed)
        if own and e.control.position_commands and e.fallback.rows_since(answer.observed, now) > COMPENSATION_THRESHOLD:
            command = self._latency_compensated(command, now, deadline)
            if command is None:
                return True
        now = e.clock.now()  # again, directly before the write: this process may have stood still since
        if not own or now >= deadline or self._spills(now, deadline):
            return False
        hold = e.control.hold(answer.observation)
        sent = e.send(command, hold, now)
        log.executed += 1
        log.command_age.add(now - e.start, now - answer.observed)
        e.fallback.mark_sent(sent, hold, now)
        return True

    def _latency_compensated(self, command: np.ndarray, now: float, deadline: float) -> np.ndarray | None:
        """Return the plan's command for the time from now on, or None where the safety filter refuses it.

        Limits are checked from where the robot is by now. Checked from where it was observed, commands made the arm
        oscillate.
        """
        e = self.episode
        safety_filter = self._safety_filter(deadline)
        row = e.fallback.row(now, safety_filter)
        if row is None and safety_filter.reason is None and safety_filter(command):  # its rows are no commands
            row = command
        if row is None:
            e.log.refuse(f"command refused: {safety_filter.reason}")
        return row

    # ------------------------------------------------------------ the plan in hand

    def _in_hand(self, reading: Reading) -> np.ndarray | None:
        """Return the command for this period where its plan is to be carried out on, or None.

        A plan is in hand for ``n_action_steps`` control periods from its observation on, or from when it is expected
        (``Chunking.latency``), while it is fresh. What is in hand is neither late nor the fallback's.
        """
        e, now = self.episode, self.episode.clock.now()
        if e.control.n_action_steps == 1:
            return None
        while self._since is not None and (answer := self.policy.poll(now)) is not None:
            self._take(answer, None, 0.0)
        if not self._rows_left(now):
            return None
        return e.fallback.row(now, SafetyFilter(e.control, e.observation_at(reading, now), None))

    def _rows_left(self, now: float) -> float:
        """Return how many rows of the plan in hand are still to be carried out."""
        e = self.episode
        passed = e.fallback.rows_since(e.fallback.observed, now)
        return max(0.0, self._chunks.rows(self._takes) - passed - ROUNDING) if e.fallback.has_plan else 0.0

    @property
    def _takes(self) -> float:
        """Expected time from a reading to its decision [s]."""
        return (self._reads.seconds or 0.0) + (self._decides.seconds or 0.0)

    def _carry_out(self, row: np.ndarray, reading: Reading) -> None:
        """Send a row of the plan in hand, and submit the reading where the next plan will be needed soon."""
        e, log, now = self.episode, self.episode.log, self.episode.clock.now()
        soon = self._rows_left(now) * e.control.control_dt <= self._takes + e.dt + ROUNDING
        if self._since is None and (soon or self._chunks.eager):
            self._submit(reading)
        hold, now = e.control.hold(reading.observation), e.clock.now()
        sent = e.send(row, hold, now)
        log.executed += 1
        log.command_age.add(now - e.start, now - e.fallback.observed)
        e.fallback.mark_sent(sent, hold, now)

    # ------------------------------------------------------------ the fallback

    def _late(self, deadline: float) -> str | None:
        """Send the fallback's command for a tick without a decision.

        Without an observation to check it by that is the way to rest, or nothing where rest depends on where it is.

        Returns:
            Why the episode is over, or None where it goes on.
        """
        e, log, began = self.episode, self.episode.log, self.episode.clock.now()
        safety_filter = self._safety_filter(deadline)
        blind = safety_filter.refusal is not None
        hold = e.control.rest if blind else e.control.hold(safety_filter.observation)
        level, command = e.fallback.late(began, hold, safety_filter)
        if level == "stop":
            log.late[level] += 1
            why = safety_filter.refusal or log.last_reason
            return f"stopped: no decision for {e.fallback.timeouts.stop:g} s{f' ({why})' if why else ''}"
        if blind and hold is None:
            return None
        if not blind and level != "plan" and safety_filter.reason is not None:  # not by the plan: slow down
            log.refuse(f"late command refused: {safety_filter.reason}")
        if command is not None:
            violation = None if level == "plan" else e.control.limits.violation(command, safety_filter.observation)
            now = e.clock.now()  # again, directly before the write
            if not e.fallback.fresh(e.fallback.observed if level == "plan" else began, now):
                violation = "expired"
            if violation is not None:
                log.refuse(f"late command refused: {violation}")
                return None
            # After a pause beyond the deadline a command is sent all the same, where it costs next to nothing.
            if self._spills(now, deadline) and (now < deadline or self._writes > self._margin):
                return None
            sent = e.send(command, hold, now)
            log.filled += 1
            if level == "plan":
                log.command_age.add(now - e.start, now - e.fallback.observed)
                e.fallback.mark_sent(sent, hold, now)
        log.late[level] += 1
        return None

    def _safety_filter(self, deadline: float) -> SafetyFilter:
        """Return the safety filter for where the robot is now, read again where the sensor is quick."""
        e, reads, now = self.episode, self._reads.seconds, self.episode.clock.now()
        affordable = CHEAP_READING * e.dt
        if now < deadline:
            affordable = min(affordable, deadline - 2 * self._writes - now)  # this command, and a decision's after all
        if reads is not None and reads <= affordable and not e.reader.busy:
            e.reader.request()
            if (reading := self._poll(now + affordable)) is not None:
                self._reading, self._refusal = reading, e.watch.refusal(reading, e.clock.now())
                if self._refusal is None:
                    e.observe(reading)
        now, reading, refusal = e.clock.now(), self._reading, self._refusal
        if reading is None:
            return SafetyFilter(e.control, np.zeros(e.control.observation_dim), "no observation came yet")
        if refusal is None and not e.fallback.fresh(reading.time, now):
            refusal = f"the last observation is older than {e.fallback.timeouts.max_observation_age:g} s"
        return SafetyFilter(e.control, e.observation_at(reading, now), refusal)
