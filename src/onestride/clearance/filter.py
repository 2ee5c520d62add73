"""The clearance filter between plan and robot: what it lets through has a certificate, wherever there is one.

For every command it takes the first of these that has a certificate (``certificate.py``):

1. followed: the plan's command as it is
2. slower: the plan's path, in a smaller step, at one of ``PACES``
3. stopping: the last certified stop is followed on, along the path of its own plan. standing: it is over, and the robot
   may stay where it is
4. aside: a step out of the way of a moving obstacle (``guard.py``)

Where none has one: the step aside if it ends clearer than staying, else the last stop. Both count as unproved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from onestride.clearance.assumptions import ObstacleWatch
from onestride.clearance.certificate import Motion, Surroundings, certified, clearances
from onestride.clearance.guard import STEP, step_aside
from onestride.clearance.reference import Reference
from onestride.clearance.shapes import RoundedBoxes, segment_distances
from onestride.errors import naming_extras

if TYPE_CHECKING:
    from onestride.clearance.native import Kernel

#: Shares of a plan's step that are tried, in this order.
PACES = np.array([1.0, 0.8, 0.6, 0.4, 0.25, 0.1])


class ClearanceFilter:
    """Replaces commands that have no certificate. One robot's, for one episode after another.

    Args:
        reference: what the robot follows.
        obstacles_of: returns the obstacles (K, 8) of an observation.
        walls: half-spaces that the body stays in (W, 4), see ``shapes.wall_distances``.
        obstacle_speed: largest speed of any point of an obstacle [m/s].
        max_age: nothing is certified by an older observation [s].
        kernel: C that computes distances and certificates, or None: NumPy does.

    Attributes:
        counts: what became of commands, by the names above.
        violations: observations that showed an assumption to be broken, by the assumption.
        proved: whether the body is clear until the next command, or to its stop where none comes.

    Raises:
        ValueError: the speed or the age is negative.
        ModuleNotFoundError: obstacles may move, and daqp is not installed.
    """

    def __init__(
        self, reference: Reference, obstacles_of: Callable[[np.ndarray], np.ndarray], walls: np.ndarray, *,
        obstacle_speed: float = 0.0, max_age: float = 0.1, kernel: Kernel | None = None,
    ) -> None:  # fmt: skip
        if not (obstacle_speed >= 0 and max_age >= 0):
            raise ValueError(f"obstacle_speed is {obstacle_speed} m/s and max_age {max_age} s; neither may be negative")
        if obstacle_speed:  # before anything moves
            with naming_extras():
                import daqp  # noqa: F401
        self.reference, self.obstacles_of, self.walls = reference, obstacles_of, walls
        self.obstacle_speed, self.max_age, self.kernel = obstacle_speed, max_age, kernel
        self._certified = kernel.certified if kernel else certified
        self._clearances = kernel.clearances if kernel else clearances
        self._distances = kernel.segment_distances if kernel else segment_distances
        self._watch = ObstacleWatch(obstacle_speed)
        self.begin()

    def begin(self) -> None:
        """Forget the last episode: the robot is at rest, and its counters are 0."""
        self.reference.begin()
        self._watch.begin()
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.proved = False
        self._boxes: RoundedBoxes | None = None
        self._seen, self._broken = -np.inf, True

    def observe(self, observation: np.ndarray, time: float) -> None:
        """Take an observation (observation_dim,) of clock time ``time`` [s], and check the assumptions by it.

        While one is broken nothing gets a certificate.
        """
        obstacles = self.obstacles_of(observation)
        found = self.reference.observe(observation, time), self._watch.observe(obstacles, time)
        broken = [each for each in found if each is not None]
        self.violations.update(broken)
        self._broken, self._seen, self._boxes = bool(broken), time, RoundedBoxes.of(obstacles)

    def certified(self, commands: np.ndarray) -> np.ndarray:
        """Return which of the commands (N, A) of N plans would get a certificate as they are, (N,) bool.

        It ranks plans and proves nothing: what is sent is looked at again.
        """
        if self._boxes is None or self._broken:
            return np.zeros(len(commands), bool)
        around = Surroundings(self._boxes, self.walls, self.obstacle_speed, 0.0)
        return self._certified(self.reference.first_steps(commands, self._seen), around)

    def mark_fault(self, fault: str) -> None:
        """Count a fault of the robot while a certificate held: something was there that is not observed."""
        if self.proved:
            self.violations[f"fault: {fault}"] += 1

    def __call__(self, command: np.ndarray, ahead: np.ndarray, now: float) -> np.ndarray | None:
        """Return the command to send instead (A,), or None where nothing is to be sent.

        Args:
            command: the plan's (A,).
            ahead: the plan's commands after it (n, A); n may be 0.
            now: clock time [s].
        """
        if self._boxes is None:
            raise RuntimeError("the clearance filter is given a command before any observation")
        around = Surroundings(self._boxes, self.walls, self.obstacle_speed, max(now - self._seen, 0.0))
        if around.age > self.max_age:
            self.violations["observation age"] += 1
        may = not self._broken and around.age <= self.max_age
        if may and (taken := self._along_the_plan(command, ahead, around, now)) is not None:
            self.proved = True
            return taken
        stop = self.reference.stop(now)
        clear = float(self._clearances(stop, around)[0])
        self.proved = may and clear >= 0
        if clear < 0 and self.obstacle_speed:
            moved = self._aside(stop, clear, around, may, now)
            if moved is not None:
                return moved
        self.counts["unproved" if not self.proved else "stopping" if stop.seconds[0] else "standing"] += 1
        return self.reference.follow_stop(now)

    def _along_the_plan(
        self, command: np.ndarray, ahead: np.ndarray, around: Surroundings, now: float
    ) -> np.ndarray | None:
        motions = self.reference.offers(command, ahead, PACES, now)
        good = self._certified(motions, around)
        if not good.any():
            return None
        taken = self.reference.take(motions, int(good.argmax()), now)
        self.counts["followed" if np.array_equal(taken, command) else "slower"] += 1
        return taken

    def _aside(self, stop: Motion, clear: float, around: Surroundings, may: bool, now: float) -> np.ndarray | None:
        """Return the command for a step aside, or None where it would not end clearer than staying."""
        required = stop.kept[0] + around.speed * (around.age + stop.seconds[0])
        moved = np.concatenate((np.zeros((1, 3)), STEP * np.eye(3)))
        low, high = self.reference.reach(now)
        step = step_aside(self.reference.displaced(moved, now), required, low, high, around.boxes, self._distances)
        if step is None:
            return None
        command = self.reference.aside(step, now)
        motion = self.reference.offers(command, command[None][:0], PACES[:1], now)
        proved = bool(self._certified(motion, around)[0])
        last = motion.last[:1]
        there = Motion(last[:, None], last, motion.kept[:1], stop.seconds, motion.commands[:1], motion.allowed[:1])
        if not (motion.allowed[0] and (proved or float(self._clearances(there, around)[0]) > clear)):
            return None
        self.proved = may and proved
        self.counts["aside" if self.proved else "unproved"] += 1
        return self.reference.take(motion, 0, now)
