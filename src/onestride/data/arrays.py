"""Episodes cut out of flat arrays: one row per step, one episode after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from onestride.data.boundaries import Steps, marks_of, with_true_ends
from onestride.data.episode import Episode

BOUND_TOLERANCE = 1e-5  # a clipped action that went through float32 is this near its bound, or nearer


def episodes_from_arrays(
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    terminals: ArrayLike,
    timeouts: ArrayLike | None = None,
    next_observations: ArrayLike | None = None,
    *,
    max_steps: int = 1000,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    source: str = "arrays",
    notes: list[str] | None = None,
    mend: bool = False,
    **marks: ArrayLike,
) -> Iterator[Episode]:
    """Observations (M, O), actions (M, A), rewards (M,) and end marks (M,), cut after every end; float32.

    Marks are held against the numbers (``boundaries.py``), and what is cut or understood otherwise than it is marked is
    added to ``notes``. A terminal ends an episode as terminated, a timeout as truncated; so does, without ``timeouts``,
    its step number ``max_steps``. Steps after the last mark are a truncated episode. Arrays are checked when this is
    called, episodes are made one at a time.

    What an episode's last action led to is its row of ``next_observations``.
    Without that array nobody knows, and the episode ends by what can still be said:

    - terminated: the last observation is repeated, so that the last reward and the termination are kept;
    - truncated: the last row gives its observation only. Its action and reward are dropped, and an episode of a
      single step is dropped with them.

    Args:
        low: lower bound of the actions, one number or (A,); ``None`` is no bound. ``high`` likewise.
        source: where the arrays are from, for errors.
        notes: is added to.
        mend: cut at resets that no mark shows and leave out an environment's own reset rows, instead of refusing them.
        marks: cut-off steps or ends (M,) by another name, as in ``boundaries.CUT_OFF`` and ``ENDED``.

    Raises:
        ValueError: shapes or lengths that disagree, a number that is not finite, a mark that is not 0 or 1, an action
            out of bounds; the key and the row in the flat array are named.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}, expected 1 or more")
    flat = {
        "observations": _numbers(source, "observations", observations, 2),
        "actions": _numbers(source, "actions", actions, 2),
        "rewards": _numbers(source, "rewards", rewards, 1),
        "terminals": _marks(source, "terminals", terminals),
    }
    ends = {name: _marks(source, name, value) for name, value in marks.items()}
    if timeouts is not None:
        ends["timeouts"] = _marks(source, "timeouts", timeouts)
    if next_observations is not None:
        flat["next_observations"] = _numbers(source, "next_observations", next_observations, 2)

    lengths = {key: len(array) for key, array in (flat | ends).items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{source}: lengths disagree: {lengths}; every array needs one row per step")
    if not lengths["actions"]:
        raise ValueError(f"{source}: no step in it")
    if next_observations is not None and flat["next_observations"].shape != flat["observations"].shape:
        raise ValueError(
            f"{source}: next_observations has shape {flat['next_observations'].shape}, expected that of observations, "
            f"{flat['observations'].shape}"
        )
    _check_bounds(source, flat["actions"], low, high)
    said: list[str] = [] if notes is None else notes
    cut = marks_of(ends | {"terminals": flat["terminals"]}, source, said)
    steps = Steps(**flat, timeouts=np.zeros_like(flat["terminals"]) if cut is None else cut)
    steps = with_true_ends(steps, source, said, mend)
    if cut is None and not steps.timeouts.any():
        steps = replace(steps, timeouts=_every(max_steps, steps.terminals))
        if cuts := int(steps.timeouts.sum()):
            said.append(f"no cut-off steps are marked: episodes are cut after {max_steps} steps, {cuts} of them")
    return _cut(steps, said)


def _cut(of: Steps, notes: list[str]) -> Iterator[Episode]:
    observations, actions, rewards, terminals, timeouts = (
        of.observations, of.actions, of.rewards, of.terminals, of.timeouts
    )  # fmt: skip
    next_observations, marks, single = of.next_observations, of.ends, 0
    marks[-1] = True
    start = 0
    for end in np.flatnonzero(marks).tolist():
        terminated = bool(terminals[end])
        if next_observations is not None:
            steps, last = slice(start, end + 1), next_observations[end]
        elif terminated:
            steps, last = slice(start, end + 1), observations[end]
        else:
            steps, last = slice(start, end), observations[end]
        start = end + 1
        if steps.start == steps.stop:
            single += 1
            continue
        yield Episode(
            np.concatenate((observations[steps], last[None])),
            actions[steps].copy(),  # not a view that keeps the whole array
            rewards[steps].copy(),
            terminated,
            truncated=bool(timeouts[end]) or not terminated,
        )
    if single:
        notes.append(f"{single} episodes of a single step, of which nobody knows what it led to: left out")


def _every(max_steps: int, terminals: np.ndarray) -> np.ndarray:
    """Timeouts (M,): every ``max_steps`` steps, counted from the last terminal."""
    timeouts = np.zeros_like(terminals)
    start = 0
    for end in [*np.flatnonzero(terminals).tolist(), len(terminals)]:
        timeouts[start + max_steps - 1 : end : max_steps] = True
        start = end + 1
    return timeouts


def _numbers(source: str, key: str, value: ArrayLike, ndim: int) -> np.ndarray:
    """float32, (M, columns) or (M,); a single column (M, 1) is as good as (M,)."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{source}: {key} holds {array.dtype}, expected numbers")
    if ndim == 1 and array.shape[1:] == (1,):
        array = array[:, 0]
    if array.ndim != ndim:
        expected = "(steps,)" if ndim == 1 else "(steps, columns)"
        raise ValueError(f"{source}: {key} has shape {array.shape}, expected {expected}")
    with np.errstate(over="ignore"):  # it becomes inf, which is refused
        array = array.astype(np.float32, copy=False)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise ValueError(f"{source}: {_at(key, bad[0])} is not finite")
    return array


def _marks(source: str, key: str, value: ArrayLike) -> np.ndarray:
    """bool (M,), from flags of any type."""
    array = _numbers(source, key, value, 1)
    bad = np.flatnonzero((array != 0) & (array != 1))
    if len(bad):
        raise ValueError(f"{source}: {_at(key, bad[:1])} is {array[bad[0]]:g}, expected 0 or 1")
    return array.astype(bool)


def _check_bounds(source: str, actions: np.ndarray, low: ArrayLike | None, high: ArrayLike | None) -> None:
    below, above = np.asarray(-np.inf if low is None else low), np.asarray(np.inf if high is None else high)
    for name, bound in (("low", below), ("high", above)):
        if bound.shape not in ((), actions.shape[1:]):
            raise ValueError(
                f"{source}: {name} has shape {bound.shape}, expected one number or one for each of the "
                f"{actions.shape[1]} columns of actions"
            )
    bad = np.argwhere((actions < below - BOUND_TOLERANCE) | (actions > above + BOUND_TOLERANCE))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"{source}: {_at('actions', bad[0])} is {actions[row, column]:g}, outside "
            f"[{np.broadcast_to(below, actions.shape)[row, column]:g}, "
            f"{np.broadcast_to(above, actions.shape)[row, column]:g}]; give the task's own bounds as low and high, "
            "or None for no bound"
        )


def _at(key: str, index: np.ndarray) -> str:
    return f"{key}[{', '.join(map(str, index.tolist()))}]"
