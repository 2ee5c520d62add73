"""The one episode loop: simulation, evaluation and hardware differ only in robot and clock.

Deadlines are absolute: tick k is due at start + k * control_dt. A decision that is not ready by the next tick
skips the ticks it missed (never a burst), and until it is ready the robot holds the last command.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from onestride.control.clock import Clock
from onestride.control.policy import Decision, NoPlanError
from onestride.control.robot import Robot
from onestride.tasks.task import ObservationError, Task


class Decider(Protocol):
    """Anything that decides: a policy, an exported graph, a remote one."""

    def decide(self, observation: np.ndarray) -> Decision: ...


#: Called with every observation and the decision it led to, after the clock has been charged.
OnDecision = Callable[[np.ndarray, Decision], None]


@dataclass
class EpisodeLog:
    """What happened. Times are the clock's [s]; decisions are wall time [s]."""

    success: bool = False
    outcome: str = "timeout"  # "arrived", "timeout", or the robot's fault
    duration: float = 0.0
    decisions: list[float] = field(default_factory=list)  # wall time of each
    executed: int = 0  # commands sent
    ticks: int = 0  # control periods that passed
    overruns: int = 0  # decisions not ready by the next tick
    held: Counter[str] = field(default_factory=Counter)  # commands not sent, by reason
    final_observation: np.ndarray | None = None

    @property
    def starved(self) -> int:
        """Control periods in which no fresh command came: the robot went on with a stale one."""
        return max(self.ticks - self.executed, 0)


def run_episode(
    robot: Robot, clock: Clock, policy: Decider, task: Task, *, timeout: float, on_decision: OnDecision | None = None
) -> EpisodeLog:
    """Observe, decide, check, command, once per control period, until arrival, fault or ``timeout`` [s].

    A refused observation (not finite, wrong shape) or command (not finite, out of limits) sends nothing: the
    robot holds, the event is counted by its reason, and the next tick tries again. Whatever happens, an
    exception included, the robot is stopped at the end.
    """
    log = EpisodeLog()
    dt = task.control_dt
    start = clock.now()
    arrived = 0
    try:
        while True:
            observation = robot.read()
            now = clock.now()
            log.duration, log.final_observation = now - start, observation
            refusal = _refusal(task, observation)
            arrived = arrived + 1 if refusal is None and task.arrived(observation) else 0
            fault = robot.fault()
            if fault is not None:
                log.outcome = fault
                break
            if arrived > task.dwell:
                log.success, log.outcome = True, "arrived"
                break
            if now - start >= timeout:
                break
            command = None
            if refusal is None:
                command = _decide(policy, observation, task, clock, log, on_decision)
            else:
                log.held[refusal] += 1
            if command is not None:
                robot.write(command)
                log.executed += 1
            late = math.floor((clock.now() - start) / dt + 1e-9) - log.ticks  # whole periods since this tick
            if late >= 1:
                log.overruns += 1
            log.ticks += late + 1
            clock.sleep_until(start + log.ticks * dt)
    finally:
        robot.stop()
    return log


def _refusal(task: Task, observation: np.ndarray) -> str | None:
    """Why an observation cannot be acted on, or None."""
    try:
        task.check(observation)
    except ObservationError as error:
        return f"observation refused: {error}"
    return None


def _decide(
    policy: Decider, observation: np.ndarray, task: Task, clock: Clock, log: EpisodeLog, on_decision: OnDecision | None
) -> np.ndarray | None:
    """The command to send, or None to hold."""
    began = time.perf_counter()
    try:
        decision = policy.decide(observation)
    except NoPlanError as error:
        log.held[f"no plan: {error}"] += 1
        decision = None
    took = time.perf_counter() - began
    clock.charge(took)
    log.decisions.append(took)
    if decision is None:
        return None
    if on_decision is not None:
        on_decision(observation, decision)
    violation = task.limits.violation(decision.action, observation)
    if violation is not None:
        log.held[f"command refused: {violation}"] += 1
        return None
    return decision.action
