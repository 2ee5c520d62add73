"""The ends of episodes in flat arrays: marks are compared with the numbers.

Every automatic cut or reinterpretation is reported in a note with its count. Contradictions are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

#: What to do about episodes that run into each other.
MEND = "{} before importing, or have it done (onestride import --mend)"
#: Other names in use for marks of cut-off steps (``timeouts``), and for marks of all ends.
CUT_OFF = ("truncations", "truncated", "truncation", "next.truncated")
ENDED = ("dones", "done")
#: Observations that differ by more than this, relative to their size or to 1, are different ones.
TOLERANCE = 1e-4
#: Largest share of steps after which another observation follows than ``next_observations`` has.
MOST_RESETS = 0.2
#: From this many rows of zeros at the end on, they count as allocated but never filled.
FEWEST_UNFILLED = 2
#: Fewer terminated episodes of one length than this are taken as marked.
FEWEST_TERMINATED = 3
#: From this many identical rows at an episode's end on, a note says that they look like padding.
PADDED = 10
#: Columns look normalised with a mean this near to 0 and a deviation this near to 1, from so many rows on.
NORMALISED, FEWEST_ROWS = 0.05, 200


@dataclass(frozen=True)
class Steps:
    """Flat arrays with one row per step.

    Attributes:
        observations: (M, O).
        actions: (M, A).
        rewards: (M,).
        terminals: steps that ended an episode for good (M,), bool.
        timeouts: steps after which an episode was cut off (M,), bool.
        next_observations: the observation after each step (M, O), or None where it is unknown.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    next_observations: np.ndarray | None = None

    def rows(self, which: np.ndarray | slice) -> Steps:
        """Return these rows alone."""
        following = None if self.next_observations is None else self.next_observations[which]
        return Steps(
            self.observations[which], self.actions[which], self.rewards[which], self.terminals[which],
            self.timeouts[which], following,
        )  # fmt: skip

    @property
    def ends(self) -> np.ndarray:
        """Steps that ended an episode (M,), bool."""
        return self.terminals | self.timeouts


def marks_of(named: dict[str, np.ndarray], source: str, notes: list[str]) -> np.ndarray | None:
    """Return the cut-off steps (M,) by the names that a file has for them, or None where it has none.

    Args:
        named: ``timeouts``, ``terminals`` and arrays named as in ``CUT_OFF`` and ``ENDED``.
        source: where the arrays are from, for messages.
        notes: a list to which it is added if another name than ``timeouts`` was used.

    Raises:
        ValueError: arrays of two names disagree.
    """
    found = {name: named[name] for name in ("timeouts", *CUT_OFF) if name in named}
    for name in ENDED:
        if name in named and not found:
            found[name] = named[name] & ~named["terminals"]
    if not found:
        return None
    (first, marks), *others = found.items()
    for name, other in others:
        if not np.array_equal(marks, other):
            raise ValueError(
                f"{source} has both {first} and {name}, which mark other steps as cut off; keep the one that is right"
            )
    if first != "timeouts":
        notes.append(f"cut-off steps are those marked in {first}: {int(marks.sum())} of them")
    return marks


def with_true_ends(steps: Steps, source: str, notes: list[str], mend: bool = False) -> Steps:
    """Return the steps with the ends that the numbers show.

    - Rows of zeros at the end of the arrays were allocated and never filled. They are left out.
    - A row from an episode's last observation to the next episode's first is a vector environment's own reset
      (Gymnasium's autoreset). It is refused, or left out with ``mend``.
    - Where the next row does not begin with a step's next observation, a reset has no mark. It is refused, or the
      episode is cut there with ``mend``.
    - Where every episode is marked as terminated after the same number of steps, or at its time limit, the recorder
      marked any end. All episodes are then truncated.

    Args:
        steps: the arrays.
        source: where they are from, for messages.
        notes: a list to which each change is added.
        mend: whether to correct what is refused otherwise.

    Raises:
        ValueError: nothing is left, ``next_observations`` are of another recording, or there is something to mend.
    """
    steps = _without_copies(_filled(steps, source, notes), notes)
    if steps.next_observations is not None:
        steps = _without_autoreset(steps, source, notes, mend)
        steps = _cut_at_resets(steps, source, notes, mend)
    steps = _not_terminated(steps, notes)
    _say_padding(steps, notes)
    _say_normalised(steps, notes)
    return steps


def _filled(steps: Steps, source: str, notes: list[str]) -> Steps:
    nothing = ~steps.observations.any(1) & ~steps.actions.any(1) & (steps.rewards == 0) & ~steps.ends
    filled = np.flatnonzero(~nothing)
    last = int(filled[-1]) + 1 if len(filled) else 0
    empty = len(nothing) - last
    if not last:
        raise ValueError(f"{source}: every row is 0: the arrays were allocated and never filled")
    if empty < FEWEST_UNFILLED:
        return steps
    notes.append(f"{empty} rows at the end are 0 throughout (allocated and never filled): left out")
    return steps.rows(slice(last))


def _without_copies(steps: Steps, notes: list[str]) -> Steps:
    """Leave out copies of the last row with its end mark, by which arrays were padded."""
    last, copies = len(steps.rewards) - 1, 0
    while copies < last and steps.ends[last - copies] and _same_rows(steps, last - copies, last - copies - 1):
        copies += 1
    if copies < FEWEST_UNFILLED:
        return steps
    notes.append(f"the last {copies} rows are copies of the one before them, its mark included (padding): left out")
    return steps.rows(slice(len(steps.rewards) - copies))


def _same_rows(steps: Steps, one: int, other: int) -> bool:
    arrays = (steps.observations, steps.actions, steps.rewards, steps.ends)
    return all(np.array_equal(array[one], array[other]) for array in arrays)


def _differs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return whether rows (M, O) differ by more than rounding (M,)."""
    return np.any(np.abs(one - other) > TOLERANCE * np.maximum(np.abs(one), 1), axis=1, keepdims=True)[:, 0]


def _without_autoreset(steps: Steps, source: str, notes: list[str], mend: bool) -> Steps:
    following = steps.next_observations
    assert following is not None
    ends = np.flatnonzero(steps.ends[:-1])
    if not len(ends):
        return steps
    goes_on = ends[
        ~_differs(following[ends], steps.observations[ends + 1])
    ]  # the row after the end begins where it was
    rows = goes_on + 1
    if len(goes_on) < 0.9 * len(ends) or steps.rewards[rows].any():
        return steps  # a recording that goes on after a cut is none of these
    step = np.abs(following - steps.observations).max(1)
    if steps.rewards.any() or np.median(step[rows]) > 3 * np.median(step):
        found = f"{len(rows)} rows after an end are an environment's own resets (autoreset)"
        if not mend:
            raise ValueError(f"{source}: {found}, the first is row {rows[0]}; {MEND.format('leave them out')}")
        notes.append(f"{found}: left out")
        return steps.rows(np.setdiff1d(np.arange(len(steps.rewards)), rows))
    return steps


def _cut_at_resets(steps: Steps, source: str, notes: list[str], mend: bool) -> Steps:
    following = steps.next_observations
    assert following is not None
    unmarked = ~steps.ends[:-1]
    resets = np.flatnonzero(_differs(following[:-1], steps.observations[1:]) & unmarked)
    if len(resets) > MOST_RESETS * max(int(unmarked.sum()), 1) and len(resets) > 1:
        raise ValueError(
            f"{source}: next_observations are not what follows in {len(resets)} of {int(unmarked.sum())} steps "
            f"(the first is row {resets[0]}); are they of this recording, in the same units?"
        )
    if not len(resets):
        return steps
    found = f"{len(resets)} resets that no mark shows, seen in next_observations"
    if not mend:
        raise ValueError(f"{source}: {found}, the first after row {resets[0]}; {MEND.format('cut episodes there')}")
    notes.append(f"{found}: cut off there")
    timeouts = steps.timeouts.copy()
    timeouts[resets] = True
    return replace(steps, timeouts=timeouts)


def _not_terminated(steps: Steps, notes: list[str]) -> Steps:
    ends = np.flatnonzero(steps.ends)
    terminated = np.flatnonzero(steps.terminals)
    if len(terminated) < FEWEST_TERMINATED or not np.array_equal(ends, terminated):
        return steps
    lengths = np.diff(ends, prepend=-1)
    if not steps.timeouts[terminated].all() and len(set(lengths.tolist())) > 1:
        return steps
    notes.append(
        f"all {len(terminated)} episodes are marked as terminated after the same {lengths[0]} steps"
        if len(set(lengths.tolist())) == 1
        else f"all {len(terminated)} episodes are marked as terminated and as cut off at once"
    )
    notes[-1] += ": a recorder's mark of any end, so all are taken as cut off"
    return replace(steps, terminals=np.zeros_like(steps.terminals), timeouts=steps.ends)


def _say_padding(steps: Steps, notes: list[str]) -> None:
    same = np.zeros(len(steps.rewards), bool)
    for array in (steps.observations, steps.actions, steps.rewards[:, None]):
        if array is steps.observations:
            same[1:] = (array[1:] == array[:-1]).all(1)
        else:
            same[1:] &= (array[1:] == array[:-1]).all(1)
    last = np.flatnonzero(steps.ends) if steps.ends[-1] else np.append(np.flatnonzero(steps.ends), len(same) - 1)
    padded = [int(end) for end in last if end >= PADDED and same[end - PADDED + 1 : end + 1].all()]
    if padded:
        notes.append(
            f"{len(padded)} of {len(last)} episodes end with {PADDED} or more identical rows; is that padding? Then "
            "leave it out"
        )


def _say_normalised(steps: Steps, notes: list[str]) -> None:
    observations = steps.observations
    if observations.shape[1] < 3 or len(observations) < FEWEST_ROWS:
        return
    mean, deviation = observations.mean(0), observations.std(0)
    if (np.abs(mean) < NORMALISED).all() and (np.abs(deviation - 1) < NORMALISED).all():
        notes.append(
            "observations look normalised (every column has mean 0 and deviation 1): a robot gives raw ones, so undo "
            "it before importing"
        )
