"""The reference of a robot that is sent positions, such as a hand's, and the ways to stop it on its path.

A command moves the reference in a straight line to the commanded position, within one control period. There it stays
until the next command. The stop is a row of such commands, with steps that get shorter by ``deceleration``.
"""

from __future__ import annotations

import numpy as np

from onestride.clearance.certificate import Motion
from onestride.clearance.motions import SAME, Motions, PositionLimits

#: A command that is late or early by this share of a period still follows the one before without a pause.
EARLY = 0.25
#: Rows of a plan, after the command, along which the robot may brake. Then the path goes straight on.
AHEAD = 8


class PositionReference:
    """Where the reference is, and what a command would make of it.

    Args:
        motions: what commands make of the body.
        kept: radius, tracking error and margin of each capsule (K,) [m].
        tracking: largest distance of the observed position from the reference [m].
        limits: what the reference may do.
    """

    def __init__(self, motions: Motions, kept: np.ndarray, tracking: float, limits: PositionLimits) -> None:
        self._motions, self.kept, self.tracking, self.limits = motions, kept, tracking, limits
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
        dt = self.limits.control_dt
        elapsed = min(max(now - self._sent, 0.0), dt) / dt
        made = self._motions.along(self.at(now), paths, paces, self.steps, self._velocity(now), elapsed)
        return self._motion(*made)

    def _motion(self, commands: np.ndarray, seconds: np.ndarray, ends: np.ndarray, allowed: np.ndarray) -> Motion:
        kept = np.empty((len(commands), len(self.kept)))
        kept[:] = self.kept
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
        paths = np.empty((len(paces), 2, AHEAD, 3))
        paths[:] = command + np.arange(AHEAD)[:, None] * (command - self.at(now))
        ahead = ahead[: AHEAD - 1]
        if len(ahead):
            paths[:, 0, 1 : 1 + len(ahead)] = ahead
            paths[:, 0, 1 + len(ahead) :] = ahead[-1]
        return self.motions(paths.reshape(-1, AHEAD, 3), np.repeat(paces, 2), now)

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
        return self._motion(commands, seconds, *self._motions.swept(self.at(now), commands, self._velocity(now), 1.0))

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
        return self._motions.body(self.at(now) + by)

    def reach(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest step of the reference along each axis that limits allow, (3,) [m]."""
        dt = self.limits.control_dt
        most = self.limits.acceleration * dt * dt / np.sqrt(3.0)
        here, step = self.at(now), self._velocity(now) * dt
        return np.maximum(step - most, self.limits.low - here), np.minimum(step + most, self.limits.high - here)

    def aside(self, step: np.ndarray, now: float) -> np.ndarray:
        """Return the command (3,) that moves the reference by a step (3,) [m]."""
        return self.at(now) + step
