"""What LeRobot's real-time chunking says of the chunk before, as commands that are committed."""

from __future__ import annotations

from torch import Tensor


def committed_actions(left_over: Tensor | None, delay: int, longest: int) -> Tensor | None:
    """Return the actions of the chunk before that are sent while the next is made (n, A), or None.

    LeRobot fills a chunk's end up with rows of zeros, up to its ``execution_horizon``. Such rows are not committed:
    nobody sends them.

    Args:
        left_over: what of the chunk before is not sent yet, (T, A) or (1, T, A).
        delay: how many of them are sent until the next chunk is there.
        longest: how many of them the planner can be told.

    Raises:
        ValueError: they have another shape.
    """
    if left_over is None or delay < 1:
        return None
    rows = left_over[0] if left_over.ndim == 3 and len(left_over) == 1 else left_over
    if rows.ndim != 2:
        raise ValueError(f"prev_chunk_left_over has shape {tuple(left_over.shape)}, expected (T, A) of one robot")
    sent = rows.ne(0).any(1).nonzero()
    last = int(sent[-1]) + 1 if len(sent) else 0
    return rows[: min(delay, longest, last)] if last else None
