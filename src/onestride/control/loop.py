"""The only episode loop: simulation, evaluation and hardware differ in robot and clock alone.

Deadlines are absolute: tick k is due at start + k * period. On wall time the robot is read in a thread of its own, so
that a sensor that hangs delays neither the fallback nor the stop. There are two ways to decide:

- synchronous inference, by a ``Decider`` (``synchronous.py``): the tick waits for its decision and sends it, late or
  not. The ticks that it missed are skipped; the robot keeps its last command meanwhile.
- asynchronous inference, by an ``AsyncDecider`` (``asynchronous.py``, ``async_policy.py``): the tick has until the next
  one, and shortly before that the fallback (``fallback.py``) sends a command instead.
"""

from __future__ import annotations

import math

from onestride.clearance.filter import ClearanceFilter
from onestride.control.asynchronous import AsynchronousTick
from onestride.control.chunks import Chunking
from onestride.control.episode import Episode, OnDecision
from onestride.control.fallback import Fallback, FallbackTimeouts
from onestride.control.history import History
from onestride.control.log import EpisodeLog
from onestride.control.sensor import SensorWatch, reader_of
from onestride.control.signals import run_then_stop
from onestride.control.synchronous import SynchronousTick
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec
from onestride.robot.decision import AsyncDecider, Decider
from onestride.robot.fields import Fields
from onestride.robot.robot import Robot


def run_episode(
    robot: Robot,
    clock: Clock,
    policy: Decider | AsyncDecider,
    control: ControlSpec,
    *,
    timeout: float,
    period: float | None = None,
    fallback_timeouts: FallbackTimeouts | None = None,
    chunking: Chunking | None = None,
    clearance: ClearanceFilter | None = None,
    on_decision: OnDecision | None = None,
    log: EpisodeLog | None = None,
) -> EpisodeLog:
    """Drive a robot until the goal is reached, the robot reports a fault, or ``timeout`` [s] has passed.

    Every control period the loop observes, decides, checks the command and sends it. An observation that is refused
    (not finite, wrong shape, too old, frozen) or a command that is refused (not finite, out of limits) is counted by
    its reason, and the next tick tries again. Meanwhile nothing is sent, but for what late decisions are bridged by
    and for the way to ``ControlSpec.rest``. After ``fallback_timeouts.stop`` without an observation to act on, or with
    asynchronous inference without a decision to follow, the robot is stopped for good.

    The robot is stopped at the end in any case, also after an exception or a signal (SIGINT, SIGTERM, SIGHUP).
    ``robot.stop`` is tried again where it raises. Signals reach the main thread alone: a caller in another thread has
    to handle them.

    Args:
        robot: what is driven.
        clock: what ticks are timed by.
        policy: what decides, synchronously or asynchronously.
        control: the control interface of the task.
        timeout: longest duration of the episode [s].
        period: time between two ticks [s]; default: the task's.
        fallback_timeouts: how long late decisions are bridged; default: ``FallbackTimeouts.at(period)``.
        chunking: how the plans of asynchronous inference join, where several rows of each are carried out; default:
            each is followed from when it comes on.
        clearance: replaces commands that have no certificate of clearance; default: none does.
        on_decision: called with every observation and its decision.
        log: a new log, filled as the episode goes on, so that the caller has it after an exception too.

    Returns:
        The log of the episode.

    Raises:
        ValueError: period or timeout is out of range, observations would be too old before a decision can be sent,
            plans cannot be joined so, or the log is of another episode.
        SystemExit: SIGTERM or SIGHUP came, and nothing else handles it.
        Exception: what the robot or the policy raised, or the last ``robot.stop`` where all attempts failed.
    """
    dt = control.control_dt if period is None else period
    if not (0 < dt < math.inf and 0 <= timeout < math.inf):
        raise ValueError(f"period is {dt:g} s and timeout {timeout:g} s; expected finite times, the period above 0")
    chunking = chunking or Chunking()
    if isinstance(policy, AsyncDecider):
        chunking.check(control, getattr(policy, "longest_prefix", 0))
    elif chunking.join != "switch":
        raise ValueError(f"plans are joined by '{chunking.join}' with asynchronous inference alone: use an AsyncPolicy")
    latency = control.horizon if chunking.latency is None else chunking.latency
    # A first plan comes late.
    followed = min(max(control.n_action_steps, latency) + latency, control.horizon) - 1 + latency
    timeouts = fallback_timeouts or FallbackTimeouts.at(dt, chunk=followed * control.control_dt)
    if isinstance(policy, AsyncDecider) and timeouts.max_observation_age < dt:
        raise ValueError(
            f"max_observation_age is {timeouts.max_observation_age:g} s, shorter than the control period of {dt:g} s: "
            "decisions could expire before they are late; allow at least one period"
        )
    if log is None:
        log = EpisodeLog.lasting(timeout, dt)
    elif log.ticks or log.duration:
        raise ValueError(f"the log holds {log.ticks} ticks of another episode; give a new one")
    if control.fields:
        robot = Fields(robot, control)
    if control.n_obs_steps > 1:
        robot = History(robot, control, clock)
    start = log.began = clock.now()
    reader = reader_of(robot, clock, control.observation_dim)
    oldest = timeouts.max_observation_age if isinstance(policy, AsyncDecider) else timeouts.stop
    fallback = Fallback(timeouts, control.control_dt, start, control.position_commands)
    watch = SensorWatch(control, oldest)
    if clearance is not None:
        clearance.begin()
        log.clearance, log.violations = clearance.counts, clearance.violations
    episode = Episode(robot, clock, control, dt, start, timeout, reader, watch, fallback, on_decision, log, clearance)
    ticking = (
        AsynchronousTick(episode, policy, chunking)
        if isinstance(policy, AsyncDecider)
        else SynchronousTick(episode, policy)
    )

    def body() -> None:
        try:
            _drive(episode, ticking)
        except BaseException as error:
            log.outcome, log.duration = f"ended by {type(error).__name__}", episode.passed
            raise
        finally:
            reader.close()

    run_then_stop(body, robot.stop)
    return log


def _drive(episode: Episode, ticking: AsynchronousTick | SynchronousTick) -> None:
    """Tick until the episode is over."""
    e, log, control = episode, episode.log, episode.control
    dwell = round(control.dwell_steps * control.control_dt / e.dt)
    arrived = 0
    while True:
        passed = log.duration = e.passed
        due = log.ticks * e.dt
        ticking.catch_up(e.periods(passed))
        reading, refusal = ticking.observe(), None
        if reading is not None:
            log.final_observation = reading.observation
            refusal = e.watch.refusal(reading, e.clock.now())
            if refusal is None:
                e.observe(reading)
            arrived = arrived + 1 if refusal is None and control.goal_reached(reading.observation) else 0
            if reading.fault is not None:
                if e.clearance is not None:
                    e.clearance.mark_fault(reading.fault)
                log.outcome = reading.fault
                return
            if arrived > dwell:
                log.success, log.outcome = True, "arrived"
                return
        if passed >= e.timeout:
            return
        log.tick_jitter.add(due, passed - due)
        ended = ticking.tick(reading, refusal)
        if ended is not None:
            log.outcome, log.duration = ended, e.passed
            ticking.catch_up(e.periods(log.duration))
            return
        e.clock.sleep_until(e.start + log.ticks * e.dt)
