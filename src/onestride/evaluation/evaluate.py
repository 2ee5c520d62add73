"""One evaluation of a run's planners: every episode kept, candidates compared, decisions timed, one record of it all.

An evaluation that was stopped goes on. Planners trained later and further episodes join; a planner that was trained
anew is evaluated anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onestride.evaluation.entries import DRAWS, Entry, all_candidates_of, evaluation_variants, made_by
from onestride.evaluation.metrics import latency, over_seeds, single, summarize
from onestride.evaluation.provenance import preset_notes, provenance, training_cost, training_notes
from onestride.evaluation.records import CANDIDATES, EPISODES, SHOWN, Key, Manifest, Record, Store, open_manifest
from onestride.evaluation.result import Experiment
from onestride.evaluation.returns import Returns
from onestride.evaluation.rollouts import FIRST_SEED, Batch
from onestride.evaluation.scenes import Scenes
from onestride.evaluation.variant import Variant
from onestride.files import exclusive
from onestride.progress import console, track
from onestride.runs.settings import EvaluateConfig, ReturnsConfig
from onestride.seals import seal
from onestride.tasks.metric import Metric
from onestride.tasks.task import Task
from onestride.tensors import save_tensors

#: What is known of a demonstrator as a row.
DEMONSTRATOR = Variant(method="demonstrator", selector="task")


class Reference(NamedTuple):
    """A task's demonstrator beside its planners: what says which one it is, and seeds of starts -> its records."""

    identity: str
    records: Callable[[Sequence[int]], list[Record]]


def evaluate(
    run: Path,
    config: EvaluateConfig | ReturnsConfig,
    command: str,
    device: str = "cpu",
    *,
    name: str | None = None,
    entries: Sequence[Entry] = (),
    reference: Reference | None = None,
    task: Task | None = None,
) -> Path:
    """Evaluate planners of the run; writes ``comparison.json`` and what it is made of into the folder it returns.

    Args:
        name: of the folder in the run: by default ``evaluation``, and ``evaluation-real`` for scenes on wall time.
        entries: which planners; by default those of the run's table.
        reference: the task's demonstrator, from the same starts, as a row of its own.
        task: whose scenes and measures these are, if not the run's own: one of the same observations and plans.

    Raises:
        CheckpointError: nothing to evaluate, or the folder holds an evaluation under other settings.
    """
    entries = entries or evaluation_variants(run, config)
    made = {(e.row, e.seed): made_by(run, e) for e in entries}
    if reference is not None:
        made[DEMONSTRATOR.row, 0] = {"checkpoint": reference.identity, "selector": None}
    if isinstance(config, EvaluateConfig):
        folder = run / (name or ("evaluation" if config.clock == "charged" else "evaluation-real"))
        protocol: Scenes | Returns = Scenes(run, config, folder, entries, device, task)
    else:
        folder = run / (name or "evaluation")
        protocol = Returns(run, config, folder, entries, device, task)
    experiment = Experiment(protocol.task.name, command, spent=folder)
    with exclusive(folder):
        store = Store(folder / EPISODES, made)
        planners = {f"{row}/{seed}": maker for (row, seed), maker in made.items()}
        wanted: Manifest = {"settings": protocol.settings, "episodes": protocol.count, "planners": planners}
        open_manifest(folder, wanted, store.episodes, protocol.width, protocol.together)
        experiment.resume(store.begun)
        _roll(protocol, store, experiment)
        if reference is not None:
            numbers = [n for n in range(protocol.count) if (DEMONSTRATOR.row, 0, n) not in store.done]
            earned = reference.records([FIRST_SEED + n for n in numbers])
            found = [{protocol.unit: n, **record} for n, record in zip(numbers, earned, strict=True)]
            store.add(DEMONSTRATOR.row, 0, found)
        clouds = _measure_candidates(protocol, made)
        times = protocol.times() if isinstance(protocol, Returns) else {}
    last = {e.row: e for e in entries}
    calls = {row: all_candidates_of(e, device).nfe for row, e in last.items()} if isinstance(protocol, Returns) else {}
    rows = {
        row: summary(e.variant, protocol.metrics, store.records, clouds, times, calls)
        | training_cost([each.folder for each in entries if each.row == row])
        for row, e in last.items()
    }
    if reference is not None:
        rows[DEMONSTRATOR.row] = summary(DEMONSTRATOR, protocol.metrics, store.records, (), {}, {DEMONSTRATOR.row: 0})
    folders = {str(e.folder.relative_to(run)) for e in entries} | protocol.selectors
    made_of = {"evaluate": asdict(config), "engine": {"draws": DRAWS}, **provenance(run, protocol.task, folders)}
    report = experiment.record(
        config=made_of,
        seeds=protocol.seeds | {"training": sorted({e.seed for e in entries})},
        rows=rows,
        notes=[*preset_notes(made_of), *protocol.notes(), *training_notes(run, protocol.task)],
    )
    files = [name for name in (EPISODES, CANDIDATES, *protocol.files) if (folder / name).exists()]
    seal(folder / "comparison.json", report, files)
    return folder


def _roll(protocol: Scenes | Returns, store: Store, experiment: Experiment) -> None:
    """Roll every episode that is missing."""
    if anew := [f"{e.folder.name} ({e.row})" for e in protocol.entries if (e.row, e.seed) in store.stale]:
        names = ", ".join(dict.fromkeys(anew))
        console.print(f"evaluating anew, since checkpoint or selector is another one: {names}", highlight=False)
    wanted = {(e.row, e.seed, n) for e in protocol.entries for n in range(protocol.count)}
    firsts = range(0, protocol.count, protocol.width)
    batches = [
        Batch(e, first, min(protocol.width, protocol.count - first)) for first in firsts for e in protocol.entries
    ]
    batches = [b for b in batches if not {(b.entry.row, b.entry.seed, n) for n in b.numbers} <= store.done]
    with track(f"{protocol.unit}s", len(wanted), done=len(wanted & store.done)) as bar:
        for batch, measured in protocol.roll(batches):
            row, seed = batch.entry.row, batch.entry.seed
            numbered = [{protocol.unit: n, **record} for n, record in zip(batch.numbers, measured, strict=True)]
            new = store.add(row, seed, numbered)
            experiment.keep()
            bar.update(len(wanted & store.done), f"{row} {seed}: {protocol.progress(new)}")


def _measure_candidates(protocol: Scenes | Returns, made: Mapping[tuple[str, int], Record]) -> list[Record]:
    """Return records of every generator's candidates before any selector; keep some of them for figures."""
    entries = protocol.entries
    reference = "/".join(map(str, made[entries[0].row, entries[0].seed].values()))
    found, makers = {}, {}
    for entry in entries:
        if entry.variant.selector in ("none", "task"):  # each generator once, whoever ranks
            key = entry.variant.generator, entry.seed
            found.setdefault(key, entry)
            makers[key] = {**made.get(key, made[entry.row, entry.seed]), "reference": reference}
    store = Store(protocol.folder / CANDIDATES, makers)
    with track("candidates", len(found)) as bar:
        for number, ((row, seed), entry) in enumerate(found.items(), 1):
            if not {(row, seed, place) for place in protocol.places} <= store.done:
                store.add(row, seed, protocol.measure(entry))
            bar.update(number)
    if not (protocol.folder / SHOWN).exists():
        first_seeds = {e.variant.generator: e for e in reversed(found.values())}
        save_tensors(protocol.folder / SHOWN, *protocol.show(list(first_seeds.values())))
    return store.records


def summary(
    variant: Variant,
    metrics: Iterable[Metric],
    records: Sequence[Record],
    candidates: Sequence[Record],
    times: Mapping[str, Sequence[float]],
    calls: Mapping[str, int],
) -> dict[str, Any]:
    """Return one row: its variant, and its metrics with mean, standard deviation, number and means of every seed.

    Standard deviations are over trials and, of returns in an environment that waits, over seeds, as the paper's are.
    """
    mine = [r for r in records if r["row"] == variant.row]
    seeds = [r["seed"] for r in mine]
    made = {m.name: summarize([r[m.name] for r in mine], seeds) for m in metrics if m.name in mine[0]}
    if arrived := [r["completion_time_s"] for r in mine if r.get("completion_time_s") is not None]:
        made["completion_time_s_p50"] = single(float(np.median(arrived)))
    if variant.row in calls:
        episodes = {"episodes": len(mine)}  # n is how many seeds
        for name in ("return_normalised", "return_raw"):
            made[name] = over_seeds(made[name]["per_seed"]) | episodes
        by_seed = [[r["return_normalised"] for r in mine if r["seed"] == s] for s in sorted(set(seeds))]
        made["sigma_ep"] = over_seeds([float(np.std(returns)) for returns in by_seed]) | episodes
        made["worst_seed_return"] = single(min(made["return_normalised"]["per_seed"])) | episodes
        made |= {"episodes": single(len(mine)), "nfe": single(calls[variant.row])}
        if plain := [r for r in records if r["row"] == f"{variant.generator}-unselected"]:
            per_seed = summarize([r["return_normalised"] for r in plain], [r["seed"] for r in plain])["per_seed"]
            made["unselected_return"] = over_seeds(per_seed) | {"episodes": len(plain)}
    compared = sorted((c for c in candidates if c["row"] == variant.generator), key=lambda c: c["seed"])
    for name in dict.fromkeys(name for c in compared for name in c if name not in Key.__annotations__):
        known = [c for c in compared if name in c]
        made[name] = summarize([c[name] for c in known], [c["seed"] for c in known])
    if variant.row in times:
        took = times[variant.row]
        made |= {name: single(value) for name, value in latency(took).items()}
        made["decision_ms_mean"] |= {"std": 1e3 * float(np.std(took)), "n": len(took)}
        made["control_hz"] = single(1e3 / made["decision_ms_mean"]["mean"])
    return {"variant": variant.fields()} | made
