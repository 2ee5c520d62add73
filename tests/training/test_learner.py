"""Learners with several networks: the same bits as a loop written out, killed or not; buffers; named terms."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch
from torch import nn

from onestride.training.learner import Group, as_learner
from onestride.training.loop import train
from onestride.training.state import STATE
from toy_training import CONFIG, ROWS, same_bits, toy_data


class Counting(nn.Module):
    """A linear map with a running mean of its input, and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))


class Two(nn.Module):
    """A generator that is drawn to what a second network says, and that network, which learns the data."""

    def __init__(self, dies_at=None):
        super().__init__()
        torch.manual_seed(0)
        self.deployed, self.score = Counting(), nn.Linear(3, 2)
        self.dies_at, self.seen = dies_at, 0

    def groups(self):
        return (
            Group("score", list(self.score.parameters()), learning_rate=3e-3, betas=(0.0, 0.999), grad_clip=0.5),
            Group("generator", list(self.deployed.parameters()), weight_decay=0.1, every=2),
        )

    def loss(self, phase, batch, rng):
        x = batch["x"] + 0.1 * torch.randn(batch["x"].shape, generator=rng)
        if phase == "score":
            if self.seen == self.dies_at:
                raise KeyboardInterrupt
            self.seen += 1
            loss = (self.score(x) - batch["y"]).square().mean()
            return {"loss": loss, "size": self.score.weight.square().sum()}
        self.deployed.calls += 1
        self.deployed.mean.lerp_(x.mean(0), 0.1)
        # Gradients reach the score network too; they are none of this phase's.
        return {"loss": (self.deployed.net(x) - self.score(x)).square().mean()}


def written_out(steps):
    """The same training without any of the loop's machinery."""
    from onestride.training.datasets import Order, Resident, mix
    from onestride.training.loop import _schedule

    learner, data = Two(), Resident(toy_data())
    ema = Two().deployed
    score, generator = learner.groups()
    a = torch.optim.AdamW(score.parameters, lr=3e-3, betas=(0.0, 0.999), weight_decay=0.0, fused=True)
    b = torch.optim.AdamW(generator.parameters, lr=CONFIG.learning_rate, weight_decay=0.1, fused=True)
    order, rng = Order(data, CONFIG.batch_size, CONFIG.seed, torch.device("cpu")), torch.Generator()
    config = replace(CONFIG, steps=steps)
    for step in range(steps):
        rng.manual_seed(mix(CONFIG.seed, step))
        batch = data.rows(order.rows(step))
        for phase, optimizer, rate, clip in (("score", a, 3e-3, 0.5), ("generator", b, CONFIG.learning_rate, 1.0)):
            if phase == "generator" and step % 2:
                continue
            learner.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(step, config)
            learner.loss(phase, batch, rng)["loss"].backward()
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], clip, foreach=True)
            optimizer.step()
        decay = min(CONFIG.ema_decay, (2 + step) / (11 + step))
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), learner.deployed.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
    return learner, ema


def run(learner, folder, steps=120):
    return train(learner, toy_data(), replace(CONFIG, steps=steps), folder, title="two", identity={})


def test_two_phases_with_their_own_optimisers_are_the_loop_written_out(tmp_path):
    learner = Two()
    ema, report = run(learner, tmp_path)
    wanted, wanted_ema = written_out(120)
    same_bits(learner, wanted)
    assert torch.equal(ema.net.weight, wanted_ema.net.weight)
    assert report["history"].keys() == {"score/loss", "score/size", "generator/loss"}
    assert report["history"]["score/loss"][-1][1] < report["history"]["score/loss"][0][1]


def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path, capsys):
    whole = Two()
    ema, report = run(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Two(dies_at=77), tmp_path / "killed")
    assert (tmp_path / "killed" / STATE).exists()
    again = Two()
    assert "going on" not in capsys.readouterr().err
    ema_again, report_again = run(again, tmp_path / "killed")
    assert f"going on at step 50 of {report['steps']}" in " ".join(capsys.readouterr().err.split())
    same_bits(again, whole)
    same_bits(ema_again, ema)
    assert report_again["history"] == report["history"]


def test_the_averages_buffers_are_those_of_what_is_deployed(tmp_path):
    learner = Two()
    ema, _ = run(learner, tmp_path)
    assert int(ema.calls) == int(learner.deployed.calls) == 60  # every second step
    assert torch.equal(ema.mean, learner.deployed.mean)
    assert not torch.equal(ema.net.weight, learner.deployed.net.weight)


def test_every_named_term_is_written_for_other_programs(tmp_path):
    _, report = run(Two(), tmp_path)
    with (tmp_path / "log" / "metrics.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [int(row["step"]) for row in rows] == [50, 100, 120]
    for name, curve in report["history"].items():
        assert [float(row[name]) for row in rows] == pytest.approx([mean for _, mean in curve])


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(TypeError, match="a Linear has no training_step and is no Learner"):
        as_learner(nn.Linear(1, 1))

    class Shared(Two):
        def groups(self):
            return (Group("a", list(self.score.parameters())), Group("b", list(self.score.parameters())))

    with pytest.raises(ValueError, match="step the same parameter"):
        as_learner(Shared())

    class Twice(Two):
        def groups(self):
            return (Group("a", [self.score.weight]), Group("a", [self.score.bias]))

    with pytest.raises(ValueError, match="phases of one group"):
        as_learner(Twice())


def test_more_rows_than_a_batch(tmp_path):
    with pytest.raises(ValueError, match=f"{ROWS} rows are fewer than one batch of 1000"):
        train(Two(), toy_data(), replace(CONFIG, batch_size=1000), tmp_path, title="two", identity={})
