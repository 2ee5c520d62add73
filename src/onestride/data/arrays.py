"""Episodes from flat arrays, which have one row per step and one episode after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from onestride.data.boundaries import Steps, marks_of, with_true_ends
from onestride.data.episode import Episode

BOUND_TOLERANCE = 1e-5  # actions may exceed their bounds by this, because float32 rounds


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
    images: Callable[[np.ndarray], Mapping[str, Any]] | None = None,
    **marks: ArrayLike,
) -> Iterator[Episode]:
    """Return the episodes in flat arrays, as float32.

    The arrays are checked when this is called. Episodes are made one at a time. Marks are compared with the numbers
    (``boundaries.py``). A terminal ends an episode as terminated, a timeout as truncated. Without ``timeouts`` an
    episode is truncated after ``max_steps`` steps. Steps after the last mark are a truncated episode.

    The observation after an episode's last action is its row of ``next_observations``. Without that array it is
    unknown:

    - A terminated episode repeats its last observation, which keeps the last reward and the termination.
    - A truncated episode ends with the observation of its last row. That row's action and reward are dropped, and an
      episode of a single step is left out.

    Args:
        observations: (M, O).
        actions: (M, A).
        rewards: (M,).
        terminals: marks (M,), true at steps that ended an episode for good.
        timeouts: marks (M,), true at steps after which an episode was cut off.
        next_observations: (M, O), the observation after each step.
        max_steps: longest episode where there are no marks of cut-off steps.
        low: lower bound of the actions, one number or (A,); None: no bound.
        high: upper bound of the actions, likewise.
        source: where the arrays are from, for messages.
        notes: a list to which it is added what was cut or interpreted differently from its marks.
        mend: whether to cut at resets that no mark shows and to leave out an environment's own reset rows, instead of
            refusing them.
        images: gives cameras' images of observations by their rows (T+1,); without ``next_observations`` alone.
        **marks: cut-off steps or ends (M,) by the names in ``boundaries.CUT_OFF`` and ``boundaries.ENDED``.

    Raises:
        ValueError: shapes or lengths disagree, a number is not finite, a mark is not 0 or 1, or an action is out of
            bounds. The message names the array and the row.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}, expected 1 or more")
    assert images is None or next_observations is None  # of the last observation there is no row
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
        sizes = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ValueError(f"{source}: lengths disagree: {sizes}; every array needs one row per step")
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
    return _cut(steps, said, images)


def _cut(of: Steps, notes: list[str], images: Callable[[np.ndarray], Mapping[str, Any]] | None) -> Iterator[Episode]:
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
            images={} if images is None else images(np.append(np.arange(steps.start, steps.stop), end)),
        )
    if single:
        notes.append(f"{single} episodes of a single step, of which nobody knows what it led to: left out")


def _every(max_steps: int, terminals: np.ndarray) -> np.ndarray:
    """Return timeouts (M,) every ``max_steps`` steps, counted from the last terminal."""
    timeouts = np.zeros_like(terminals)
    start = 0
    for end in [*np.flatnonzero(terminals).tolist(), len(terminals)]:
        timeouts[start + max_steps - 1 : end : max_steps] = True
        start = end + 1
    return timeouts


def _numbers(source: str, key: str, value: ArrayLike, ndim: int) -> np.ndarray:
    """Return an array in float32, (M, columns) or (M,). A single column (M, 1) counts as (M,)."""
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
    """Return marks of any dtype as bool (M,)."""
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
