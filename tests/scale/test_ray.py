"""A Ray of this machine with two processes, some of which are killed: the same numbers as in one process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch

from onestride.evaluation.evaluate import evaluate
from onestride.runs import presets
from onestride.runs.pairs import PairsConfig, load_manifest
from onestride.runs.pairs_stage import pairs_stage
from onestride.runs.seeds import run_stages
from onestride.scale.cluster import connected
from onestride.scale.place import using
from onestride.scale.units import Unit
from onestride.scale.worker import TOKEN
from onestride.tensors import load_tensors, load_unsealed
from tiny_run import CONFIG, PRESET, copy_without, entry, keyed, records_of

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(run):
    with connected("ray", run, 2) as cluster:
        yield cluster
    assert not list(run.glob(f"{TOKEN}*"))


def workers() -> list[int]:
    """Processes of this one's Ray that carry out a unit at this moment; another Ray's on the machine are left alone."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::work") and descends(int(process.name)):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def descends(process: int) -> bool:
    """Whether a process descends from this one."""
    while process > 1 and process != os.getpid():
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process == os.getpid()


class Killer:
    """Kills one of the processes at ten random moments."""

    def __init__(self, kills=10):
        self.left, self.random = kills, random.Random(0)
        self.thread = Thread(target=self._kill, daemon=True)

    def _kill(self):
        while self.left:
            time.sleep(self.random.uniform(0.2, 2.0))
            if there := workers():
                os.kill(self.random.choice(there), signal.SIGKILL)
                self.left -= 1


def test_an_evaluation_whose_processes_are_killed_at_ten_moments(run, cluster):
    entries = [entry(run, "dnk-0"), entry(run, "dnk-0", "none"), entry(run, "teacher", "none")]
    config = replace(CONFIG, episodes=12, width=1, workers=1)
    one = evaluate(run, config, "test", name="by-one", entries=entries)
    killer = Killer()
    killer.thread.start()
    with using(cluster):
        while killer.left:
            shutil.rmtree(run / "on-ray", ignore_errors=True)
            two = evaluate(run, config, "test", name="on-ray", entries=entries)
            assert keyed(records_of(one)) == keyed(records_of(two))
            ours, theirs = (load_tensors(folder / "states.safetensors")[0] for folder in (one, two))
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for folder in (one, two):
        shutil.rmtree(folder)


def test_pairs_and_trainings(run, cluster, tmp_path):
    """Written by processes that see the same folder, as those of another machine do."""
    there, preset = run / "copy", presets.load(PRESET)
    copy_without(run, there, "dnk-0", "kdm-0", "copy")
    config = PairsConfig(count=3000, shards=3, temperatures=(0.5, 1.0), probabilities=(0.5, 0.5), solver="ddpm")
    one = pairs_stage(there, config, name="here")
    with using(cluster):
        two = pairs_stage(there, config, name="on-ray")
        run_stages(there, [replace(preset.stage("dnk"), seeds=(0, 1)), preset.stage("kdm")])
    assert load_manifest(one)["shards"] == load_manifest(two)["shards"]
    for name in ("dnk-0", "kdm-0"):
        ours, theirs = (load_unsealed(each / name / "model.safetensors")[0] for each in (run, there))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (there / "dnk-1" / "model.safetensors").is_file()
    shutil.rmtree(there)


def test_a_unit_that_is_refused_and_one_that_is_wrong(run, cluster):
    from onestride.scale.cluster import WorkRefusedError

    with pytest.raises(WorkRefusedError, match="no function of onestride"):
        list(cluster.run([Unit("a", "os:getpid", {})], run / "units"))
    with pytest.raises(KeyError):  # a bug of ours, with where it is
        list(cluster.run([Unit("a", "onestride.evaluation.units:roll_batch", {})], run / "units"))
    shutil.rmtree(run / "units")
