"""Evaluations, pairs and trainings as units of work: the same numbers as in one process, bit for bit."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onestride.evaluation.evaluate import evaluate
from onestride.runs import presets
from onestride.runs.pairs import MANIFEST, PairsConfig, load_manifest, load_pairs
from onestride.runs.pairs_stage import pairs_stage
from onestride.runs.presets.kdp import with_kdp
from onestride.runs.seeds import makes, needed, run_stages, seed_units, stage_of, waves
from onestride.runs.stage import Stage
from onestride.scale.cluster import Cluster
from onestride.scale.place import current, using
from onestride.scale.units import UNITS
from onestride.scale.worker import token_file
from onestride.tensors import load_unsealed
from ray_of_tests import RayOfTests, WorkerCrashedError
from tiny_run import CONFIG, PRESET, copy_without, entry, keyed, records_of


@contextmanager
def on_ray_of_tests(root, **settings):
    """Units of work in this process, through the same text as over a network."""
    token_file(root, "abc").write_text("abc")
    cluster = Cluster(RayOfTests(**settings), root, "abc")
    with using(cluster):
        yield cluster
    token_file(root, "abc").unlink()
    assert current() is None


def same_tensors(one, other):
    ours, theirs = load_unsealed(one)[0], load_unsealed(other)[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_an_evaluation(run, evaluated):
    entries = [entry(run, "dnk-0"), entry(run, "dnk-0", "none"), entry(run, "teacher", "none")]
    config = replace(CONFIG, episodes=2, width=1)
    one = evaluate(run, config, "test", name="here", entries=entries)
    with on_ray_of_tests(run) as cluster:
        two = evaluate(run, config, "test", name="there", entries=entries)
    assert len(cluster.cpu_s) == 6
    assert keyed(records_of(one)) == keyed(records_of(two))
    same_tensors(one / "states.safetensors", two / "states.safetensors")
    assert not (two / UNITS).exists()
    shutil.rmtree(one)
    shutil.rmtree(two)


@pytest.mark.slow
def test_an_evaluation_goes_on_from_what_is_done(run, evaluated, tmp_path):
    """What is in no record yet is taken from the units' files; what another training rolled is not."""
    entries = [entry(run, "dnk-0"), entry(run, "dnk-0", "none")]
    config = replace(CONFIG, episodes=2, width=1)
    one = evaluate(run, config, "test", name="here", entries=entries)
    with on_ray_of_tests(run) as cluster:
        cluster.ray.get = lost_after(cluster.ray.get, 2)
        with pytest.raises(OSError, match="was killed"):
            evaluate(run, config, "test", name="there", entries=entries)
    with on_ray_of_tests(run) as cluster:
        two = evaluate(run, config, "test", name="there", entries=entries)
    assert len(cluster.cpu_s) == 2
    assert keyed(records_of(one)) == keyed(records_of(two))
    shutil.rmtree(one)
    shutil.rmtree(two)


def lost_after(get, count):
    """Answers, of which the first ones come and all others are lost with their process."""
    left = iter(range(count))

    def answer(number):
        if next(left, None) is None:
            raise WorkerCrashedError
        return get(number)

    return answer


@pytest.mark.slow
def test_pairs(run, tmp_path):
    there = tmp_path / "run"
    copy_without(run, there)
    config = PairsConfig(count=3000, shards=3, temperatures=(0.5, 1.0), probabilities=(0.5, 0.5), solver="ddpm")
    one = pairs_stage(there, config, name="here")
    with on_ray_of_tests(there) as cluster:
        cluster.ray.get = lost_after(cluster.ray.get, 1)
        with pytest.raises(OSError, match="was killed"):
            pairs_stage(there, config, name="there")
    assert len(load_manifest(there / "there")["shards"]) == 1
    with on_ray_of_tests(there) as cluster:
        two = pairs_stage(there, config, name="there")
    assert len(cluster.cpu_s) == 2
    ours, theirs = load_manifest(one), load_manifest(two)
    assert ours["shards"] == theirs["shards"]  # each file's SHA-256
    assert {k: v for k, v in ours.items() if k != "shards"} == {k: v for k, v in theirs.items() if k != "shards"}
    assert len(load_pairs(two)["prior"]) == 3000
    assert {path.name for path in two.iterdir()} == {MANIFEST, *ours["shards"]}


@pytest.mark.slow
def test_trainings(run, tmp_path):
    """Two students, and two seeds of one, side by side; what is trained already is left alone."""
    there, preset = tmp_path / "run", presets.load(PRESET)
    copy_without(run, there, "dnk-0", "kdm-0")
    stages = [replace(preset.stage("dnk"), seeds=(0, 1)), preset.stage("kdm")]
    with on_ray_of_tests(there) as cluster:
        folders = run_stages(there, stages)
        assert folders == [there / name for name in ("dnk-0", "dnk-1", "kdm-0")]
        assert set(cluster.cpu_s) == {"dnk-0", "dnk-1", "kdm-0"}
    for name in ("dnk-0", "kdm-0"):
        same_tensors(there / name / "model.safetensors", run / name / "model.safetensors")
    before = (there / "dnk-1" / "model.safetensors").stat().st_mtime_ns
    with on_ray_of_tests(there):
        run_stages(there, stages)
    assert (there / "dnk-1" / "model.safetensors").stat().st_mtime_ns == before
    assert not (there / UNITS).exists()


def test_stages_wait_for_what_they_need():
    preset = presets.load(PRESET)
    found = waves(preset.stages)
    assert [[stage.name for stage in wave] for wave in found[:3]] == [["returns", "iql"], ["teacher"], ["pairs"]]
    assert {"dnk", "kdm"} <= {stage.name for stage in found[3]}
    assert [stage.name for wave in found for stage in wave] == [stage.name for stage in preset.stages]
    there: set[str] = set()
    for wave in found:
        for stage in wave:
            assert {each for each in needed(stage) if "-" not in each} <= there
        there |= {makes(stage) for stage in wave}


def test_a_stage_is_the_same_after_json():
    every = [*presets.load(PRESET).stages, *with_kdp(presets.load(PRESET), "hopper-medium").stages]
    every += [Stage(name="contexts", role="contexts"), Stage(name="medoid", role="selector")]
    for stage in (each.complete() for each in every):
        for unit in seed_units(Path("run"), stage):
            again = stage_of(unit.arguments["stage"])
            assert (again, again.preset) == (stage, stage.preset)
