"""A training that was killed or stopped: the same bits as one that was not, and states of others are refused."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onestride.files import CheckpointError
from onestride.tensors import load_tensors, save_tensors
from onestride.termination import Terminated, heard
from onestride.training.interrupt import DeferredInterrupt
from onestride.training.learner import Learner
from onestride.training.loop import NonFiniteLossError, finish
from onestride.training.state import STATE
from small_methods import METHODS, method_data
from toy_training import CONFIG, Toy, run, same_bits

# ---- killed and resumed ----

#: One network, one with random draws of its own, and several optimisers. The others are marked slow.
SOON = ("toy", "mlp teacher", "kdp", "onedp-s", "iql")


@pytest.fixture
def no_nohup():
    """A closed terminal is heard, however the tests were begun."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("name", "dies_at", "optimizer"),
    [
        *(pytest.param(name, 115, "adamw", marks=[pytest.mark.slow] * (name not in SOON)) for name in METHODS),
        *(("toy", dies_at, "adamw") for dies_at in (51, 60, 119)),
        ("toy", 115, "muon"),
        # with and without what is no matrix
        *(pytest.param(name, 115, "muon", marks=pytest.mark.slow) for name in ("dnk", "kdm-f", "iql")),
    ],
)
def test_killed_and_resumed_ends_with_the_same_bits(name, dies_at, optimizer, tmp_path, monkeypatch):
    data, config = method_data(name), replace(CONFIG, optimizer=optimizer)
    torch.manual_seed(0)
    start = METHODS[name]()
    whole = copy.deepcopy(start)
    whole_ema, whole_report = run(whole, tmp_path / "whole", config, data=data)

    killed, asked = copy.deepcopy(start), "loss" if isinstance(start, Learner) else "training_step"
    step, calls = getattr(type(start), asked), 0

    def dies(self, *args):
        nonlocal calls
        if calls == dies_at:
            raise KeyboardInterrupt
        calls += 1
        return step(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(type(start), asked, dies)
        with pytest.raises(KeyboardInterrupt):
            run(killed, tmp_path / "killed", config, data=data)
    assert (tmp_path / "killed" / STATE).is_file()

    # What goes on starts from other random weights: all that counts is in the file.
    resumed = copy.deepcopy(start)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1.0)
    resumed_ema, resumed_report = run(resumed, tmp_path / "killed", config, data=data)
    same_bits(resumed, whole)
    same_bits(resumed_ema, whole_ema)
    assert resumed_report["history"] == whole_report["history"]
    for name in [name for name in whole_report["history"] if name.endswith("loss")]:
        assert [step for step, _ in whole_report["history"][name]] == [50, 100, 120]
    assert any(name.endswith("loss") for name in whole_report["history"])


@pytest.mark.parametrize(
    ("asked_at", "number"),
    [
        *((at, signal.SIGINT) for at in (0, 49, 50, 77, 118, 119)),
        *((at, number) for number in (signal.SIGTERM, signal.SIGHUP) for at in (0, 77)),
    ],
)
@pytest.mark.usefixtures("no_nohup")
def test_a_signal_waits_for_the_step_and_keeps_it(asked_at, number, tmp_path, monkeypatch):
    """Up to half a minute was lost, and all of a stage that took no longer."""
    config = replace(CONFIG, checkpoint_every=1e6)
    whole = Toy()
    whole_ema, whole_report = run(whole, tmp_path / "whole", config)
    stopped, step = Toy(), Toy.training_step

    def asks(self, batch, generator):
        if self.calls == asked_at:
            os.kill(os.getpid(), number)
        return step(self, batch, generator)

    with monkeypatch.context() as patched:
        patched.setattr(Toy, "training_step", asks)
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Terminated):
            run(stopped, tmp_path / "stopped", config)
    assert stopped.calls == asked_at + 1
    assert load_tensors(tmp_path / "stopped" / STATE)[1]["step"] == str(asked_at + 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = Toy(seed=3)
    ema, report = run(resumed, tmp_path / "stopped", config)
    assert resumed.calls == 120 - asked_at - 1
    same_bits(resumed, whole)
    same_bits(ema, whole_ema)
    assert [at for at, _ in report["history"]["loss"]] == [50, 100, 120]
    for (_, mine), (_, wanted) in zip(report["history"]["loss"], whole_report["history"]["loss"], strict=True):
        assert mine == pytest.approx(wanted, rel=1e-6)


def test_a_second_ctrl_c_does_not_wait():
    with DeferredInterrupt() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("inside", [heard, DeferredInterrupt])
def test_what_nohup_has_ignored_stays_ignored(inside):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with inside():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sigterm_that_comes_twice_is_heard_once():
    """As from `timeout`, which signals its command and then the group."""
    with heard():
        with DeferredInterrupt() as asked:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert asked.requested
        signal.raise_signal(signal.SIGTERM)
    ending = asked.end()
    assert isinstance(ending, Terminated)
    assert ending.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(Terminated), heard():
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_something_else_handles_is_left_to_it():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with heard(), DeferredInterrupt() as asked:
            signal.raise_signal(signal.SIGTERM)
        assert (came, asked.requested) == ([signal.SIGTERM], False)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_state_that_is_no_number_is_not_kept_at_ctrl_c(tmp_path, monkeypatch):
    step = Toy.training_step

    def asks(self, batch, generator):
        losses = step(self, batch, generator)
        if self.calls == 7:
            os.kill(os.getpid(), signal.SIGINT)
            losses = {"loss": losses["loss"] * float("nan")}
        return losses

    monkeypatch.setattr(Toy, "training_step", asks)
    with pytest.raises(NonFiniteLossError):
        run(Toy(), tmp_path)
    assert not (tmp_path / STATE).exists()


def test_a_resumed_run_does_only_what_was_left(tmp_path):
    killed = Toy()
    killed.dies_at = 115
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path)
    resumed = Toy()
    _, report = run(resumed, tmp_path)
    assert resumed.calls == 20  # the last state was that of step 100
    assert report["steps"] == 120
    whole = Toy()
    run(whole, tmp_path / "whole")
    assert resumed.rows == whole.rows[100:]


def test_killed_twice(tmp_path):
    whole = Toy()
    whole_ema, _ = run(whole, tmp_path / "whole")
    for dies_at in (70, 55):  # 50 saved; then from 50 to 105 of which 100 is saved
        killed = Toy(seed=dies_at)
        if dies_at == 70:
            killed.load_state_dict(Toy().state_dict())
        killed.dies_at = dies_at
        with pytest.raises(KeyboardInterrupt):
            run(killed, tmp_path / "killed")
    resumed = Toy(seed=9)
    ema, _ = run(resumed, tmp_path / "killed")
    assert resumed.calls == 20
    same_bits(ema, whole_ema)
    same_bits(resumed, whole)


SCRIPT = """
import sys, time
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import toy_training as t
class Slow(t.Toy):
    def training_step(self, batch, generator):
        time.sleep(0.002)
        return super().training_step(batch, generator)
t.run(Slow(), Path({folder!r}), replace(t.CONFIG, steps=1000))
"""


@pytest.mark.slow
def test_killed_without_warning_and_resumed_in_another_process(tmp_path):
    config = replace(CONFIG, steps=1000)
    whole = Toy()
    whole_ema, _ = run(whole, tmp_path / "whole", config)
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), folder=str(folder))
    child = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while not (folder / STATE).exists():
            assert child.poll() is None, "the child ended before it saved anything"
            assert time.monotonic() < deadline, "the child saved nothing in a minute"
            time.sleep(0.01)
        time.sleep(0.3)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    step = int(load_tensors(folder / STATE)[1]["step"])
    assert 50 <= step < 1000
    resumed = Toy(seed=3)
    ema, report = run(resumed, folder, config)
    assert resumed.calls == 1000 - step
    assert report["steps"] == 1000
    same_bits(resumed, whole)
    same_bits(ema, whole_ema)


def test_the_state_is_dropped_once_it_is_not_needed(tmp_path):
    run(Toy(), tmp_path)
    assert (tmp_path / STATE).exists()
    finish(tmp_path)
    finish(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_no_state_is_written_more_often_than_asked(tmp_path):
    run(Toy(), tmp_path, replace(CONFIG, checkpoint_every=1e6))
    assert not (tmp_path / STATE).exists()


# ---- states that do not fit ----


@pytest.fixture
def interrupted(tmp_path):
    killed = Toy()
    killed.dies_at = 60
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"steps": 121}, {"batch_size": 8}, {"learning_rate": 2e-2}, {"ema_decay": 0.9}, {"weight_decay": 0.1},
     {"warmup": 5}, {"grad_clip": 2.0}],
)  # fmt: skip
def test_a_state_of_other_settings_is_refused(interrupted, change):
    before = (interrupted / STATE).read_bytes()
    method = Toy()
    with pytest.raises(CheckpointError, match="other settings or other data") as refused:
        run(method, interrupted, replace(CONFIG, **change))
    ((name, now),) = change.items()
    assert f" data (training.{name}: {getattr(CONFIG, name)} there, {now} asked for). Run" in str(refused.value)
    assert method.calls == 0
    assert (interrupted / STATE).read_bytes() == before


def test_a_state_of_other_data_or_another_network_is_refused(interrupted):
    with pytest.raises(CheckpointError, match=r"other settings or other data \(data: 1 there, 2 asked for\)"):
        run(Toy(), interrupted, identity={"data": 2})


def test_a_state_of_a_version_that_kept_no_settings_goes_on_and_is_refused_without_them(interrupted):
    tensors, header = load_tensors(interrupted / STATE)
    save_tensors(interrupted / STATE, tensors, {name: said for name, said in header.items() if name != "made_by"})
    with pytest.raises(CheckpointError, match=r"other settings or other data\. Run with"):
        run(Toy(), interrupted, identity={"data": 2})
    resumed = Toy()
    run(resumed, interrupted)
    assert 0 < resumed.calls < 120


def test_a_state_may_be_saved_at_another_pace(interrupted):
    resumed = Toy()
    run(resumed, interrupted, replace(CONFIG, checkpoint_every=7.0))
    assert resumed.calls == 70


@pytest.mark.parametrize("left", [0, 20, 0.5, -3])
def test_a_state_cut_short_is_refused(interrupted, left):
    raw = (interrupted / STATE).read_bytes()
    (interrupted / STATE).write_bytes(raw[: int(left * len(raw)) if isinstance(left, float) else left])
    with pytest.raises(CheckpointError, match="altered or cut short"):
        run(Toy(), interrupted)


def test_the_time_of_the_first_attempt_counts(interrupted):
    spent = float(load_tensors(interrupted / STATE)[1]["seconds"])
    assert spent > 0
    assert run(Toy(), interrupted)[1]["seconds"] > spent
