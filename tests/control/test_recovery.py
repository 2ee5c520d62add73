"""After any stall the loop is on time again within a few ticks, where reading, deciding and sending fit a period.

In simulated time: what is drawn is how long each takes, what stalls, and for how long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import pytest

from onestride.control.asynchronous import CHEAP_READING
from onestride.control.fallback import FallbackTimeouts
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.clock import ChargedClock
from onestride.robot.decision import Decision
from onestride.tasks import CONTROL_SPECS

DT = 0.05
CONTROL = replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=DT)
STALL_AT, TICKS = 8, 30
RECOVERED = 3  # ticks after the one in which the stall ended
PLAN = np.zeros((4, 23), np.float32)
OF_A_PLAN = 0.5  # in commands that are of a plan
KINDS = ("read", "decide", "write", "process")


@dataclass(frozen=True)
class Drawn:
    """Times [s] that together fit a period, and a stall of ``length`` in one of ``KINDS``; ``share``: where in it."""

    read: float
    decide: float
    write: float
    kind: str
    length: float
    share: float


class Clock(ChargedClock):
    """Stands still once, in the first wait that goes past ``when``."""

    def __init__(self, when: float, length: float) -> None:
        super().__init__()
        self.when, self.length = when, length

    def sleep_until(self, t: float) -> None:
        super().sleep_until(t)
        if self.time >= self.when:
            self.time, self.when = max(self.time, self.when + self.length), math.inf


class Robot:
    """Its calls take their time, and one of them stalls. sent: when it was told something of a plan, and when that
    plan's observation was made."""

    def __init__(self, clock: ChargedClock, drawn: Drawn) -> None:
        self.clock, self.drawn = clock, drawn
        self.stalls = {drawn.kind: drawn.length}
        self.sent: list[tuple[float, float]] = []
        self.last_reading, self.ended, self.reads = -1.0, 0.0, 0

    def spend(self, kind: str, seconds: float) -> None:
        self.clock.charge(seconds)
        if kind in self.stalls and self.clock.now() >= STALL_AT * DT:
            self.clock.charge(self.stalls.pop(kind))
            self.ended = self.clock.now()

    def read(self) -> np.ndarray:
        self.reads += 1
        observation = np.zeros(17)
        observation[0] = self.clock.now()
        self.spend("read", self.drawn.read)
        return observation

    def write(self, command: np.ndarray) -> None:
        if command[1] == OF_A_PLAN:
            self.sent.append((self.clock.now(), 10 * command[0]))
        self.spend("write", self.drawn.write)

    def stop(self) -> None:
        pass

    def fault(self) -> None:
        return None


class Stamped:
    """Commands say when their observation was made [10 s]."""

    def decide(self, observation: np.ndarray) -> Decision:
        plan = PLAN.copy()
        plan[:, 17], plan[:, 18] = observation[0] / 10, OF_A_PLAN
        return Decision(plan[0, 17:].astype(float), plan, plan[None], np.zeros(1), {})


def drive(drawn: Drawn):
    clock = Clock((STALL_AT + drawn.share) * DT if drawn.kind == "process" else math.inf, drawn.length)
    robot = Robot(clock, drawn)
    stall = STALL_AT if drawn.kind == "decide" else -1
    costs = (drawn.decide + drawn.length * (number == stall) for number in count())
    log = run_episode(
        robot, clock, SimulatedLatency(Stamped(), clock, costs), CONTROL,
        timeout=TICKS * DT - 1e-6, fallback_timeouts=FallbackTimeouts(0.175, 0.0, 5.0), log=EpisodeLog(4 * TICKS),
    )  # fmt: skip
    if drawn.kind == "decide":
        robot.ended = STALL_AT * DT + drawn.read + drawn.decide + drawn.length
    elif drawn.kind == "process":
        robot.ended = (STALL_AT + drawn.share) * DT + drawn.length
    return log, robot


def draw(rng: np.random.Generator) -> Drawn:
    shares = rng.dirichlet(np.full(3, 0.7))
    used = rng.choice([rng.uniform(0.2, 0.97), 0.97])
    read, decide, write = (DT * used * shares).tolist()
    return Drawn(read, decide, write, str(rng.choice(KINDS)), float(rng.uniform(0.0, 10 * DT)), float(rng.random()))


def check(drawn: Drawn) -> None:
    log, robot = drive(drawn)
    assert log.outcome == "timeout", drawn
    assert log.ticks == TICKS, drawn
    first = math.floor(robot.ended / DT + 1e-9) + 1 + RECOVERED
    ages: dict[float, float] = {}
    for at, age in log.command_age.rows.tolist():
        ages[round(at, 9)] = max(age, ages.get(round(at, 9), 0.0))
    on_time = {tick(at) for at, stamp in robot.sent if tick(at) == tick(stamp)}
    assert set(range(first, TICKS)) <= on_time, (drawn, sorted(set(range(first, TICKS)) - on_time))
    assert set(range(STALL_AT)) <= on_time, drawn
    if drawn.read > CHEAP_READING * DT:
        assert robot.reads <= TICKS + 1, drawn  # a late tick reads no more than a timely one
    for at, stamp in robot.sent:
        assert at - stamp <= ages[round(at, 9)] + 1e-6, drawn  # never staler than it is taken for
    assert max(ages.values()) <= 0.175 + 1e-9, drawn


def tick(time: float) -> int:
    return math.floor(time / DT + 1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_after_any_stall_the_loop_is_on_time_within_a_few_ticks(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        check(draw(rng))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_the_same_over_ten_thousand_draws(seed):
    rng = np.random.default_rng(1000 + seed)
    for _ in range(100):
        check(draw(rng))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("read", "decide"), [(0.97, 0.02), (0.02, 0.97), (0.495, 0.495)])
def test_nor_do_extremes_hold_it_back(read, decide, kind):
    for length in np.linspace(0, 4 * DT, 41):
        check(Drawn(read * DT, decide * DT, 0.0, kind, float(length), 0.5))
