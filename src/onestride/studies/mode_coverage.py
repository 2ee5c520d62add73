"""Which behaviour do candidates follow at an episode's first state, where the data holds all of them?

python -m onestride.studies mode_coverage --run RUN --behaviours expert.npz medium.npz [--out results/modes/NAME.json]

What no candidate follows there, no selector can choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from onestride.data.actors import BehaviourPolicy, identities, read_behaviour
from onestride.evaluation.candidates import candidates_at
from onestride.evaluation.metrics import over_seeds
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.evaluation.variant import Variant
from onestride.policy.policy import Policy, unselected
from onestride.progress import track
from onestride.reports.captions import over_seeds as deviation
from onestride.reports.documents import records
from onestride.reports.style import label
from onestride.reports.table import Column, Table
from onestride.runs.run import CRITIC, task_of, trained_methods

STARTS = FIRST_SEED + 50_000  # none of an evaluation's
#: How candidates are drawn (as for whom, and in which setting) -> ends of its rows' names and labels, in their order.
DRAWN = {("none", "whole-noise"): (", whole noise", ", λ = 1"), ("none", ""): ("", ""), ("iql", ""): ("-iql", " (IQL)")}
SHARE = Column("followed", "follow the better behaviour", digits=1, kind="percent")
COLUMNS = (
    SHARE, Column("starts_without", "first states without such a candidate", digits=1, kind="percent"),
    Column("followed_at_0.3", "follow it, λ = 0.3", digits=1, kind="percent"),
    *(Column(f"followed_at_{t}", f"λ = {t}", digits=1, kind="percent") for t in ("0.5", "0.7", "1")),
    Column("mode_distance", "distance from the nearer behaviour", digits=3),
)  # fmt: skip


def measure(run: Path, behaviours: tuple[Path, ...], starts: int = 256) -> dict[str, Any]:
    """Return the record of a run's planners, by the policies that its data is of, the better one first."""
    if len(behaviours) < 2:
        raise ValueError(f"--behaviours names {len(behaviours)}; candidates follow one of at least two")
    task = task_of(run)
    policies = [read_behaviour(path) for path in behaviours]
    assert task.benchmark is not None
    first = first_states(task.benchmark.environment, starts)
    found = sorted(trained_methods(run).items(), key=lambda item: item[1])  # by row and seed
    planners = {name: row for name, row in found if row[0] not in ("ct", "cd")}
    critic = run / CRITIC if (run / CRITIC).is_dir() else None
    measured: dict[Variant, list[dict[str, float]]] = {}
    with track("planners", len(planners)) as bar:
        for number, (name, (method, seed)) in enumerate(planners.items()):
            policy = Policy.from_pretrained(run / name, selector=unselected)
            drawn = Variant(method=method, selector="none")
            measured.setdefault(drawn, []).append(covered(policy, first, policies, seed))
            if critic is not None:
                ranked = Policy.from_pretrained(run / name, selector=critic)
                if not torch.equal(ranked.temperature, policy.temperature):  # candidates are drawn for it otherwise
                    for_critic = replace(drawn, selector="iql")
                    measured.setdefault(for_critic, []).append(covered(ranked, first, policies, seed))
            if method == "teacher":
                policy.temperature[:] = 1.0
                measured[replace(drawn, setting="whole-noise")] = [covered(policy, first, policies, seed)]
            bar.update(number + 1)
    return {
        "config": {"behaviours": identities(policies), "starts": len(first)},
        "seeds": {"episodes": STARTS, "training": sorted({seed for _, seed in planners.values()})},
        "rows": {v.method + DRAWN[v.selector, v.setting][0]: summary(v, found) for v, found in measured.items()},
        "notes": [
            f"At {len(first)} first states outside the evaluation, 64 candidates each; one follows the behaviour whose "
            "mean action there is nearer to its first action.",
        ],
    }


def first_states(environment: str, count: int) -> np.ndarray:
    """Return the first observations (count, O) of an environment's episodes."""
    env = gymnasium.make(environment)
    states = [env.reset(seed=STARTS + i)[0] for i in range(count)]
    env.close()
    return np.stack(states)


def covered(policy: Policy, first: np.ndarray, behaviours: list[BehaviourPolicy], seed: int) -> dict[str, float]:
    """Return how 64 candidates at each of these observations (B, O) cover the behaviours."""
    plans = candidates_at(policy, torch.from_numpy(first).float(), seed)
    actions = policy.normalizer.unnormalize(plans)[:, :, 0, policy.control.state_dim :]
    limits = (torch.from_numpy(bound).float() for bound in (policy.control.limits.low, policy.control.limits.high))
    modes: Tensor = torch.stack([torch.from_numpy(b.act(first)).float() for b in behaviours])
    return coverage(actions.clamp(*limits), modes, policy.temperature)


def coverage(actions: Tensor, modes: Tensor, temperature: Tensor) -> dict[str, float]:
    """Return how often the first of the modes is followed.

    Args:
        actions: Of candidates (B, N, A).
        modes: What each behaviour would do (K, B, A).
        temperature: Of the noise of each candidate (N,).

    Returns:
        The share of candidates nearest to modes[0], by temperature too where there are several; the share of the B
        states in which no candidate is; the root mean square distance from the nearest mode, averaged.
    """
    distance = (actions - modes[:, :, None]).square().mean(-1).sqrt()  # (K, B, N)
    followed = (distance.argmin(0) == 0).float()
    made = {
        "followed": float(followed.mean()),
        "starts_without": float((followed.sum(1) == 0).float().mean()),
        "mode_distance": float(distance.amin(0).mean()),
    }
    several = temperature.unique().tolist()
    if len(several) > 1:
        made |= {f"followed_at_{t:g}": float(followed[:, temperature == t].mean()) for t in several}
    return made


def summary(variant: Variant, per_seed: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the metrics of one row over its training seeds."""
    metrics = {name: over_seeds([found[name] for found in per_seed]) for name in per_seed[0]}
    return {"variant": variant.fields(), **metrics}


def table(record: dict[str, Any]) -> Table:
    """Return a line per planner and way to draw its candidates, the teacher with all its noise first."""
    found = {Variant.of(row): row for row in record["rows"].values()}
    order = sorted(found, key=lambda v: (v.order[0], list(DRAWN).index((v.selector, v.setting))))
    rows = {label(v.method) + DRAWN[v.selector, v.setting][1]: found[v] for v in order}
    said = f"{deviation(found.values(), SHARE.metric)}, {record['config']['starts']} first states each."
    return Table(COLUMNS, rows, (said,))


def tables(results: Path) -> dict[str, Table]:
    """Return a table for every committed dataset."""
    return {f"modes-{name}": table(record) for name, record in records(results / "modes").items()}
