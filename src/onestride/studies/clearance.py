"""Does clearance hold that is proved? Random scenes and plans that want to collide, and what the proofs cost.

python -m onestride.studies clearance --arms 10000 --flights 2000 --workers 2 --kept runs/clearance.jsonl \\
    [--policy runs/demo/dnk-0] [--out FILE]

Each kind of plan drives every fourth scene (``clearance_trials.Plan``), and in every second round of them the
obstacles move. A certificate counts as broken where the simulated body comes nearer than the margin while it holds.
``--policy``: a trained policy's folder, to be driven in ``--trials`` scenes of evaluations with and without the filter.
Decisions take a random part of half a control period, in simulated time. What the filter costs is CPU time, so that
other work of the machine does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from onestride.clearance import FILTERS
from onestride.clearance.native import chosen
from onestride.clearance.ranking import certified_first
from onestride.evaluation.metrics import single
from onestride.evaluation.records import Store
from onestride.processes import run_jobs
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.robot.decision import Decision
from onestride.studies.clearance_tracking import ASSUMED
from onestride.studies.clearance_trials import (
    BODIES,
    PLANS,
    Adversary,
    Body,
    Plan,
    Recorded,
    Trial,
    random_scenes,
    totals,
    trial,
)
from onestride.studies.decision_delay import Charged
from onestride.tasks import TASKS
from onestride.tasks.task import Task

NAMES = "scenes"  # what the names of results begin with
COLUMNS = (
    Column("episodes", "episodes", digits=0, spread=False),
    Column("collided", "collisions", digits=0, spread=False),
    Column("collided_certified", "of them certified", digits=0, spread=False),
    Column("certificates", "certificates", digits=0, spread=False),
    Column("broken", "did not hold", digits=0, spread=False),
    Column("violations", "violations", digits=0, spread=False),
    Column("success", "success", digits=1, kind="percent", spread=False),
    Column("filter_ms_p50", "filter, p50", "ms", 2, spread=False),
    Column("filter_ms_p99", "p99", "ms", 2, spread=False),
)
#: What becomes of commands, see ``clearance/filter.py``.
OUTCOMES = ("followed", "slower", "stopping", "standing", "aside", "unproved")
#: What the filter's times are, by what computed certificates; records from before C did do not say.
TIMES = {
    "native": "CPU time, by C", "numpy": "CPU time, by NumPy", None: "wall time beside other work, by NumPy",
}  # fmt: skip
CANDIDATES = 64
TIMEOUT = 15.0  # of a policy's trial [s]
DECISION = 0.005  # of a policy's decision [s]


def measure(
    arms: int = 300, flights: int = 100, seed: int = 0, workers: int = 1, kept: Path | None = None,
    policy: Path | None = None, trials: int = 200,
) -> dict[str, Any]:  # fmt: skip
    """Return the record of so many scenes of the arm and flights of the quadrotor.

    workers: processes that drive them. kept: file that gets every scene as it was driven; with the same file, a call
    that was stopped goes on. policy: a trained policy's folder, or none. trials: of it, with the filter and without.
    """
    if min(arms, flights, trials) < 1:
        raise ValueError(f"{arms=}, {flights=}, {trials=}: expected at least 1 of each")
    counts = {"kinova": arms, "quadrotor": flights}
    jobs = [(name, number) for name, count in counts.items() for number in range(count)]
    groups = {job: group_of(*job) for job in jobs}
    with TemporaryDirectory() as empty:
        made_by = {(groups[job], seed): {"reference": assumed(job[0])} for job in jobs}
        store = Store(kept or Path(empty) / "scenes.jsonl", made_by)
        left = [job for job in jobs if (groups[job], seed, job[1]) not in store.done]
        done = len(jobs) - len(left)
        with track("driving", len(jobs), done) as bar:
            for job, made in run_jobs(partial(driver, counts, seed), left, min(workers, len(left))):
                store.add(groups[job], seed, [{"scene": job[1], **made}])
                bar.update(done := done + 1)
    rows: dict[str, Any] = {}
    for name, count in counts.items():
        mine = [r for r in store.records if r["row"].startswith(name) and r["scene"] < count]
        rows |= {group: summary([r for r in mine if r["row"] == group]) for group in sorted({r["row"] for r in mine})}
        rows[f"{name}, ranking of {CANDIDATES}"] = durations([us for r in mine for us in r["ranking_us"]])
    if policy is not None:
        rows |= with_policy(policy, trials)
    config: dict[str, Any] = {"arms": arms, "flights": flights, "candidates": CANDIDATES, "kernel": kernel()}
    config["trials"] = trials if policy else 0
    config |= {f"{name}_margin_m": body.margin for name, body in BODIES.items()}
    config |= {f"{name}_obstacle_speed_m_s": body.speed for name, body in BODIES.items()}
    notes = [
        "simulated time; collided: also robots at rest that moving obstacles run into, of which nothing is certified; "
        "collided_certified: while a certificate held",
        "violations: observations that showed an assumption to be broken",
        f"filter: CPU time of a command, certificates by {kernel()}; ranking: of {CANDIDATES} candidates, the arm's in "
        "random directions at full speed",
    ]
    return {"config": config, "seeds": {"scenes": seed}, "rows": rows, "notes": notes}


def dealt(number: int) -> tuple[Plan, bool]:
    """Return a scene's kind of plan, and whether its obstacles move."""
    return PLANS[number % len(PLANS)], number // len(PLANS) % 2 == 1


def group_of(name: str, number: int) -> str:
    """Return the row that a scene counts in."""
    plan, moves = dealt(number)
    return f"{name}, {plan}, obstacles {'move' if moves else 'stand'}"


def assumed(name: str) -> str:
    """Return what must be the same for scenes to be counted together."""
    body = BODIES[name]
    errors = " ".join(f"{1e3 * error:g}" for error in ASSUMED[name].values())
    return f"margin {body.margin:g} m, obstacles at {body.speed:g} m/s, tracking errors {errors} mm, by {kernel()}"


def kernel() -> str:
    """Return what computes certificates on this machine; durations are its own."""
    return "native" if chosen("auto") else "numpy"


@contextmanager
def driver(counts: dict[str, int], seed: int) -> Iterator[Callable[[tuple[str, int]], dict[str, Any]]]:
    """Give what drives a scene, by robot and number, and returns what came of it."""

    @cache
    def scenes(name: str) -> list[Any]:
        return random_scenes(BODIES[name], counts[name], seed)

    def drive(job: tuple[str, int]) -> dict[str, Any]:
        name, number = job
        body, task, scene, (plan, moves) = BODIES[name], TASKS[name](), scenes(name)[number], dealt(number)
        rng = np.random.default_rng((seed, number))
        clearance = Recorded.of(FILTERS[name](obstacle_speed=body.speed * moves))
        made = counted(trial(body, task, scene, Adversary(body, task, plan, rng), clearance, rng, moves=moves))
        return made | {"ranking_us": in_us(ranking_times(task, scene, rng))}

    yield drive


def counted(made: Trial) -> dict[str, Any]:
    """Return what is kept of a trial."""
    counts = totals([made])
    return {
        "collided": int(made.collided),
        "collided_certified": int(any(name.startswith("fault") for name in made.log.violations)),
        "certificates": made.proved,
        "broken": made.broken,
        "violations": sum(count for name, count in counts.items() if name.startswith("violation")),
        "success": bool(made.log.success),
        "least_mm": 1e3 * made.least if np.isfinite(made.least) else None,
        "outcomes": {name: counts[name] for name in OUTCOMES if counts[name]},
        "took_us": in_us(made.took),
    }


def in_us(seconds: Sequence[float]) -> list[int]:
    """Return durations in whole microseconds."""
    return [round(1e6 * each) for each in seconds]


def summary(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of results."""
    numbers: dict[str, float] = {"episodes": len(made)}
    sums = ("collided", "collided_certified", "certificates", "broken", "violations")
    numbers |= {name: sum(each[name] for each in made) for name in sums}
    numbers["success"] = float(np.mean([each["success"] for each in made]))
    least = [each["least_mm"] for each in made if each["least_mm"] is not None]
    if least:
        numbers["least_mm"] = min(least)
    numbers |= {name: sum(each["outcomes"].get(name, 0) for each in made) for name in OUTCOMES}
    took = [us for each in made for us in each["took_us"]]
    return {key: single(float(value)) for key, value in numbers.items()} | durations(took)


def durations(took: Sequence[int]) -> dict[str, Any]:
    """Return p50 and p99 of durations [us] in milliseconds, or nothing of none."""
    return {f"filter_ms_p{p}": single(float(1e-3 * np.percentile(took, p))) for p in (50, 99)} if len(took) else {}


def ranking_times(task: Task, scene: Any, rng: np.random.Generator, times: int = 4) -> list[float]:
    """Return what it takes to rank candidates at the start of a scene, ``times`` CPU times [s].

    The arm's go in random directions at full speed, so that none is refused for its size alone.
    """
    clearance, made, steers = FILTERS[task.name](), [], Adversary(BODIES[task.name], task, "jerky", rng)
    for _ in range(times):
        clearance.begin()
        observation = task.first_observation(scene)
        clearance.observe(observation, 0.0)
        if task.control.position_commands:
            plans = np.stack([steers.decide(observation).plan for _ in range(CANDIDATES)])
        else:
            plans = 0.3 * rng.normal(size=(CANDIDATES, task.control.horizon, task.control.transition_dim))
        decision = Decision(np.zeros(3), plans[0], plans, rng.normal(size=CANDIDATES), {"total": 0.0})
        began = time.thread_time()
        certified_first(decision, observation, clearance, task.control)
        made.append(time.thread_time() - began)
    return made


def with_policy(folder: Path, trials: int) -> dict[str, Any]:
    """Return a policy's rows without the filter and with it."""
    from onestride.latency.soak import load_policy_or_engine

    decider: Any = load_policy_or_engine(folder, "cpu").decider
    body, task = BODIES[decider.control.name], TASKS[decider.control.name]()
    rows, done = {}, 0
    with track("driving the policy", 2 * trials) as bar:
        for name in ("without", "with"):
            made = []
            for number, scene in enumerate(task.scenes(trials, 0)):
                decider.reset(number)
                clearance = Recorded.of(FILTERS[task.name]()) if name == "with" else None
                made.append(counted(_trial_of(decider, body, task, scene, clearance)))
                bar.update(done := done + 1)
            rows[f"{task.name}, policy {name} the filter"] = summary(made)
    return rows


def _trial_of(decider: Any, body: Body, task: Task, scene: Any, clearance: Recorded | None) -> Trial:
    clock = Charged(repeat(DECISION))
    return trial(body, task, scene, decider, clearance, np.random.default_rng(0), clock=clock, timeout=TIMEOUT)


def table(record: dict[str, Any]) -> Table:
    """Return a line per robot, kind of plan, and whether obstacles move."""
    config = record["config"]
    said = f"{config['arms']} scenes of the arm and {config['flights']} flights, dealt out to the rows evenly."
    return Table(COLUMNS, record["rows"], (said, f"The filter's times are {TIMES[config.get('kernel')]}."))


def tables(results: Path) -> dict[str, Table]:
    """Return the committed tables."""
    found = records(results / "clearance").items()
    return {f"clearance-{name}": table(each) for name, each in found if name.startswith(NAMES)}
