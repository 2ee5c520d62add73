"""CQL and BCQ of d3rlpy, trained on a source body's data and a few of the target's, evaluated on the target's body.

The rows of other methods in Table I of Off-Dynamics Conditional Diffusion Planners:

    cql-finetuned, bcq-finetuned    trained on the source's data, then on the target's
    cql-dara, bcq-dara              trained on both, with the source's rewards corrected (DARA, Liu et al. 2022)

First write the transitions of a run that has a source (onestride.runs.transitions.export_transitions), for DARA after
`onestride train contexts --config.score dara`. d3rlpy 2.8 pins an old Gymnasium and works with a new one, so that it
has an environment of its own:

    python -m venv d3rlpy
    d3rlpy/bin/pip install "onestride[train,sim]" gym click structlog colorama dataclasses-json scikit-learn tqdm
    d3rlpy/bin/pip install --no-deps d3rlpy==2.8.1
    d3rlpy/bin/python examples/d3rlpy_baselines.py light.npz --task halfcheetah-v5-mass-14-to-7 --out light.json

Every row and seed that is finished is kept beside the result, in NAME.episodes.jsonl, and is not trained again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import d3rlpy
import numpy as np
import tyro
from d3rlpy.models import VectorEncoderFactory

from onestride.data.arrays import BOUND_TOLERANCE
from onestride.errors import command_line, report_user_errors
from onestride.evaluation.evaluate import summary
from onestride.evaluation.records import Store
from onestride.evaluation.result import Experiment
from onestride.evaluation.rollouts import FIRST_SEED
from onestride.evaluation.variant import Variant
from onestride.progress import console
from onestride.tasks import TASKS
from onestride.tasks.lockstep import Lockstep
from onestride.tasks.metric import EPISODE
from onestride.tasks.reference import episode_record
from onestride.tasks.task import Task

Row = Literal["cql-finetuned", "bcq-finetuned", "cql-dara", "bcq-dara"]
WIDTH = 10  # environments that are stepped together
NEEDED = ("observations", "actions", "rewards", "terminals", "timeouts", "domain")


@dataclass(frozen=True)
class Settings:
    """What is trained and evaluated."""

    file: tyro.conf.Positional[Path]
    """Of `export_transitions`."""
    task: str
    """The target's body, in whose environment everything is evaluated."""
    out: Path
    """Where the result goes, a .json."""
    rows: tuple[Row, ...] = ("cql-finetuned", "bcq-finetuned", "cql-dara", "bcq-dara")
    steps: int = 500_000
    """Updates on the source's data, or on both."""
    finetune_steps: int = 100_000
    """Updates on the target's data after that."""
    eta: float = 0.1
    """Weight of DARA's correction of rewards."""
    seeds: tuple[int, ...] = (0,)
    episodes: int = 10
    device: str = "cpu:0"


def algorithm(name: str, device: str) -> Any:
    """Return an untrained CQL or BCQ, with the settings that d3rlpy's authors reproduce D4RL's results with."""
    if name == "cql":
        encoder = VectorEncoderFactory([256, 256, 256])
        return d3rlpy.algos.CQLConfig(
            actor_encoder_factory=encoder, critic_encoder_factory=encoder, alpha_learning_rate=0.0
        ).create(device=device)
    encoder = VectorEncoderFactory([400, 300])
    return d3rlpy.algos.BCQConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        imitator_encoder_factory=VectorEncoderFactory([750, 750]),
    ).create(device=device)


def data_set(arrays: dict[str, np.ndarray], rows: np.ndarray, eta: float = 0.0) -> Any:
    """Return some rows of the file as d3rlpy takes them. The last step of an episode that was cut off is not learnt."""
    rewards = arrays["rewards"] + (eta * arrays["reward_corrections"] if eta else 0.0)
    return d3rlpy.dataset.MDPDataset(
        observations=arrays["observations"][rows],
        actions=arrays["actions"][rows],
        rewards=rewards[rows].astype(np.float32),
        terminals=arrays["terminals"][rows].astype(np.float32),
        timeouts=arrays["timeouts"][rows].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )


def trained(row: Row, arrays: dict[str, np.ndarray], seed: int, settings: Settings) -> Any:
    """Return the algorithm after its training."""
    d3rlpy.seed(seed)
    name, _, way = row.partition("-")
    made, target = algorithm(name, settings.device), arrays["domain"] == 1
    if way == "dara":
        courses = [(data_set(arrays, np.full(len(target), True), settings.eta), settings.steps)]
    else:
        courses = [
            (data_set(arrays, ~target), settings.steps), (data_set(arrays, target), settings.finetune_steps),
        ]  # fmt: skip
    for data, steps in courses:
        made.fit(
            data, n_steps=steps, n_steps_per_epoch=min(steps, 10_000), show_progress=False,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        )  # fmt: skip
    return made


def evaluated(made: Any, task: Task, lockstep: Lockstep, seed: int, episodes: int) -> list[dict[str, Any]]:
    """Return records of episodes from the starts that planners are evaluated from."""
    d3rlpy.seed(seed)  # BCQ draws actions
    low, high = task.control.limits.low, task.control.limits.high
    records: list[dict[str, Any]] = []
    for first in range(0, episodes, WIDTH):
        starts = [FIRST_SEED + number for number in range(first, min(first + WIDTH, episodes))]
        done = lockstep.roll(starts, lambda seen, _: made.predict(seen.astype(np.float32)).clip(low, high))
        records += [{"episode": first + i, **episode_record(task, episode)} for i, episode in enumerate(done)]
    return records


def variant_of(row: Row) -> Variant:
    """Return what a result says of a row: no candidates, and nobody who selects."""
    name, _, way = row.partition("-")
    return Variant(method=name, setting=way, selector="none")


def checked(settings: Settings, task: Task) -> dict[str, np.ndarray]:
    """Return the file's arrays.

    Raises:
        ValueError: it lacks arrays, or is of another body.
    """
    with np.load(settings.file, allow_pickle=False) as file:
        arrays = dict(file)
    dara = any(row.endswith("dara") for row in settings.rows)
    missing = [key for key in (*NEEDED, *(["reward_corrections"] if dara else [])) if key not in arrays]
    if missing:
        raise ValueError(
            f"{settings.file} has no {', '.join(missing)}; write it by export_transitions of a run that has a source"
            f"{', and contexts trained with --config.score dara' if dara else ''}"
        )
    sizes = arrays["observations"].shape[1], arrays["actions"].shape[1]
    if task.benchmark is None or sizes != (task.control.observation_dim, task.control.action_dim):
        raise ValueError(f"{settings.file} has {sizes} numbers observed and done, task '{task.name}' is another body")
    if np.abs(arrays["actions"]).max() > 1 + BOUND_TOLERANCE or len(set(arrays["domain"].tolist())) < 2:
        raise ValueError(f"{settings.file}: expected actions within -1 and 1, of a source (domain 0) and a target (1)")
    return arrays


def main(settings: Settings) -> None:
    """Train and evaluate every row with every seed, and write the result."""
    task = TASKS[TASKS.resolve(settings.task)]()
    arrays = checked(settings, task)
    assert task.benchmark is not None
    lockstep = Lockstep(task.benchmark.environment, min(WIDTH, settings.episodes))
    experiment = Experiment(task.name, command_line("python examples/d3rlpy_baselines.py"), settings.out)
    asked = asdict(settings) | {"file": settings.file.name, "out": settings.out.name, "d3rlpy": d3rlpy.__version__}
    of = {key: asked[key] for key in ("task", "steps", "finetune_steps", "eta", "d3rlpy")}
    content = hashlib.sha256(settings.file.read_bytes() + json.dumps(of, sort_keys=True).encode()).hexdigest()[:12]
    variants = {row: variant_of(row) for row in settings.rows}
    planners = {(variants[row].row, seed): (row, seed) for row in settings.rows for seed in settings.seeds}
    store = Store(
        settings.out.with_name(f"{settings.out.stem}.episodes.jsonl"),
        {planner: {"checkpoint": f"{content}-{row}-{seed}"} for planner, (row, seed) in planners.items()},
    )
    for planner, (row, seed) in planners.items():
        if not all((*planner, number) in store.done for number in range(settings.episodes)):
            console.print(f"{row}, seed {seed}")
            made = trained(row, arrays, seed, settings)
            store.add(*planner, evaluated(made, task, lockstep, seed, settings.episodes))
    lockstep.close()
    rows = {}
    for variant in variants.values():
        rows[variant.row] = summary(variant, EPISODE, store.records, [], {}, {variant.row: 1})
        del rows[variant.row]["nfe"]  # BCQ has several networks, and draws a hundred actions
    experiment.record(
        config=asked,
        seeds={"episodes": FIRST_SEED, "training": list(settings.seeds)},
        rows=rows,
        notes=[
            f"Environment {task.benchmark.environment}; the same starts as planners.",
            "Trained by d3rlpy with its settings for D4RL; the last step of an episode that was cut off is not learnt.",
        ],
    )
    for row, metrics in rows.items():
        print(f"{row}: return {metrics['return_raw']['mean']:.1f}, score {metrics['return_normalised']['mean']:.3f}")


if __name__ == "__main__":
    with report_user_errors():
        main(tyro.cli(Settings, description=__doc__))
