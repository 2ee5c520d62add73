"""What a log is compared with: a sample of the episodes that a policy learnt from, small enough to go with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from onestride.files import CheckpointError, write_atomically
from onestride.robot.control_spec import ControlSpec

#: At most so many rows are kept.
LARGEST = 60_000
#: Fewer episodes than this say too little of how much they differ.
FEWEST = 8
FORMAT = "onestride-doctor-1"


@dataclass(frozen=True, eq=False)
class Reference:
    """Episodes of a task's data.

    Attributes:
        task: its name.
        control_dt: time between two rows [s].
        episodes: observations (T_e, numbers_dim) each, of 3 rows or more.
    """

    task: str
    control_dt: float
    episodes: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, spec: ControlSpec, episodes: Iterable[np.ndarray]) -> Reference:
        """Return a sample of episodes' observations (T_e, step_dim each), spread over all of them.

        Raises:
            ValueError: there are fewer than ``FEWEST`` of 3 rows or more.
        """
        found = [np.asarray(e, np.float32)[:, : spec.numbers_dim] for e in episodes]
        found = [e for e in found if len(e) > 2]
        if len(found) < FEWEST:
            raise ValueError(
                f"there are {len(found)} episodes of 3 rows or more, expected {FEWEST} or more to compare with"
            )
        kept, rows = [], 0
        for i in np.random.default_rng(0).permutation(len(found)):
            if len(kept) >= FEWEST and rows + len(found[i]) > LARGEST:
                break
            kept.append(found[i])
            rows += len(found[i])
        return cls(spec.name, spec.control_dt, tuple(kept))

    def save(self, path: Path) -> None:
        """Write it as a safetensors file, atomically."""
        arrays = {
            "rows": np.concatenate(self.episodes),
            "lengths": np.array([len(e) for e in self.episodes], np.int64),
            "control_dt": np.array([self.control_dt]),
        }
        said = {"onestride": json.dumps({"format": FORMAT, "task": self.task})}
        write_atomically(path, lambda new: save_file(arrays, new, said))

    @classmethod
    def load(cls, path: Path, spec: ControlSpec) -> Reference:
        """Return what ``save`` wrote.

        Raises:
            FileNotFoundError: nothing there. CheckpointError: no such file, or of another task.
        """
        from safetensors import safe_open

        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; make it with `onestride doctor LOG --run RUN --save {path}`")
        again = "make it again with `onestride doctor LOG --run RUN --save FILE`"
        try:
            with safe_open(path, "np") as file:
                said = json.loads((file.metadata() or {}).get("onestride", "{}"))
            arrays = load_file(path)
        except (SafetensorError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{path} is no sample of episodes: {error}; {again}") from error
        if said.get("format") != FORMAT or arrays.keys() != {"rows", "lengths", "control_dt"}:
            raise CheckpointError(f"{path} is no sample of episodes ({FORMAT}); {again}")
        if said["task"] != spec.name or arrays["rows"].shape[1:] != (spec.numbers_dim,):
            raise CheckpointError(
                f"{path} is of task '{said['task']}' with rows {arrays['rows'].shape}, expected '{spec.name}' with "
                f"{spec.numbers_dim} numbers each"
            )
        cuts = np.cumsum(arrays["lengths"])
        if len(cuts) < FEWEST or cuts[-1] != len(arrays["rows"]):
            raise CheckpointError(
                f"{path} has {len(arrays['rows'])} rows of {len(cuts)} episodes that do not fit; {again}"
            )
        return cls(spec.name, float(arrays["control_dt"][0]), tuple(np.split(arrays["rows"], cuts[:-1])))
