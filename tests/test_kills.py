"""What is made of several files, killed at every operation on a file: whole as it was, or as it is to be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from killed_everywhere import at_every_operation
folder = Path({folder!r})
"""

#: A student takes over another critic: with the old one or with the new one, never with none.
POLICY = """
import numpy as np
from kinds import wrap
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.networks.normalizer import Normalizer
from onestride.selectors.store import make_selector_model
from onestride.tasks import TASKS
task = TASKS["halfcheetah-v5"]()
d = task.control.transition_dim

def policy(seed):
    torch.manual_seed(seed)
    normalizer = Normalizer(torch.zeros(d), torch.ones(d), torch.zeros(0), torch.ones(0))
    critic = wrap(make_selector_model("iql", {"hidden": 8}, task), normalizer, task.control)
    torch.manual_seed(0)
    generator = make_generator(task, "dnk", {"latent_dim": 8, "hidden": 8, "gain_hidden": 8})
    return Policy(task, generator, normalizer, selector=critic, candidates=4)

def scores(made):
    made.reset(0)
    return made.decide(np.zeros(17)).scores.tolist()

old, new = policy(1), policy(2)
wanted, seen = [scores(old), scores(new)], set()

def prepare():
    shutil.rmtree(folder, ignore_errors=True)
    old.save(folder / "dnk-0", {})

def work():
    new.save(folder / "dnk-0", {})

def check():
    seen.add(wanted.index(scores(Policy.from_pretrained(folder / "dnk-0"))))
    work()
    assert scores(Policy.from_pretrained(folder / "dnk-0")) == wanted[1]

print(at_every_operation(prepare, work, check), sorted(seen))
"""

#: Results are published: the same command finishes it.
PUBLISH = """
from onestride.experiment import publish, published

def prepare():
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "evaluation").mkdir(parents=True)
    for name in ("comparison.json", "episodes.jsonl", "candidates.jsonl"):
        (folder / "evaluation" / name).write_text(name)

def work():
    publish(folder / "evaluation", published(folder / "results", "hopper"))

seen = set()

def check():
    there = folder / "results"
    before = {path.name for path in there.glob("[!.]*")} if there.exists() else set()
    seen.add(len(before))
    try:
        work()
    except FileExistsError:
        assert len(before) == 3  # all of it was there
    names = {path.name: path.read_text() for path in there.glob("[!.]*")}
    assert names == {
        "hopper.json": "comparison.json",
        "hopper.episodes.jsonl": "episodes.jsonl",
        "hopper.candidates.jsonl": "candidates.jsonl",
    }
    assert not list(there.glob("*.publishing"))

print(at_every_operation(prepare, work, check), sorted(seen))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "states"), [(POLICY, "[0, 1]"), (PUBLISH, "[0, 1, 2, 3]")], ids=["policy", "publish"]
)
def test_killed_at_every_operation_it_goes_on(script, states, tmp_path):
    begin = BEGIN.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", begin + script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    killed, seen = done.stdout.strip().split(maxsplit=1)
    assert int(killed) > 20
    assert seen == states


def test_what_somebody_else_has_there_is_not_overwritten(tmp_path):
    from onestride.experiment import published

    (tmp_path / "hopper.latency.json").write_text("mine")
    (tmp_path / ".hopper.json.publishing").write_text('["hopper.json"]')
    with pytest.raises(FileExistsError, match=r"hopper\.latency\.json"):
        published(tmp_path, "hopper")
