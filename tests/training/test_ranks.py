"""Processes that share every batch: the noise of one process, the loss curve of one process, and killed ones go on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from onestride.cli import main
from onestride.training.learner import as_learner
from onestride.training.ranks import TOLERANCE, Ranks, check_shared, disagreement
from small_methods import METHODS, method_data
from toy_training import BATCH, CONFIG, Toy, run, toy_data

ROOT = Path(__file__).parents[2]
#: A training of the toy in each of two processes; the first says what became of it. Arguments: folder, and the step at
#: which the second one is killed, the first time.
TRAINED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from onestride.training.ranks import Ranks
from toy_training import Toy, run, toy_data
folder, dies = Path(sys.argv[1]), int(sys.argv[2])

class Mortal(Toy):
    def training_step(self, batch, generator):
        mark = folder.with_name("killed")
        if dies and self.calls == dies and Ranks.here().rank == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, generator)

method = Mortal()
ema, log = run(method, folder)
if Ranks.here().first:
    said = {{"history": log["history"], "rows": method.rows[0], "weights": [p.tolist() for p in ema.parameters()]}}
    folder.with_name(folder.name + ".json").write_text(json.dumps(said))
"""
LAUNCHED = "import sys\nfrom onestride.training.launch import launch\nsys.exit(launch(sys.argv[2:], int(sys.argv[1])))"


def together(folder, dies=0, count=2):
    """What the first of two processes says of a training, and what was printed."""
    script = folder.with_name("train.py")
    script.write_text(TRAINED.format(tests=str(ROOT / "tests")))
    command = [sys.executable, "-c", LAUNCHED, str(count), sys.executable, str(script), str(folder), str(dies)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(folder.with_name(folder.name + ".json").read_text()), done.stderr


# ---- noise ----


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows, rng: torch.randn(rows, 3, generator=rng),
        lambda rows, rng: torch.randn((rows, 3, 2), generator=rng),
        lambda rows, rng: torch.rand(rows, generator=rng),
        lambda rows, rng: torch.randint(7, (rows, 1), generator=rng),
        lambda rows, rng: torch.randint(2, 7, size=(rows,), generator=rng),
        lambda rows, rng: torch.randn(2, rows, generator=rng).T,
        lambda rows, rng: torch.randn(rows * 5, 4, generator=rng).unflatten(0, (rows, 5)),
    ],
)
@pytest.mark.parametrize("world", [2, 3])
def test_every_process_draws_what_one_would_for_its_rows(draw, world):
    rows = 12
    whole, numbers = draw(rows, torch.Generator().manual_seed(4)), torch.arange(rows)
    for rank in range(world):
        ranks, rng = Ranks(rank, world), torch.Generator().manual_seed(4)
        with ranks.drawing(rng, rows):
            assert torch.equal(draw(rows // world, rng), whole[ranks.share(numbers)])


def test_what_is_drawn_once_for_all_rows_is_the_same_everywhere():
    wanted = torch.randint(9, (1,), generator=torch.Generator().manual_seed(0))
    for rank in range(2):
        rng, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
        with Ranks(rank, 2).drawing(rng, 12):
            assert torch.equal(torch.randint(9, (1,), generator=rng), wanted)
            mine = torch.randn(6, generator=other)  # a generator of somebody else's
        assert torch.equal(mine, torch.randn(6, generator=torch.Generator().manual_seed(1)))


# ---- what can be shared ----


class OfTheBatch(Toy):
    """A loss in units of the batch's own spread."""

    def training_step(self, batch, generator):
        noise = torch.randn(len(batch["x"]), 3, generator=generator)
        error = self.net(batch["x"] + 0.1 * noise) - batch["y"]
        return {"loss": error.square().mean() / error.detach().std()}

    def __deepcopy__(self, memo):
        other = OfTheBatch()
        other.load_state_dict(self.state_dict())
        return other


def test_a_loss_that_is_no_mean_over_rows_is_refused():
    data, rows = toy_data(), torch.arange(BATCH)

    def batch(index):
        return {name: column[index] for name, column in data.items()}

    assert disagreement(as_learner(Toy()), rows, batch, 0)[""] < 1e-5
    assert disagreement(as_learner(OfTheBatch()), rows, batch, 0)[""] > 0.01
    check_shared(as_learner(Toy()), Ranks(0, 2), rows, batch, 0)
    with pytest.raises(ValueError, match=r"2 processes cannot share a batch .* is no mean over rows, .*--devices 1"):
        check_shared(as_learner(OfTheBatch()), Ranks(0, 2), rows, batch, 0)


#: What processes cannot share. "kdp": its drift is normalised over the batch. "onedp-s": a second draw for a few rows.
WHOLE = ("kdp", "onedp-s")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_shared_exactly_or_refused(name):
    torch.manual_seed(0)
    learner, data = as_learner(METHODS[name]()), method_data(name)
    off = disagreement(learner, torch.arange(64), lambda index: {n: c[index] for n, c in data.items()}, 3)
    assert (max(off.values()) > TOLERANCE) == (name in WHOLE), off
    assert name in WHOLE or max(off.values()) < TOLERANCE / 20  # rounding alone


def test_a_batch_that_cannot_be_shared_alike_is_refused(monkeypatch, tmp_path):
    for name, value in {"WORLD_SIZE": "3", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"batch_size is 16, which 3 processes cannot share alike: .* such as 18"):
        run(Toy(), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--devices", "0"), "--devices is 0, expected at least 1"),
        (("--devices", "2", "--on", "ray"), "shares one training and --on ray its seeds: give one of them"),
    ],
)
def test_devices_that_cannot_be(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("onestride.scale.cluster.connected", lambda *_: pytest.fail("it connects first"))
    with pytest.raises(SystemExit) as stop:
        main(["train", "teacher", "--preset", "hopper-tiny", "--run", str(tmp_path / "run"), *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


# ---- two processes ----


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    alone = Toy()
    ema, log = run(alone, tmp_path / "alone")
    said, printed = together(tmp_path / "two")
    assert said["rows"] == alone.rows[0][::2]
    assert [step for step, _ in said["history"]["loss"]] == [step for step, _ in log["history"]["loss"]]
    for ours, theirs in zip(said["history"]["loss"], log["history"]["loss"], strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-5)
    for weights, parameter in zip(said["weights"], ema.parameters(), strict=True):
        torch.testing.assert_close(torch.tensor(weights), parameter.detach(), rtol=1e-4, atol=1e-5)
    assert "toy:" in printed  # of one process alone
    assert printed.count(f"toy: {CONFIG.steps}/{CONFIG.steps}") == 1
    assert len(list((tmp_path / "two" / "log").glob("metrics.csv"))) == 1


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tmp_path):
    whole, _ = together(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    said, printed = together(tmp_path / "cut" / "two", dies=70)
    assert (tmp_path / "cut" / "killed").exists()
    assert "one of 2 processes was killed (signal 9); all begin again from the last checkpoint, 1 of 3" in " ".join(
        printed.split()
    )
    assert said["weights"] == whole["weights"]
    assert said["history"] == whole["history"]
