"""A robot whose observation is its last few, one per control period, the oldest first."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import numpy as np

from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, ObservationError, observation_vector
from onestride.robot.robot import Robot, TimedObservation

#: A sample this share of a control period early still counts as the one of its period.
EARLY = 0.25
#: Samples that are kept for each one that is used: a loop may tick faster than the control period.
KEPT = 64
#: After a pause of more control periods the earlier samples are too old to come before a new one.
PAUSE = 1.75

T = TypeVar("T")


class Samples(Generic[T]):
    """The last observations of a robot, from which a decision's are taken.

    The observation k control periods ago is the last sample that is so old. Before there is one, the oldest sample
    stands for it, as windows at an episode's start repeat their first row.

    Args:
        n_obs_steps: how many a decision is about.
        control_dt: control period [s].
    """

    def __init__(self, n_obs_steps: int, control_dt: float) -> None:
        self.n_obs_steps, self.control_dt = n_obs_steps, control_dt
        self._samples: deque[tuple[float, T]] = deque(maxlen=KEPT * n_obs_steps)

    def clear(self) -> None:
        """Forget all samples: an episode begins."""
        self._samples.clear()

    def clear_after_pause(self, now: float) -> None:
        """Forget all samples where the last is of long before ``now``, or of after it [s]: a new one begins anew."""
        if self._samples and not 0 <= now - self._samples[-1][0] <= PAUSE * self.control_dt:
            self.clear()

    def add(self, time: float, sample: T) -> list[T]:
        """Keep the observation of a time [s], and return the decision's then, the oldest first."""
        self._samples.append((time, sample))
        earlier = range(self.n_obs_steps - 1, 0, -1)
        return [*(self._at(time - (back - EARLY) * self.control_dt) for back in earlier), sample]

    def _at(self, time: float) -> T:
        """The last sample no younger than ``time``, or the oldest that there is."""
        for when, sample in reversed(self._samples):
            if when <= time:
                return sample
        return self._samples[0][1]


class History:
    """Reads ``robot`` and gives its last ``n_obs_steps`` observations as one (observation_dim,), see ``Samples``."""

    def __init__(self, robot: Robot, spec: ControlSpec, clock: Clock) -> None:
        self.robot, self.spec, self.clock = robot, spec, clock
        self._samples: Samples[np.ndarray] = Samples(spec.n_obs_steps, spec.control_dt)
        self.write, self.stop, self.fault = robot.write, robot.stop, robot.fault

    def read(self) -> np.ndarray | TimedObservation:
        """Return the last observations; one that is no vector comes back as the robot gave it, to be refused."""
        asked = self.clock.now()
        given = self.robot.read()
        time, values = (given.time, given.values) if isinstance(given, TimedObservation) else (asked, given)
        try:
            vector = np.array(observation_vector(values, self.spec.step_dim))
        except ObservationError:
            return given
        return TimedObservation(np.concatenate(self._samples.add(time, vector)), time)
