"""Table I on the tiny preset: every row, and an evaluation that a kill does not change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import chain
from multiprocessing import active_children
from threading import Thread

import numpy as np
import pytest
import torch

from onestride.data.minari import read_dataset
from onestride.evaluation import rollouts
from onestride.evaluation.entries import policy_of
from onestride.evaluation.evaluate import evaluate, summary
from onestride.evaluation.result import SPENT
from onestride.evaluation.variant import Variant
from onestride.files import CheckpointError
from onestride.seals import seal
from onestride.studies.dnk_table1 import RETURN
from onestride.tasks import CONTROL_SPECS, TASKS
from onestride.tasks.lockstep import Lockstep
from onestride.tasks.metric import EPISODE
from onestride.tensors import load_tensors
from tiny_run import CONFIG, ROWS, copy_without, entry, keyed, records_of

DNK = Variant(method="dnk", selector="iql")


def test_every_row_has_every_episode_once(evaluated):
    records = keyed(records_of(evaluated[1]))
    assert set(records) == {(row, 0, n) for row in ROWS for n in range(CONFIG.episodes)}
    task = TASKS["hopper-v5"]()
    for r in records.values():
        assert r["return_normalised"] == task.benchmark.normalised(r["return_raw"])
        assert r["fell"] == (r["steps"] < 1000)


def test_an_episode_is_the_policys_in_the_environment(evaluated):
    """What stands in the records can be made again from checkpoint, seed and number."""
    run, folder = evaluated
    lockstep = Lockstep("Hopper-v5", CONFIG.width)
    records = keyed(records_of(folder))
    for row, name, selector in (("dnk", "dnk-0", "iql"), ("teacher-unselected", "teacher", "none")):
        policy = policy_of(run, entry(run, name, selector), "cpu")
        for number, episode in enumerate(rollouts.roll(policy, lockstep, 0, 0, CONFIG.episodes)):
            assert records[row, 0, number]["steps"] == len(episode)
            assert records[row, 0, number]["return_raw"] == float(episode.rewards.astype(float).sum())
    lockstep.close()


@pytest.mark.slow
def test_two_processes_roll_the_same_episodes(run, evaluated):
    entries = [entry(run, "dnk-0"), entry(run, "dnk-0", "none")]
    folder = evaluate(run, replace(CONFIG, workers=2), "test", name="by-two", entries=entries)
    records = keyed(records_of(evaluated[1]))
    assert keyed(records_of(folder)) == {k: r for k, r in records.items() if k[0] in ("dnk", "dnk-unselected")}
    ours, theirs = (load_tensors(f / "states.safetensors")[0] for f in (folder, evaluated[1]))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    shutil.rmtree(folder)


def test_a_process_that_is_killed_is_said(run):
    """What it would have rolled is missing; the other batches may have come before."""
    stage = rollouts.Stage(run, "hopper-v5", "Hopper-v5", CONFIG.width, "cpu", "32-true")
    two = [rollouts.Batch(entry(run, "dnk-0"), first, 2) for first in (0, 2)]
    found = rollouts.rolled(stage, two, 2)
    watch = Thread(target=lambda: [os.kill(p.pid, signal.SIGKILL) for p in wait_for_children()])
    watch.start()
    with pytest.raises(OSError, match="was killed, perhaps for want of memory"):
        list(found)
    watch.join()


def test_a_process_that_is_killed_between_two_submissions_is_said(run, monkeypatch):
    """The pool has closed its pipe then and does not know yet that it is broken."""
    submit, asked = ProcessPoolExecutor.submit, []

    def one_then_closed(pool, *call):
        asked.append(call)
        if len(asked) > 1:
            raise OSError("handle is closed")
        return submit(pool, *call)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", one_then_closed)
    stage = rollouts.Stage(run, "hopper-v5", "Hopper-v5", CONFIG.width, "cpu", "32-true")
    two = [rollouts.Batch(entry(run, "dnk-0"), first, 2) for first in (0, 2)]
    with pytest.raises(OSError, match="was killed, perhaps for want of memory"):
        list(rollouts.rolled(stage, two, 2))
    assert not active_children()


@pytest.mark.slow
def test_who_stops_listening_leaves_no_process(run):
    stage = rollouts.Stage(run, "hopper-v5", "Hopper-v5", CONFIG.width, "cpu", "32-true")
    many = [rollouts.Batch(entry(run, "dnk-0"), first, 2) for first in range(100)]
    found = rollouts.rolled(stage, many, 2)
    assert next(found)[0] in many
    assert len(active_children()) == 2
    found.close()
    assert not active_children()


def wait_for_children():
    while not active_children():
        time.sleep(0.01)
    return active_children()


class Silent:
    """A policy, or environments, that remember what they were asked for."""

    control = CONTROL_SPECS["hopper-v5"]()

    def __init__(self):
        self.asked = []

    def reset(self, seed):
        self.asked.append(seed)

    def roll(self, seeds, act, n_obs_steps):
        self.asked += seeds
        return []


def test_every_seed_meets_the_same_starts_with_noise_of_its_own():
    noise, starts = [], []
    for seed in range(5):
        for first in range(0, 500, 50):
            policy, lockstep = Silent(), Silent()
            rollouts.roll(policy, lockstep, seed, first, 50)
            noise += policy.asked
            starts.append(lockstep.asked)
    assert len(set(noise)) == len(noise) == 50
    assert starts[:10] * 5 == starts
    assert list(chain(*starts[:10])) == list(range(rollouts.FIRST_SEED, rollouts.FIRST_SEED + 500))


def test_the_result_says_everything(evaluated):
    run, folder = evaluated
    report = json.loads((folder / "comparison.json").read_text())
    assert report["schema"] == 2
    assert report["experiment"] == "hopper-v5"
    assert list(report["rows"]) == ROWS
    for key in ("command", "config", "seeds", "versions", "machine", "started", "wall_s", "notes"):
        assert report[key]
    assert report["config"]["data"]["behaviours"]
    (pairs,) = report["config"]["pairs"].values()
    assert pairs["settings"]["temperatures"] == [0.3, 0.5, 0.7]
    assert pairs["identity"]
    assert report["config"]["task"]["early"] == {"steps": 50, "times": 8}
    notes = "\n".join(report["notes"])
    assert "8 times over from what begins in an episode's first 50 steps" in notes
    assert "discounted by 0.997 per step: a horizon of about 333 steps" in notes
    assert "comes round after 256 decisions" in notes
    normalised = TASKS["hopper-v5"]().benchmark.normalised
    earned = [normalised(episode.rewards.astype(float).sum()) for episode in read_dataset(run / "data")]
    assert f"The data's {len(earned)} episodes return {np.mean(earned):.4g} on average, from {min(earned):.4g}" in notes
    assert {"returns", "iql", "teacher", "dnk-0", "kdm-0", "ct-0", "cd-0"} <= report["config"].keys()
    assert all("history" not in entry.get("training", {}) for entry in report["config"].values())
    records = records_of(folder)
    for row, metrics in report["rows"].items():
        assert Variant.of(metrics).row == row
        mine = [r for r in records if r["row"] == row]
        returns = [r["return_normalised"] for r in mine]
        assert metrics["return_normalised"]["per_seed"] == [pytest.approx(np.mean(returns))]
        assert metrics["sigma_ep"]["mean"] == pytest.approx(np.std(returns))
        assert metrics["fell"]["mean"] == np.mean([r["fell"] for r in mine])
        assert metrics["episodes"]["mean"] == CONFIG.episodes
        assert ("decision_ms_p50" in metrics) == (not row.endswith("-unselected"))
        assert metrics["action_spread"]["mean"] > 0
        whole = not row.startswith(("ct", "cd"))
        assert ("teacher_distance" in metrics) == ("plan_spread" in metrics) == whole
        assert not whole or 1 <= metrics["plan_dimensions"]["mean"] <= 63 >= metrics["own_plan_dimensions"]["mean"]
    assert report["rows"]["teacher"]["teacher_distance"]["mean"] == 0  # it is no way from itself
    assert report["rows"]["dnk"]["teacher_distance"]["mean"] > 0
    unselected = report["rows"]["dnk-unselected"]["return_normalised"]["mean"]
    assert report["rows"]["dnk"]["unselected_return"]["mean"] == unselected


def test_candidates_are_kept_for_the_figures(evaluated):
    tensors, _ = load_tensors(evaluated[1] / "candidates.safetensors")
    assert set(tensors) == {f"plans.{row}" for row in ("teacher", "dnk", "kdm")}
    for plans in tensors.values():
        assert plans.shape == (CONFIG.shown, 64, 32, 14)
        assert torch.equal(plans[:, :, 0, :11], plans[:, :1, 0, :11].expand(-1, 64, -1))
    states, _ = load_tensors(evaluated[1] / "states.safetensors")
    assert set(states) == {f"{row}-0" for row in ROWS}
    assert all(seen.shape == (CONFIG.states, 11) for seen in states.values())


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_lost_records_are_made_again_the_same(again, evaluated, lost):
    """However the lines fall into batches, what is missing is made and what is there is not doubled."""
    folder = again / "evaluation"
    path = folder / "episodes.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lost]))
    evaluate(again, CONFIG, "onestride evaluate")
    assert keyed(records_of(folder)) == keyed(records_of(evaluated[1]))
    before, after = (json.loads((f / "comparison.json").read_text()) for f in (evaluated[1], folder))
    for row in ROWS:
        assert after["rows"][row] == before["rows"][row]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_where_it_was(run, evaluated, tmp_path, monkeypatch):
    copy_without(run, tmp_path / "run")
    made, honest = [], rollouts.roll

    def dies(policy, lockstep, seed, first, count):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append((seed, first))
        return honest(policy, lockstep, seed, first, count)

    monkeypatch.setattr(rollouts, "roll", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "run", CONFIG, "onestride evaluate")
    path = tmp_path / "run" / "evaluation" / "episodes.jsonl"
    assert len(path.read_text().splitlines()) == 10
    path.write_text(path.read_text()[:-25])  # the kill came in the middle of a line
    made[:] = [None] * 20
    evaluate(tmp_path / "run", CONFIG, "onestride evaluate")
    assert len(made) - 20 == len(ROWS) - 4
    assert keyed(records_of(tmp_path / "run" / "evaluation")) == keyed(records_of(evaluated[1]))


@pytest.mark.slow
def test_a_finished_evaluation_again_rolls_nothing(again, monkeypatch):
    def records():
        timed = ("comparison.json", SPENT)
        return {p.name: p.read_bytes() for p in (again / "evaluation").iterdir() if p.name not in timed}

    before = records()
    monkeypatch.setattr(rollouts, "roll", None)
    evaluate(again, CONFIG, "onestride evaluate")
    assert records() == before


def test_nothing_to_evaluate(run, tmp_path):
    shutil.copytree(run / "data", tmp_path / "run" / "data")
    with pytest.raises(CheckpointError, match="holds no planner to evaluate"):
        evaluate(tmp_path / "run", CONFIG, "onestride evaluate")


@pytest.mark.slow
def test_other_entries_are_evaluated_beside_the_table(again, evaluated):
    """Under a name of their own; an entry that stands in the table too has the same episodes."""
    chosen = [entry(again, "dnk-0"), entry(again, "dnk-0", candidates=5)]
    chosen.append(entry(again, "dnk-0", "none"))
    folder = evaluate(again, CONFIG, "test", name="other", entries=chosen)
    assert folder == again / "other"
    records, table = keyed(records_of(folder)), keyed(records_of(evaluated[1]))
    assert {row for row, _, _ in records} == {"dnk", "candidates-5", "dnk-unselected"}
    assert all(r == table[key] for key, r in records.items() if key in table)
    assert records["candidates-5", 0, 0] != records["dnk", 0, 0] | {"row": "candidates-5"}


def test_a_row_is_mean_and_deviation_over_its_seeds():
    records = [
        {"row": row, "seed": s, "episode": n, "return_normalised": v, "return_raw": 10 * v, "steps": 9, "fell": n == 0}
        for row, shift in (("dnk", 0.0), ("dnk-unselected", -0.5))
        for s, values in enumerate(([1.0, 3.0], [2.0, 2.0], [0.0, 1.0]))
        for n, v in enumerate(np.array(values) + shift)
    ]
    clouds = [{"row": "dnk", "seed": s, "action_spread": 0.1 * s} for s in range(3)]
    made = summary(DNK, EPISODE, records, clouds, {"dnk": [0.001, 0.003]}, {"dnk": 1})
    assert made["return_normalised"]["per_seed"] == [2.0, 2.0, 0.5]
    assert made["return_normalised"]["mean"] == pytest.approx(1.5)
    assert made["return_normalised"]["std"] == pytest.approx(np.std([2.0, 2.0, 0.5]))
    assert made["return_raw"]["mean"] == pytest.approx(15)
    assert made["sigma_ep"]["per_seed"] == [1.0, 0.0, 0.5]
    assert made["worst_seed_return"]["mean"] == 0.5
    assert made["fell"]["mean"] == 0.5
    assert made["episodes"]["mean"] == 6
    assert made["action_spread"]["mean"] == pytest.approx(0.1)
    assert made["unselected_return"]["mean"] == pytest.approx(1.0)
    assert RETURN.cell(made) == "1.50 ± 0.71"  # four decimals, of ten episodes and more
    assert RETURN.cell({RETURN.metric: made["unselected_return"]}) == "1.00 ± 0.71"
    assert made["decision_ms_mean"]["mean"] == pytest.approx(2.0)
    assert made["control_hz"]["mean"] == pytest.approx(500)
    assert "own_action_spread" not in made


@pytest.mark.slow
def test_the_distance_from_the_teacher_is_of_the_same_noise_also_where_it_is_scaled_otherwise(again):
    quiet = again / "quiet"
    shutil.copytree(again / "teacher", quiet)
    config = json.loads((quiet / "config.json").read_text())
    seal(quiet / "config.json", config | {"temperatures": [0.1], "probabilities": [1.0]})
    entries = [entry(again, name, selector) for name in ("teacher", "quiet") for selector in ("returns", "none", "iql")]
    folder = evaluate(again, CONFIG, "test", name="noise", entries=entries)
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert rows["quiet"]["action_spread"]["mean"] < rows["teacher"]["action_spread"]["mean"]
    assert rows["quiet"]["teacher_distance"]["mean"] == 0.0


def test_metrics_of_candidates_stand_in_the_order_of_the_seeds():
    """Records come as batches end; a seed's place is not where its line happened to be."""
    records = [
        {"row": "dnk", "seed": s, "return_normalised": 0.1 * s, "return_raw": s, "fell": False} for s in (2, 0, 1)
    ]
    clouds = [{"row": "dnk", "seed": s, "action_spread": float(s)} for s in (1, 2, 0)]
    made = summary(DNK, EPISODE, records, clouds, {"dnk": [0.001, 0.003]}, {"dnk": 1})
    assert made["action_spread"]["per_seed"] == [0.0, 1.0, 2.0]
    assert made["return_normalised"]["per_seed"] == pytest.approx([0.0, 0.1, 0.2])
    assert (made["decision_ms_mean"]["std"], made["decision_ms_mean"]["n"]) == (pytest.approx(1.0), 2)
