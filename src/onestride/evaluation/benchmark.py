"""Returns in an environment that waits for its planner: the protocol of the DNK paper's Table I (section V-B).

Seeds x episodes x 1000 steps. Generators and selectors are crossed, and every generator is also run without a
selector, since a good selector can hide a collapsed student. Every episode is kept; a killed evaluation goes on, and
planners that are trained later and further episodes join one that is finished.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.data.episode import Episode
from onestride.evaluation.batches import FIRST_SEED, Batch, Stage, rolled
from onestride.evaluation.ledger import CANDIDATES, SHOWN, STATES, TIMES, claim
from onestride.evaluation.lineup import DRAWS, Entry, all_candidates_of, lineup, parts, policy_of
from onestride.evaluation.metrics import effective_dimensions, latency, over_seeds, single, summarize
from onestride.evaluation.provenance import provenance, training_notes
from onestride.evaluation.result import Experiment
from onestride.evaluation.rollouts import EPISODES, add_records, read_records
from onestride.files import alone
from onestride.latency.roofline import PAUSE
from onestride.policy.policy import Policy, Precision
from onestride.progress import track
from onestride.runs.run import CRITIC, RETURNS, TEACHER, task_of
from onestride.runs.settings import ReturnsConfig
from onestride.seals import read_result, seal
from onestride.tasks.task import Task
from onestride.tensors import load_tensors, save_tensors
from onestride.training.loop import fast_precision

COMPARED = 32  # of a planner's states: so many times 64 candidates of the teacher, from each of which it samples anew
CLOUD_METRICS = ("action_spread", "teacher_distance", "plan_spread", "plan_dimensions")
WARM_UP = 30  # decisions thrown away before the first that counts


def benchmark(
    run: Path,
    config: ReturnsConfig,
    command: str,
    device: str = "cpu",
    *,
    name: str = "evaluation",
    entries: Sequence[Entry] = (),
) -> Path:
    """Evaluate planners of the run; writes ``run/<name>/comparison.json`` and what lies beside it.

    entries: which; by default those of the paper's table, as far as they are trained.

    Raises:
        CheckpointError: nothing to evaluate, or the folder holds an evaluation under other settings.
    """
    folder, task = run / name, task_of(run)
    precision = fast_precision() if config.precision == "auto" else config.precision
    experiment = Experiment(task.name, command, spent=folder)
    entries = entries or lineup(run, config)
    settings = {
        "episodes": config.episodes,
        "width": config.width,  # noise is that of a batch
        "states": config.states,
        "precision": precision,
        "task": task.name,
    }
    with alone(folder):
        claim(folder, run, settings, entries)
        experiment.resume(begun=(folder / EPISODES).exists())
        records = _roll_all(run, entries, task, config, folder, device, precision, experiment)
        clouds = _clouds(run, entries, task, config, folder, device)
        times = _latency(run, entries, config, folder, device)
    calls = {row: all_candidates_of(e, device).nfe for row, e in {e.row: e for e in entries}.items()}
    rows = {row: summary(records, clouds, times, calls, row) for row in dict.fromkeys(e.row for e in entries)}
    folders = {str(e.folder.relative_to(run)) for e in entries}
    report = experiment.record(
        config={
            "evaluate": asdict(config),
            "engine": {"draws": DRAWS},
            **provenance(run, task, folders | {RETURNS, CRITIC}),
        },
        seeds={"episodes": FIRST_SEED, "training": sorted({e.seed for e in entries})},
        rows=rows,
        notes=[*_notes(task, config, precision), *training_notes(run, task)],
    )
    beside = (EPISODES, CANDIDATES, TIMES, STATES, SHOWN)
    seal(folder / "comparison.json", report, [name for name in beside if (folder / name).exists()])
    return folder


# ---------------------------------------------------------------- episodes


def _roll_all(
    run: Path, entries: Sequence[Entry], task: Task, config: ReturnsConfig, folder: Path, device: str,
    precision: Precision, experiment: Experiment,
) -> list[dict[str, Any]]:  # fmt: skip
    assert task.benchmark is not None
    records = read_records(folder / EPISODES)
    done = {(r["row"], r["seed"], r["episode"]) for r in records}
    left = len({(e.row, e.seed, n) for e in entries for n in range(config.episodes)} - done)
    total = len(entries) * config.episodes
    states = dict(load_tensors(folder / STATES)[0]) if (folder / STATES).exists() else {}
    width = min(config.width, config.episodes)
    batches = [
        Batch(entry, first, min(width, config.episodes - first))
        for first in range(0, config.episodes, width)
        for entry in entries
    ]
    batches = [b for b in batches if not all((b.entry.row, b.entry.seed, n) in done for n in b.numbers)]
    stage = Stage(run, task.benchmark.environment, width, device, precision)
    with track("episodes", total, done=total - left) as bar:
        for batch, episodes in rolled(stage, batches, config.workers):
            entry = batch.entry
            made = [_record(entry, n, e, task) for n, e in zip(batch.numbers, episodes, strict=True)]
            made = [r for r in made if (r["row"], r["seed"], r["episode"]) not in done]  # a kill may cut a batch
            key = f"{entry.row}-{entry.seed}"
            if key not in states or batch.first == 0:  # where this planner goes by itself
                states[key] = _visited(episodes, config.states)
                save_tensors(folder / STATES, states)
            add_records(folder / EPISODES, made)
            experiment.keep()
            records += made
            left -= len(made)
            score = np.mean([r["return_normalised"] for r in made])
            bar.update(total - left, f"{entry.row} {entry.seed}: {score:.3f}")
    return records


def _record(entry: Entry, number: int, episode: Episode, task: Task) -> dict[str, Any]:
    assert task.benchmark is not None
    total = float(episode.rewards.astype(np.float64).sum())
    return {
        "row": entry.row,
        "seed": entry.seed,
        "episode": number,
        "return_raw": total,
        "return_normalised": task.benchmark.normalised(total),
        "steps": len(episode),
        "fell": episode.terminated,
    }


def _visited(episodes: Sequence[Episode], count: int) -> torch.Tensor:
    """So many observations, evenly over all that were seen (count, O)."""
    seen = np.concatenate([e.observations[:-1] for e in episodes])
    return torch.from_numpy(seen[np.linspace(0, len(seen) - 1, count).round().astype(int)])


# ---------------------------------------------------------------- candidates and latency


def _clouds(
    run: Path, entries: Sequence[Entry], task: Task, config: ReturnsConfig, folder: Path, device: str
) -> list[dict[str, Any]]:
    """Candidates before any selector: spread, and distance from the teacher's from the same noise.

    At states the first entry (the table's teacher) visits and at states the planner itself visits. The teacher samples
    without noise of its own (DDIM) here, or it would be away from itself.
    """
    path = folder / CANDIDATES
    records = read_records(path)
    done = {(r["row"], r["seed"]) for r in records}
    states = load_tensors(folder / STATES)[0]
    teacher = Policy.from_pretrained(run / TEACHER, device=device)
    plain = [e for e in entries if e.selector == "none"]
    reference = f"{entries[0].row}-{entries[0].seed}"
    with track("candidates", len(plain)) as bar:
        for number, entry in enumerate(plain):
            row = parts(entry.row)[0]
            if (row, entry.seed) not in done:
                policy = all_candidates_of(entry, device)
                record: dict[str, Any] = {"row": row, "seed": entry.seed}
                for where, key in (("", reference), ("own_", f"{row}-{entry.seed}")):
                    few = states[key][:: -(-len(states[key]) // COMPARED)].to(device)
                    measured = _cloud(policy, teacher, few, entry.seed)
                    record |= {f"{where}{name}": value for name, value in measured.items()}
                records.append(record)
                add_records(path, [record])
            bar.update(number + 1)
    if not (folder / SHOWN).exists():
        rows, shown = states[reference][: config.shown].to(device), {}
        for entry in plain:
            policy = all_candidates_of(entry, device)
            row = parts(entry.row)[0]
            if policy.task.horizon == task.horizon and f"plans.{row}" not in shown:
                shown[f"plans.{row}"] = candidates_at(policy, rows, 0).cpu().contiguous()
        save_tensors(folder / SHOWN, shown)
    return records


def _cloud(policy: Policy, teacher: Policy, observations: torch.Tensor, seed: int) -> dict[str, float]:
    """What candidates at these observations (B, O) are like; beside the teacher's where both plan as far."""
    plans = candidates_at(policy, observations, seed)
    mine = plans[:, :, 0, policy.task.state_dim :]  # first actions
    made = {"action_spread": float(mine.std(1).mean())}
    if policy.task.horizon != teacher.task.horizon:
        return made
    teacher.temperature = policy.temperature  # the same noise, also where it is scaled otherwise
    theirs = candidates_at(teacher, observations, seed)[:, :, 0, policy.task.state_dim :]
    free = plans[:, :, ~policy.fixed]  # what a generator has to say, (B, N, entries)
    return made | {
        "teacher_distance": float((mine - theirs).square().mean().sqrt()),
        "plan_spread": float(free.std(1).mean()),
        "plan_dimensions": float(effective_dimensions(free).mean()),
    }


@torch.inference_mode()
def candidates_at(policy: Policy, rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Candidates (B, N, H, D) at observations (B, O), normalised, without a sampler's own noise."""
    policy.reset(seed)
    start, prior = policy._encode(rows)
    kwargs = {"solver": "ddim"} if policy.config["kind"] == "teacher" else {}
    flat = policy.generator.sample(prior.flatten(0, 1), policy.normalizer.context(start.context), **kwargs)
    return flat.view_as(prior)


def _latency(
    run: Path, entries: Sequence[Entry], config: ReturnsConfig, folder: Path, device: str
) -> dict[str, list[float]]:
    """Wall time of single decisions [s], all rows in turns on the same observations.

    Before each a pause and a decision that is not counted, as in ``bench``: a row is not to pay for the one before it.
    """
    path = folder / TIMES
    if path.exists():
        return read_result(path, dict[str, list[float]])
    first = {e.row: e for e in reversed(entries) if e.selector != "none"}
    policies = {row: policy_of(run, entry, device) for row, entry in sorted(first.items())}
    observations = load_tensors(folder / STATES)[0][f"{entries[0].row}-{entries[0].seed}"].double().numpy()
    for policy in policies.values():
        policy.warm_up(observations[0], WARM_UP)
    times: dict[str, list[float]] = {row: [] for row in policies}
    with track("latency", config.decisions) as bar:
        for i in range(config.decisions):
            for row, policy in policies.items():
                time.sleep(PAUSE)
                policy.decide(observations[i % len(observations)])
                times[row].append(policy.decide(observations[i % len(observations)]).timings["total"])
            bar.update(i + 1)
    seal(path, times)
    return times


# ---------------------------------------------------------------- the table's rows


def summary(
    records: Sequence[dict[str, Any]],
    clouds: Sequence[dict[str, Any]],
    times: dict[str, list[float]],
    calls: dict[str, int],
    row: str,
) -> dict[str, Any]:
    """One row's metrics. Returns: mean and standard deviation over seeds of the seeds' means, as the paper reports."""
    mine = [r for r in records if r["row"] == row]
    seeds = [r["seed"] for r in mine]
    made: dict[str, Any] = {}
    for name in ("return_normalised", "return_raw"):
        per_seed = summarize([r[name] for r in mine], seeds)["per_seed"]
        made[name] = over_seeds(per_seed)
    by_seed = {s: [r["return_normalised"] for r in mine if r["seed"] == s] for s in sorted(set(seeds))}
    made["sigma_ep"] = over_seeds([float(np.std(v)) for v in by_seed.values()])
    made["worst_seed_return"] = single(min(made["return_normalised"]["per_seed"]))
    made["fell"] = summarize([float(r["fell"]) for r in mine], seeds)
    made["episodes"] = single(len(mine))
    made["nfe"] = single(calls[row])
    base = parts(row)[0]
    cloud = sorted((c for c in clouds if c["row"] == base), key=lambda c: c["seed"])  # the file has them as they came
    for name in (f"{where}{metric}" for where in ("", "own_") for metric in CLOUD_METRICS):
        if cloud and name in cloud[0]:
            made[name] = over_seeds([c[name] for c in cloud])
    unselected_row = [r for r in records if r["row"] == f"{base}-unselected"]
    if unselected_row:
        per_seed = summarize([r["return_normalised"] for r in unselected_row], [r["seed"] for r in unselected_row])
        made["unselected_return"] = over_seeds(per_seed["per_seed"])
    if row in times:
        made |= {name: single(value) for name, value in latency(times[row]).items()}
        made["decision_ms_mean"] |= {"std": 1e3 * float(np.std(times[row])), "n": len(times[row])}
        made["control_hz"] = single(1e3 / made["decision_ms_mean"]["mean"])
    return made


def _notes(task: Task, config: ReturnsConfig, precision: str) -> list[str]:
    assert task.benchmark is not None
    return [
        f"Environment {task.benchmark.environment}, which waits for the planner; {config.episodes} episodes of at most "
        "1000 steps per seed, the same starts for every row; returns normalised by D4RL's reference scores.",
        "Data was collected in this environment: numbers are not comparable with those on D4RL's own files.",
        "return_normalised: mean and population standard deviation over seeds of each seed's mean; students' seeds are "
        "training seeds, the teacher has one training and its seeds are those of its noise and starts.",
        "Rows ending in -unselected draw one candidate and take it: what the generator is worth by itself.",
        "action_spread: standard deviation of the first action over 64 candidates, normalised, at states the teacher "
        "visits; own_: at states the row's planner visits. teacher_distance: root mean square distance of first "
        "actions from the teacher's from the same noise (DDIM). plan_spread: of all entries of a plan. "
        "plan_dimensions: in how many directions they spread, the participation ratio of their variances.",
        f"Episodes: generators of many calls in {precision}, one-step generators, selectors and engines in 32-true "
        "(-int8: large products in 8 bits). Latencies: single decisions, everything in 32-true, all rows in turns on "
        "the same observations, warm-up thrown away.",
        f"Engines (rows -engine, -int8) take their noise from a seeded bank that comes round after {DRAWS} decisions; "
        "everybody else draws noise anew for every decision.",
        "Rows ct and cd ranked by Q: an argmax over candidates of one action rewards the critic's errors; their rows "
        "-unselected are without it.",
    ]
