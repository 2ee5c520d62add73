"""The one episode loop: simulation, evaluation and hardware differ only in robot and clock.

Deadlines are absolute: tick k is due at start + k * period. On wall time the robot is read in a thread of its own, so
that a sensor that hangs holds neither a late command nor the stop. A decision is made in one of two ways:

- within the tick, by a ``Decider`` (``synchronous.py``): one that is not ready by the next tick is sent late and skips
  the ticks it missed, never a burst; until it is ready the robot holds the last command.
- beside the loop, by a ``Beside`` (``asynchronous.py``, ``worker.py``): each tick has until the next one, and shortly
  before that the late-command ladder acts for it.
"""

from __future__ import annotations

import math

from onestride.control.asynchronous import AsynchronousTick
from onestride.control.episode import Episode, OnDecision
from onestride.control.ladder import Ladder, Patience
from onestride.control.log import EpisodeLog
from onestride.control.sensor import SensorWatch, reader_of
from onestride.control.signals import run_then_stop
from onestride.control.synchronous import SynchronousTick
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec
from onestride.robot.decision import Beside, Decider
from onestride.robot.robot import Robot


def run_episode(
    robot: Robot,
    clock: Clock,
    policy: Decider | Beside,
    task: ControlSpec,
    *,
    timeout: float,
    period: float | None = None,
    patience: Patience | None = None,
    on_decision: OnDecision | None = None,
    log: EpisodeLog | None = None,
) -> EpisodeLog:
    """Observe, decide, check, command, once per control period, until arrival, fault or ``timeout`` [s].

    A refused observation (not finite, wrong shape, too old, frozen) or command (not finite, out of limits) sends
    nothing: the robot holds, the event is counted by its reason, and the next tick tries again. Without an observation
    to act on, or beside the loop without a decision to follow, the robot is stopped for good after ``patience.stop``.
    Whatever happens, an exception or a signal to end (SIGINT, SIGTERM, SIGHUP) included, the robot is stopped at the
    end; ``robot.stop`` is tried again where it raises. Signals come to a process's main thread alone: from another one,
    whoever runs the loop has to see to them.

    period [s] between ticks: by default the task's. patience: with what is late; by default what suits the period. log:
    a new one, filled as the episode goes on; whoever gave it has it after an exception too.

    Raises:
        ValueError: with this patience every decision would have expired before it can be sent, or there is no such
            period or timeout, or the log is of another episode.
        SystemExit: SIGTERM or SIGHUP came, and nothing else handles it.
        Exception: whatever the robot or the policy raised; of the last ``robot.stop``, where all failed.
    """
    dt = task.control_dt if period is None else period
    if not (0 < dt < math.inf and 0 <= timeout < math.inf):
        raise ValueError(f"period is {dt:g} s and timeout {timeout:g} s; expected finite times, the period above 0")
    patience = patience or Patience.at(dt)
    if isinstance(policy, Beside) and patience.expiry < dt:
        raise ValueError(
            f"expiry is {patience.expiry:g} s, shorter than the control period of {dt:g} s: decisions could expire "
            "before they are late; allow at least one period"
        )
    if log is None:
        log = EpisodeLog.lasting(timeout, dt)
    elif log.ticks or log.duration:
        raise ValueError(f"the log holds {log.ticks} ticks of another episode; give a new one")
    start = log.began = clock.now()
    reader = reader_of(robot, clock, task.observation_dim)
    oldest = patience.expiry if isinstance(policy, Beside) else patience.stop
    ladder = Ladder(patience, task.control_dt, start, task.position_commands)
    watch = SensorWatch(task, oldest)
    episode = Episode(robot, clock, task, dt, start, timeout, reader, watch, ladder, on_decision, log)
    ticking = AsynchronousTick(episode, policy) if isinstance(policy, Beside) else SynchronousTick(episode, policy)

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
    e, log, task = episode, episode.log, episode.task
    dwell = round(task.dwell_steps * task.control_dt / e.dt)
    arrived = 0
    while True:
        passed = log.duration = e.passed
        due = log.ticks * e.dt
        ticking.catch_up(e.periods(passed))
        reading, refusal = ticking.observe(), None
        if reading is not None:
            log.final_observation = reading.observation
            refusal = e.watch.refusal(reading, e.clock.now())
            arrived = arrived + 1 if refusal is None and task.goal_reached(reading.observation) else 0
            if reading.fault is not None:
                log.outcome = reading.fault
                return
            if arrived > dwell:
                log.success, log.outcome = True, "arrived"
                return
        if passed >= e.timeout:
            return
        log.started.add(due, passed - due)
        ended = ticking.tick(reading, refusal)
        if ended is not None:
            log.outcome, log.duration = ended, e.passed
            ticking.catch_up(e.periods(log.duration))
            return
        e.clock.sleep_until(e.start + log.ticks * e.dt)
