"""A payload is put down in the middle of an episode: HalfCheetah of 14 kg becomes one of 7 kg at its 500th step.

python -m onestride.studies off_dynamics_payload --run RUN [--out results/off-dynamics-payload/NAME.json]

RUN has contexts and a one-step student of a planner that takes conditions. The student is told the change ("told"),
finds out by itself ("follows"), or is asked for one of the bodies throughout. Its native engine decides where there is
a C compiler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onestride.engine.backends import preferred
from onestride.engine.engine import Engine
from onestride.evaluation.metrics import single, summarize
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.policy.follow_dynamics import FollowDynamics
from onestride.policy.policy import Policy, unselected
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.runs.contexts import columns_of, load_contexts
from onestride.runs.run import CONTEXTS, task_of
from onestride.tasks import TASKS
from onestride.tasks.lockstep import Lockstep
from onestride.tasks.modified_bodies.variants import source_of

AT = 500  # step of the change
DRAWS = 256
WAYS = {
    "told": "told of the change", "follows": "follows the last two seconds",
    "source": "asked for the source throughout", "target": "asked for the target throughout",
}  # fmt: skip
COLUMNS = (
    Column("return_before", "return before", digits=0),
    Column("return_after", "return after the change", digits=0),
    Column("followed_after_steps", "steps until it is followed", digits=0, spread=False),
    Column("episodes", "episodes", digits=0, spread=False),
)


def measure(run: Path, student: str = "dnk-0", episodes: int = 20) -> dict[str, Any]:
    """Return the record: every way, on the same starts."""
    own = task_of(run).name
    changing = TASKS[f"{own}-at-{AT}"]()
    assert changing.benchmark is not None
    policy = Policy.from_pretrained(run / student, candidates=1, selector=unselected)
    engine = Engine.from_policy(policy, preferred(policy), threads=1, draws=DRAWS)
    of_source = float(columns_of(run)["source.inverse"].mean())
    follower = FollowDynamics(engine, load_contexts(run / CONTEXTS), of_source)
    lockstep = Lockstep(changing.benchmark.environment, 1)
    rows, done = {}, 0
    with track("episodes", episodes * len(WAYS)) as bar:
        for way in WAYS:
            before, after, delays = [], [], []
            for number in range(episodes):
                played = Played(way, engine, follower, of_source, number)
                (episode,) = lockstep.roll([FIRST_SEED + number], played)
                before.append(float(episode.rewards[:AT].sum()))
                after.append(float(episode.rewards[AT:].sum()))
                if way == "follows":
                    delays.append(played.followed_after())
                done += 1
                bar.update(done, f"{way}: {after[-1]:.0f} after the change")
            rows[way] = {
                "return_before": summarize(before, [0] * episodes),
                "return_after": summarize(after, [0] * episodes), "episodes": single(episodes),
            }  # fmt: skip
            if delays:
                rows[way]["followed_after_steps"] = single(float(np.median(delays)))
    lockstep.close()
    return {
        "config": {"run": run.name, "student": student, "episodes": episodes, "at": AT, "engine": engine.chosen},
        "seeds": {"episodes": FIRST_SEED, "training": [int(student.rpartition("-")[2])]},
        "rows": rows,
        "notes": [
            f"{changing.benchmark.environment}: {source_of(own)} until step {AT}, {own} from then on; the same starts "
            "for every row; returns in the environment's own units.",
            "Followed: the dynamics asked for cross 0; median over episodes.",
        ],
    }


class Played:
    """What decides in an episode, one way of asking; counts steps, and keeps what was asked for."""

    def __init__(self, way: str, engine: Engine, follower: FollowDynamics, of_source: float, number: int) -> None:
        self.way, self.engine, self.follower, self.of_source = way, engine, follower, of_source
        self.asked: list[float] = []
        engine.reset(7 * number)
        follower.reset(7 * number)

    def __call__(self, observations: np.ndarray, _which: np.ndarray) -> np.ndarray:
        """Return the action (1, A)."""
        if self.way == "follows":
            action = self.follower.decide(observations[0].astype(np.float64)).action
            self.asked.append(self.follower.dynamics)
            return action[None]
        dynamics = {"source": -1.0, "target": 1.0}.get(self.way, -1.0 if len(self.asked) < AT else 1.0)
        self.asked.append(dynamics)
        self.engine.ask(**{"return": 1.0, "dynamics": dynamics, "inverse": (1 - dynamics) / 2 * self.of_source})
        return self.engine.decide(observations[0].astype(np.float64)).action[None]

    def followed_after(self) -> float:
        """Return how many steps after the change the target's side is asked for; those that are left where never."""
        later = np.array(self.asked[AT:])
        over = np.flatnonzero(later > 0)
        return float(over[0]) if len(over) else float(len(later))


def table(record: dict[str, Any]) -> Table:
    """Return a line per way."""
    return Table(COLUMNS, {WAYS[way]: row for way, row in record["rows"].items()}, tuple(record["notes"]))


def tables(results: Path) -> dict[str, Table]:
    """Return a table for every committed record."""
    return {
        f"off-dynamics-payload-{name}": table(record)
        for name, record in records(results / "off-dynamics-payload").items()
    }
