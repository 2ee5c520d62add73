"""A robot whose observation is its last few, one per control period, the oldest first."""

from __future__ import annotations

from collections import deque

import numpy as np

from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, ObservationError, observation_vector
from onestride.robot.robot import Robot, TimedObservation

#: A sample this share of a control period early still counts as the one of its period.
EARLY = 0.25
#: Samples that are kept for each one that is used: a loop may tick faster than the control period.
KEPT = 64


class Samples:
    """The last observations of a robot, from which a decision's are taken.

    The observation k control periods ago is the last sample that is so old. Before there is one, the oldest sample
    stands for it, as windows at an episode's start repeat their first row.
    """

    def __init__(self, spec: ControlSpec) -> None:
        self.spec = spec
        self._samples: deque[tuple[float, np.ndarray]] = deque(maxlen=KEPT * spec.n_obs_steps)

    @property
    def latest(self) -> float | None:
        """The time of the last sample [s], or None where there is none."""
        return self._samples[-1][0] if self._samples else None

    def clear(self) -> None:
        """Forget all samples: an episode begins."""
        self._samples.clear()

    def add(self, time: float, vector: np.ndarray) -> np.ndarray:
        """Keep the observation (step_dim,) of a time [s], and return the decision's (observation_dim,) then."""
        self._samples.append((time, vector))
        dt = self.spec.control_dt
        steps = [self._at(time - (back - EARLY) * dt) for back in range(self.spec.n_obs_steps - 1, 0, -1)]
        return np.concatenate((*steps, vector))

    def _at(self, time: float) -> np.ndarray:
        """The last sample no younger than ``time``, or the oldest that there is."""
        for when, vector in reversed(self._samples):
            if when <= time:
                return vector
        return self._samples[0][1]


class History:
    """Reads ``robot`` and gives its last ``n_obs_steps`` observations as one (observation_dim,), see ``Samples``."""

    def __init__(self, robot: Robot, spec: ControlSpec, clock: Clock) -> None:
        self.robot, self.spec, self.clock = robot, spec, clock
        self._samples = Samples(spec)
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
        return TimedObservation(self._samples.add(time, vector), time)
