"""The reference of a robot that is sent positions, such as a hand's, and the ways to stop it on its path.

A command moves the reference in a straight line to the commanded position, within one control period. There it stays
until the next command. The stop is a row of such commands, with steps that get shorter by ``deceleration``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onestride.clearance.certificate import Motion

#: A command that is late or early by this share of a period still follows the one before without a pause.
EARLY = 0.25
#: Rows of a plan, after the command, along which the robot may brake. Then the path goes straight on.
AHEAD = 8
BEYOND = 1.0  # the straight part [m]
#: Rounding of positions [m].
SAME = 1e-9


@dataclass(frozen=True)
class PositionLimits:
    """What the reference may do; within it the tracking error was measured.

    Attributes:
        low: smallest position (3,) [m].
        high: largest position (3,) [m].
        speed: largest [m/s].
        acceleration: largest, as the change of velocity from one command to the next over the control period [m/s^2].
        deceleration: along the path while it stops [m/s^2].
        control_dt: in which a command is reached [s].
        seconds: returns the least time from one position to another (...) [s], such as at joints' largest speeds.
    """

    low: np.ndarray
    high: np.ndarray
    speed: float
    acceleration: float
    deceleration: float
    control_dt: float
    seconds: Callable[[np.ndarray, np.ndarray], np.ndarray]


class PositionReference:
    """Where the reference is, and what a command would make of it.

    Args:
        body: returns the ends of the body's capsules (..., K, 2, 3) [m] at positions (..., 3).
        kept: radius, tracking error and margin of each capsule (K,) [m].
        tracking: largest distance of the observed position from the reference [m].
        limits: what the reference may do.
    """

    def __init__(
        self, body: Callable[[np.ndarray], np.ndarray], kept: np.ndarray, tracking: float, limits: PositionLimits
    ) -> None:
        self.body, self.kept, self.tracking, self.limits = body, kept, tracking, limits
        self.steps = int(np.ceil(limits.speed / (limits.deceleration * limits.control_dt))) + 1  # of a motion
        self.begin()

    def begin(self) -> None:
        """Forget the last episode: the reference begins where the robot is observed next, at rest."""
        self._from: np.ndarray | None = None
        self._rest = np.zeros((0, 3))  # what is left to send of the stop

    def observe(self, observation: np.ndarray, time: float) -> str | None:
        """Take an observation of clock time ``time`` [s]. Return which assumption it shows to be broken, or None."""
        position = observation[:3]
        if self._from is None:
            self._from = self._to = position.copy()
            self._sent, self._until = -np.inf, np.inf
            return None
        return "tracking" if self.off(position, time) > self.tracking else None

    def at(self, now: float) -> np.ndarray:
        """Return the reference's position (3,) at a clock time [s]."""
        assert self._from is not None
        share = min(max((now - self._sent) / self.limits.control_dt, 0.0), 1.0)
        return self._from + share * (self._to - self._from)

    def _velocity(self, now: float) -> np.ndarray:
        """Return its velocity (3,) [m/s]. After a command was reached it goes to 0 within one control period."""
        assert self._from is not None
        dt = self.limits.control_dt
        left = min(max(2.0 - (now - self._sent) / dt, 0.0), 1.0)
        return (self._to - self._from) * (left / dt)

    # ------------------------------------------------------------ what a command would make of it

    def motions(self, paths: np.ndarray, paces: np.ndarray, now: float) -> Motion:
        """Return the motions along paths, each at its pace, and their stops.

        Args:
            paths: positions to head for, one per control period (P, n, 3) [m].
            paces: shares of the first step that are made (P,).
            now: clock time [s].
        """
        limits, here, dt = self.limits, self.at(now), self.limits.control_dt
        first = paths[:, 0] - here  # (P, 3)
        step = paces * np.linalg.norm(first, axis=-1)
        slower = limits.deceleration * dt * dt * np.arange(self.steps)  # (J,)
        along = np.maximum(step[:, None] - slower, 0.0).cumsum(1)  # (P, J)
        commands = _points(_straight_on(here, paths), along)
        commands[:, 0] = np.where(paces[:, None] == 1.0, paths[:, 0], commands[:, 0])  # as it is, to the last bit
        moves = 1 + np.count_nonzero(np.diff(along, axis=1) > SAME, axis=1)
        elapsed = min(max(now - self._sent, 0.0), dt) / dt
        return self._motion(here, commands, (moves + 1) * dt, self._velocity(now), elapsed)

    def _motion(
        self, here: np.ndarray, commands: np.ndarray, seconds: np.ndarray, velocity: np.ndarray, elapsed: float
    ) -> Motion:
        limits, dt = self.limits, self.limits.control_dt
        knots = np.concatenate((np.broadcast_to(here, (len(commands), 1, 3)), commands), 1)  # (P, J+1, 3)
        steps = np.diff(knots, axis=1)
        velocities = np.concatenate((np.broadcast_to(velocity, (len(commands), 1, 3)), steps / dt), 1)
        change = np.linalg.norm(np.diff(velocities, axis=1), axis=-1)  # (P, J)
        change[:, 0] /= max(elapsed, 1e-6)
        allowed = (change <= limits.acceleration * dt + SAME).all(1)
        allowed &= (np.linalg.norm(steps, axis=-1) <= limits.speed * dt + SAME).all(1)
        allowed &= ((commands >= limits.low) & (commands <= limits.high)).all((1, 2))
        allowed &= (limits.seconds(knots[:, :-1], knots[:, 1:]) <= dt + SAME).all(1)
        kept = np.broadcast_to(self.kept, (len(commands), len(self.kept)))
        ends = self.body(knots)
        return Motion(ends, ends[:, -1], kept, seconds, commands, allowed)

    def offers(self, command: np.ndarray, ahead: np.ndarray, paces: np.ndarray, now: float) -> Motion:
        """Return what there is to choose from for a command, the best first.

        At each pace the robot may brake along the plan, or straight on, where the plan turns more sharply than is
        allowed.

        Args:
            command: the plan's (3,) [m].
            ahead: the plan's commands after it (n, 3) [m].
            paces: at which the path may be followed, from 1 downward (P,).
            now: clock time [s].
        """
        straight = command + np.arange(AHEAD)[:, None] * (command - self.at(now))
        along = straight.copy()
        ahead = ahead[: AHEAD - 1]
        along[1 : 1 + len(ahead)] = ahead
        if len(ahead):
            along[1 + len(ahead) :] = ahead[-1]
        return self.motions(np.stack((along, straight) * len(paces)), np.repeat(paces, 2), now)

    def first_steps(self, commands: np.ndarray, now: float) -> Motion:
        """Return the motions by commands (P, 3) of P different plans, each with its stop straight on."""
        return self.motions(commands[:, None], np.ones(len(commands)), now)

    def off(self, position: np.ndarray, time: float) -> float:
        """Return the distance of a position (3,) from the reference at a clock time [s], in metres."""
        return float(np.linalg.norm(position - self.at(time)))

    def take(self, motion: Motion, chosen: int, now: float) -> np.ndarray:
        """Follow one of the motions, and return its command (3,)."""
        self._rest = motion.commands[chosen, 1:]
        self._until = now + float(motion.seconds[chosen])
        return self._go(motion.commands[chosen, 0], now)

    def _go(self, command: np.ndarray, now: float) -> np.ndarray:
        self._from, self._to, self._sent = self.at(now), command, now
        return command

    # ------------------------------------------------------------ the last certified stop

    def stop(self, now: float) -> Motion:
        """Return what is left of the last stop: P = 1. Its first command is where the reference heads for anyway."""
        left = self._rest[np.linalg.norm(np.diff(self._rest, axis=0, prepend=self._to[None]), axis=-1) > SAME]
        commands = np.concatenate((self._to[None], left))[None]
        seconds = np.array([max(self._until - now, 0.0) if len(left) or not self._arrived(now) else 0.0])
        return self._motion(self.at(now), commands, seconds, self._velocity(now), 1.0)

    def follow_stop(self, now: float) -> np.ndarray | None:
        """Return the next command of the last stop (3,), or None where the reference goes on to the last one."""
        if not len(self._rest) or now < self._sent + (1 - EARLY) * self.limits.control_dt:
            return None
        command, self._rest = self._rest[0], self._rest[1:]
        return None if np.linalg.norm(command - self._to) <= SAME else self._go(command, now)

    def _arrived(self, now: float) -> bool:
        return now >= self._sent + self.limits.control_dt or bool(np.linalg.norm(self._to - self.at(now)) <= SAME)

    # ------------------------------------------------------------ out of the way of a moving obstacle

    def displaced(self, by: np.ndarray, now: float) -> np.ndarray:
        """Return the ends of the capsules (P, K, 2, 3) [m] with the reference moved by (P, 3) [m]."""
        return self.body(self.at(now) + by)

    def reach(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest step of the reference along each axis that limits allow, (3,) [m]."""
        dt = self.limits.control_dt
        most = self.limits.acceleration * dt * dt / np.sqrt(3.0)
        here, step = self.at(now), self._velocity(now) * dt
        return np.maximum(step - most, self.limits.low - here), np.minimum(step + most, self.limits.high - here)

    def aside(self, step: np.ndarray, now: float) -> np.ndarray:
        """Return the command (3,) that moves the reference by a step (3,) [m]."""
        return self.at(now) + step


def _straight_on(here: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Return polylines from ``here`` along paths (P, n, 3), and from their last move straight on: (P, n+2, 3)."""
    points = np.concatenate((np.broadcast_to(here, (len(paths), 1, 3)), paths), 1)
    moves = np.diff(points, axis=1)
    lengths = np.linalg.norm(moves, axis=-1)
    last = np.where(lengths > SAME, np.arange(lengths.shape[1]), -1).max(1)
    each = np.arange(len(paths))
    way = moves[each, last] / np.maximum(lengths[each, last], SAME)[:, None]
    return np.concatenate((points, points[:, -1:] + BEYOND * way[:, None]), 1)


def _points(polylines: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the points (P, J, 3) at distances ``along`` (P, J) [m] from the beginning of polylines (P, n, 3)."""
    moves = np.diff(polylines, axis=1)
    lengths = np.linalg.norm(moves, axis=-1)
    ends = lengths.cumsum(1)  # (P, n-1)
    part = (along[:, :, None] > ends[:, None]).sum(-1).clip(max=ends.shape[1] - 1)  # (P, J)
    each = np.arange(len(polylines))[:, None]
    share = 1 - (ends[each, part] - along) / np.maximum(lengths[each, part], SAME)
    return polylines[each, part] + np.clip(share, 0.0, 1.0)[..., None] * moves[each, part]
