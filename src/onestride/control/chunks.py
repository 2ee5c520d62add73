"""How the plans of asynchronous inference join, where several rows of each are carried out.

A plan comes when some rows after its observation have been carried out, of the plan before it. From then on

    switch    its own rows are sent: naive switching, with a jump where the two plans differ
    ensemble  means of all plans that have a row for this period are sent, with exponential weights (ACT's temporal
              ensembling, Zhao et al. 2023); it is decided as often as decisions come
    prefix    its own rows are sent, and it was told the rows before: they were committed when it was asked for, and
              it goes on from them (real-time chunking, ``methods/prefixed.py``)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from onestride.control.fallback import Fallback, row_of
from onestride.control.sensor import Reading
from onestride.robot.control_spec import ControlSpec
from onestride.robot.decision import AsyncDecider

Join = Literal["switch", "ensemble", "prefix"]
Rows = Callable[[], np.ndarray | None]
#: Sums of times differ by less than this share of a row.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Chunking:
    """How plans join.

    Attributes:
        join: see above.
        latency: within how many rows an answer comes at most; a plan is then carried out for ``n_action_steps`` rows
            from there on, or until the next can be there, while it has them. None: as many as decisions have taken so
            far, and never more than the planner's longest prefix.
        decay: m of the weights exp(-m i) of an ensemble, i = 0 for the oldest plan.

    Raises:
        ValueError: there is no such join, or a number is negative.
    """

    join: Join = "switch"
    latency: int | None = 0
    decay: float = 0.01

    def __post_init__(self) -> None:
        if self.join not in get_args(Join):
            raise ValueError(f"chunking.join is {self.join!r}; there are {', '.join(get_args(Join))}")
        if self.decay < 0 or (self.latency is not None and self.latency < 0):
            raise ValueError(f"latency and decay must not be negative, got {self.latency=}, {self.decay=}")

    def check(self, control: ControlSpec, longest: int) -> None:
        """Raise ValueError unless plans of this task, by a planner with this longest prefix, can be joined so."""
        if self.join != "switch" and (control.commands is None or control.n_action_steps == 1):
            raise ValueError(
                f"chunks of '{control.name}' cannot be joined by '{self.join}': n_action_steps is "
                f"{control.n_action_steps}, expected at least 2, and every row of a plan must be a command"
            )
        if self.join == "prefix" and max(self.latency or 0, 1) > longest:
            raise ValueError(
                f"chunking.latency is {self.latency} rows, and the longest prefix that the planner has learnt is "
                f"{longest}; train it with --prefix {max(self.latency or 0, 1)} or more, or join by 'switch'"
            )


class Chunks:
    """The plans of one episode that are still of use, and what of them is committed.

    Args:
        chunking: how they join.
        control: the control interface of the task.
        fallback: follows the plan that is sent.
        longest: the planner's longest prefix.
    """

    def __init__(self, chunking: Chunking, control: ControlSpec, fallback: Fallback, longest: int) -> None:
        self.chunking, self.control, self.fallback, self.longest = chunking, control, fallback, longest
        # Observed when, and its commands; the oldest first.
        self._plans: deque[tuple[float, np.ndarray]] = deque(maxlen=control.horizon)
        self._committed: dict[float, np.ndarray] = {}  # by the time of the observation

    @property
    def eager(self) -> bool:
        """Whether a plan is asked for whenever none is being made."""
        return self.chunking.join == "ensemble"

    @property
    def waits(self) -> bool:
        """Whether one plan at a time is asked for."""
        return self.chunking.join == "prefix"

    def latency(self, took: float) -> int:
        """Return within how many rows an answer is expected, where decisions take ``took`` [s]."""
        if self.chunking.latency is not None:
            return self.chunking.latency
        rows = math.ceil(took / self.control.control_dt - ROUNDING)
        return min(rows, self.longest) if self.chunking.join == "prefix" else rows

    def rows(self, took: float) -> int:
        """Return for how many rows from its observation on a plan is carried out."""
        latency = self.latency(took)
        return min(max(self.control.n_action_steps, latency) + latency, self.control.horizon)

    def commit(self, observed: float, now: float, took: float) -> np.ndarray | None:
        """Return the commands (n, A) that are sent until the plan for an observation of time ``observed`` is there.

        They are the next rows of the running plan: the one that is sent now, and as many as the answer takes. None:
        nothing is promised. Between two rows positions move with time, from the observation on; other commands are
        those of ticks, of which this one's is sent ``now``, a little after its reading.
        """
        if not self.waits:
            return None
        begins = observed if self.control.position_commands else now
        made = self.fallback.rows_ahead(begins, max(self.latency(took), 1))
        if made is None or not len(made):
            return None
        self._committed = {observed: made}  # one plan at a time is asked for
        return made

    def submit(self, policy: AsyncDecider, reading: Reading, now: float, took: float) -> None:
        """Have a policy decide about a reading, told what is sent meanwhile; see ``commit``."""
        committed = self.commit(reading.time, now, took)
        more = () if committed is None else (committed,)  # a policy without a prefix need not know the word
        policy.submit(reading.observation, reading.time, *more)

    def promised(self, observed: float) -> np.ndarray | None:
        """Return what was committed for the plan of an observation of that time (n, A), or None."""
        return self._committed.get(observed)

    def joined(self, rows: Rows, observed: float) -> Rows:
        """Return the commands to be sent of a plan whose own are ``rows``, made from an observation of that time.

        What was promised for it is what is sent.
        """
        if self.chunking.join == "ensemble":
            return lambda: self._ensemble(rows(), observed)
        promised = self.promised(observed)
        return rows if promised is None else lambda: _beginning_with(promised, rows())

    def _ensemble(self, own: np.ndarray | None, observed: float) -> np.ndarray | None:
        """Return the weighted means (H, A) of all plans that have a row for each period, and keep this one's."""
        if own is None:
            return None
        while self._plans and self.fallback.rows_since(self._plans[0][0], observed) >= self.control.horizon:
            self._plans.popleft()
        self._plans.append((observed, own))
        total, weights = np.zeros_like(own), np.zeros((len(own), 1))
        for i, (when, plan) in enumerate(self._plans):
            offset, weight = self.fallback.rows_since(when, observed), math.exp(-self.chunking.decay * i)
            for j in range(len(own)):
                row = row_of(plan, offset + j, interpolate=self.control.position_commands)
                if row is not None:
                    total[j], weights[j] = total[j] + weight * row, weights[j] + weight
        return total / weights


def _beginning_with(promised: np.ndarray, rows: np.ndarray | None) -> np.ndarray | None:
    return None if rows is None else np.concatenate((promised, rows[len(promised) :]))
