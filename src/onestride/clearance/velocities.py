"""The reference of a small robot that is sent velocities, such as a quadrotor, and its stop.

The body is a sphere. A command sets an acceleration towards the commanded velocity, with the time constant
``response``, for one control period. Without a further command the robot brakes in a straight line by itself and
hovers. That is its stop: nothing needs to be sent.

Position and velocity are observed, its attitude is not: the robot reacts late, and flies on meanwhile. The path's
straight part is therefore longer by ``reaction`` times the speed. What is left of the error is ``tracking``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from onestride.clearance.certificate import Motion

#: A robot that is pushed beyond its largest speed by more than this factor is certified nothing.
FASTER = 1.1


@dataclass(frozen=True)
class VelocityLimits:
    """What the reference may do, and how far the robot is from it then.

    Attributes:
        speed: largest [m/s].
        acceleration: largest that a command may ask for [m/s^2].
        deceleration: with which the robot brakes by itself [m/s^2].
        response: time constant with which a commanded velocity is approached [s].
        control_dt: for which a command holds [s].
        reaction: by which the straight part of the path is longer, times the speed there [s].
        tracking: largest distance of the robot from that path [m].
    """

    speed: float
    acceleration: float
    deceleration: float
    response: float
    control_dt: float
    reaction: float
    tracking: float


class VelocityReference:
    """Where the robot is, and what a command would make of it.

    Args:
        radius: of the body, and margin [m].
        limits: what the reference may do.
    """

    def __init__(self, radius: float, limits: VelocityLimits) -> None:
        self.radius, self.limits = radius, limits
        self.begin()

    def begin(self) -> None:
        """Forget the last episode: the robot hovers where it is observed next."""
        self._tube: Motion | None = None  # where the robot is by the last command
        self._command = np.zeros(3), np.zeros(3), np.zeros(3), -np.inf  # position, velocity, acceleration, when
        self._seen = np.zeros(3), np.zeros(3), 0.0

    def observe(self, observation: np.ndarray, time: float) -> str | None:
        """Take an observation of clock time ``time`` [s]. Return which assumption it shows to be broken, or None."""
        position, velocity = observation[:3].copy(), observation[3:6].copy()
        self._seen = position, velocity, time
        if self._tube is None:
            self._command = position, np.zeros(3), np.zeros(3), -np.inf
            self._tube = self.stop(time)
            return "tracking" if np.linalg.norm(velocity) > 0.1 * self.limits.speed else None
        return "tracking" if self.off(position) > self.limits.tracking else None

    def off(self, position: np.ndarray) -> float:
        """Return the distance of a position (3,) from the path of the last command [m]."""
        assert self._tube is not None
        start, way = self._tube.ends[0, 0, :, 0], np.diff(self._tube.ends[0, 0], axis=1)[:, 0]
        share = ((position - start) * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-12)
        distances = np.linalg.norm(start + np.clip(share, 0.0, 1.0)[:, None] * way - position, axis=-1)
        return float(distances.min())

    def at(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return position [m] and velocity [m/s] of the reference at a clock time [s], (3,) each."""
        position, velocity, pull, sent = self._command
        passed, dt, brake = now - sent, self.limits.control_dt, self.limits.deceleration
        if passed == np.inf:
            return position, np.zeros(3)
        moved = min(passed, dt)
        position, velocity = position + (velocity + 0.5 * moved * pull) * moved, velocity + moved * pull
        speed, rest = sqrt(velocity @ velocity), max(passed - dt, 0.0)
        if speed <= brake * rest:
            return position + velocity * (0.5 * speed / brake), np.zeros(3)
        slowing = velocity * (-brake / max(speed, 1e-12))
        return position + (velocity + 0.5 * rest * slowing) * rest, velocity + rest * slowing

    def _now(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return where the robot is at a clock time [s], from when it was observed."""
        position, velocity, seen = self._seen
        (there, speed), (then, before) = self.at(now), self.at(seen)
        return position + there - then, velocity + speed - before

    # ------------------------------------------------------------ what a command would make of it

    def motions(self, commands: np.ndarray, now: float) -> Motion:
        """Return the motions by commands (P, 3) [m/s], and their stops. A command beyond the limits is shortened."""
        limits, (position, velocity), dt = self.limits, self._now(now), self.limits.control_dt
        fast = _lengths(commands)
        wanted = np.where(fast > limits.speed, commands * (limits.speed / np.maximum(fast, 1e-9)), commands)
        pull = (wanted - velocity) / limits.response
        hard = _lengths(pull)
        pull = np.where(hard > limits.acceleration, pull * (limits.acceleration / np.maximum(hard, 1e-9)), pull)
        sent = np.where(hard > limits.acceleration, velocity + pull * limits.response, wanted)
        after = velocity + pull * dt
        turn = position + (velocity + 0.5 * dt * pull) * dt
        return self._path(position, turn, after, sent[:, None])

    def _path(self, start: np.ndarray, turn: np.ndarray, velocity: np.ndarray, commands: np.ndarray) -> Motion:
        """Return motions from ``start`` (3,) to ``turn`` (P, 3), and from there by ``velocity`` (P, 3) to rest."""
        limits, speed = self.limits, _lengths(velocity)  # (P, 1)
        ends, last = np.empty((len(turn), 1, 2, 2, 3)), np.empty((len(turn), 2, 2, 3))
        ends[:, 0, 0, 0], ends[:, 0, 0, 1], ends[:, 0, 1, 0] = start, turn, turn
        ends[:, 0, 1, 1] = turn + velocity * (0.5 * speed / limits.deceleration + limits.reaction)
        last[:] = (turn + velocity * (0.5 * speed / limits.deceleration))[:, None, None]
        kept = np.full((len(turn), 2), self.radius + limits.tracking)
        seconds = (limits.control_dt + speed / limits.deceleration + limits.reaction)[:, 0]
        return Motion(ends, last, kept, seconds, commands, (speed <= FASTER * limits.speed)[:, 0])

    def offers(self, command: np.ndarray, ahead: np.ndarray, paces: np.ndarray, now: float) -> Motion:
        """Return what there is to choose from for a command, the best first: the command at each pace.

        Args:
            command: the plan's (3,) [m/s].
            ahead: not needed: the robot stops in a straight line.
            paces: at which the plan may be followed, from 1 downward (P,).
            now: clock time [s].
        """
        del ahead
        return self.motions(paces[:, None] * command, now)

    def take(self, motion: Motion, chosen: int, now: float) -> np.ndarray:
        """Follow one of the motions, and return its command (3,)."""
        command = motion.commands[chosen, 0]
        position, velocity = self._now(now)
        self._command = position, velocity, (command - velocity) / self.limits.response, now
        self._tube = motion.only(chosen)
        return command

    def first_steps(self, commands: np.ndarray, now: float) -> Motion:
        """Return the motions by commands (P, 3) of P different plans."""
        return self.motions(commands, now)

    # ------------------------------------------------------------ the last certified stop

    def stop(self, now: float) -> Motion:
        """Return what is left of the last stop: P = 1."""
        here, velocity = self.at(now)
        begun = self._command[3] + self.limits.control_dt  # of the straight part
        turn, after = (here, velocity) if now >= begun else self.at(begun)
        motion = self._path(here, turn[None], after[None], np.zeros((1, 1, 3)))
        return replace(motion, seconds=motion.seconds * velocity.any())

    def follow_stop(self, now: float) -> np.ndarray | None:
        """Return None: the robot stops by itself when nothing is sent."""
        del now
        return None

    # ------------------------------------------------------------ out of the way of a moving obstacle

    def displaced(self, by: np.ndarray, now: float) -> np.ndarray:
        """Return the ends (P, 2, 2, 3) [m] of the resting body with the reference moved by (P, 3) [m]."""
        return np.broadcast_to((self.at(now)[0] + by)[:, None, None], (len(by), 2, 2, 3))

    def reach(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest step along each axis (3,) [m]: what a few control periods allow."""
        del now
        most = np.full(3, self.limits.speed * self.limits.response / np.sqrt(3.0))
        return -most, most

    def aside(self, step: np.ndarray, now: float) -> np.ndarray:
        """Return the command (3,) [m/s] that heads for a step (3,) [m]."""
        del now
        return step / self.limits.response


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Return the lengths (P, 1) of vectors (P, 3)."""
    return np.sqrt((vectors * vectors).sum(-1, keepdims=True))
