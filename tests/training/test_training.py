"""The optimisation loop: every row once, an average that can be checked, nothing that is no number kept."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from onestride.tensors import load_tensors
from onestride.training.config import TrainConfig
from onestride.training.loop import NonFiniteLossError
from onestride.training.state import STATE
from toy_training import BATCH, CONFIG, ROWS, Toy, run, same_bits, toy_data

# ---- a loss that is no number ----


@pytest.mark.slow
@pytest.mark.parametrize("nan_at", [51, 77, 100, 120])
def test_a_loss_that_is_no_number_stops_it_and_keeps_the_last_good_state(tmp_path, nan_at):
    method = Toy()
    method.nan_at = nan_at
    with pytest.raises(NonFiniteLossError, match=r"toy: .* not finite .*at step .*earlier step.*kept"):
        run(method, tmp_path)
    tensors, header = load_tensors(tmp_path / STATE)
    assert int(header["step"]) == (nan_at - 1) // 50 * 50
    assert all(v.isfinite().all() for v in tensors.values())
    whole, resumed = Toy(), Toy(seed=1)  # mended, it goes on to the same end
    same_bits(run(whole, tmp_path / "whole")[0], run(resumed, tmp_path)[0])
    same_bits(whole, resumed)


def test_a_loss_that_is_no_number_from_the_start(tmp_path):
    method = Toy()
    method.nan_at = 3
    with pytest.raises(NonFiniteLossError, match="no earlier step"):
        run(method, tmp_path)
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize("at", [50, 100, 120])
def test_a_gradient_that_is_no_number_is_never_saved_nor_returned(tmp_path, at):
    """The loss of that very step is fine; the weights after it are not."""
    method = Toy()
    method.nan_gradient_at = at
    with pytest.raises(NonFiniteLossError):
        run(method, tmp_path)
    if (tmp_path / STATE).exists():
        assert all(v.isfinite().all() for v in load_tensors(tmp_path / STATE)[0].values())


# ---- what a run is made of ----


@pytest.mark.parametrize("rows", [ROWS, ROWS + 5])
def test_every_row_once_per_epoch(tmp_path, rows):
    method = Toy()
    per_epoch = rows // BATCH
    run(method, tmp_path, replace(CONFIG, steps=4 * per_epoch), toy_data(rows))
    epochs = [[row for rows in method.rows[i * per_epoch : (i + 1) * per_epoch] for row in rows] for i in range(4)]
    for seen in epochs:
        assert len(set(seen)) == len(seen) == per_epoch * BATCH
    if rows == ROWS:
        assert all(sorted(seen) == list(range(ROWS)) for seen in epochs)
    assert len({tuple(seen) for seen in epochs}) == 4  # each its own shuffle


def test_rows_left_over_are_others_every_epoch(tmp_path):
    method = Toy()
    run(method, tmp_path, replace(CONFIG, steps=6 * 30), toy_data(ROWS + 5))
    assert {row for rows in method.rows for row in rows} == set(range(ROWS + 5))


def test_the_ema_is_the_naive_one(tmp_path):
    start, method = Toy(), Toy()
    ema, _ = run(method, tmp_path)
    weights = [*method.after[1:], [p.detach() for p in method.parameters()]]  # after step 1, 2, ... 120
    naive = [p.detach().double() for p in start.parameters()]
    for step, now in enumerate(weights, start=1):
        decay = min(0.95, (1 + step) / (10 + step))
        naive = [decay * old + (1 - decay) * new.double() for old, new in zip(naive, now, strict=True)]
    for got, expected, last in zip(ema.parameters(), naive, method.parameters(), strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
        assert not torch.equal(got, last)
        assert not got.requires_grad


def test_muon_turns_matrices_and_adamw_the_rest(tmp_path):
    """One step from rest: a matrix moves by 0.2 sqrt(its longer side) along an orthogonal one, a bias by the rate."""
    config = replace(CONFIG, optimizer="muon", steps=1, warmup=1, grad_clip=1e9)
    method, before = Toy(), Toy()
    run(method, tmp_path, config)
    for new, old in zip(method.parameters(), before.parameters(), strict=True):
        moved = (new - old).detach()
        if new.ndim == 2:
            sizes = torch.linalg.svdvals(moved) / (config.learning_rate * 0.2 * max(new.shape) ** 0.5)
            assert sizes.min() > 0.5  # Newton-Schulz in five steps is near 1, not at it
            assert sizes.max() < 1.5
        else:
            torch.testing.assert_close(moved.abs(), torch.full_like(moved, config.learning_rate), rtol=1e-2, atol=0)


def test_muon_learns_too(tmp_path):
    config = replace(CONFIG, optimizer="muon", learning_rate=0.1, steps=150)
    _, report = run(Toy(), tmp_path, config)
    assert report["history"]["loss"][-1][1] < 0.5 * report["history"]["loss"][0][1]


def test_what_was_trained_before_there_was_a_choice_stays_itself():
    known = asdict(TrainConfig())
    del known["optimizer"], known["tensorboard"]
    assert TrainConfig().identity() == known
    assert TrainConfig(optimizer="muon").identity() == known | {"optimizer": "muon"}


def test_as_a_naive_loop_of_adamw(tmp_path):
    """Warm-up and cosine, clipping and AdamW as torch has them, on the batches that were seen."""
    config = replace(CONFIG, weight_decay=0.01, grad_clip=0.3, steps=60)
    method, data = Toy(), toy_data()
    seen = []

    class Quiet(Toy):
        def training_step(self, batch, generator):
            seen.append((batch["row"].clone(), torch.randn(BATCH, 3, generator=generator)))
            noise = seen[-1][1]
            return {"loss": (self.net(batch["x"] + 0.1 * noise) - batch["y"]).square().mean()}

    trained = Quiet()
    _, report = run(trained, tmp_path, config)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1.0, weight_decay=0.01)
    losses = []
    for step, (rows, noise) in enumerate(seen):
        warm = min(1.0, (step + 1) / 10)
        optimizer.param_groups[0]["lr"] = 1e-2 * warm * 0.5 * (1 + math.cos(math.pi * step / 60))
        loss = (method.net(data["x"][rows] + 0.1 * noise) - data["y"][rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(method.parameters(), 0.3)
        optimizer.step()
        losses.append(loss.item())
    for got, expected in zip(trained.parameters(), method.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert report["history"]["loss"] == [
        [50, pytest.approx(sum(losses[:50]) / 50, rel=1e-4)],
        [60, pytest.approx(sum(losses[50:]) / 10, rel=1e-4)],
    ]
    assert len({tuple(noise.flatten().tolist()) for _, noise in seen}) == 60  # fresh noise every step


def test_the_seed_decides(tmp_path):
    methods = [Toy(), Toy(), Toy()]
    for i, (method, seed) in enumerate(zip(methods, (0, 0, 1), strict=True)):
        run(method, tmp_path / str(i), replace(CONFIG, seed=seed))
    same_bits(methods[0], methods[1])
    assert not torch.equal(methods[0].net[0].weight, methods[2].net[0].weight)
    assert methods[0].rows != methods[2].rows


def test_it_learns_and_reports(tmp_path):
    _, report = run(Toy(), tmp_path, replace(CONFIG, steps=300))
    assert report["history"]["loss"][-1][1] < 0.5 * report["history"]["loss"][0][1]
    assert report["steps"] == 300
    assert report["precision"] == "32-true"
    assert report["device"] == "cpu"
    assert report["seconds"] > 0
    json.dumps(report)  # it goes into the checkpoint's config


# ---- precision ----


def test_products_are_rounded_and_the_data_is_not(tmp_path):
    """A target that came in bfloat16 would be off by one part in 256 before anything was learnt."""

    class Watching(Toy):
        def training_step(self, batch, generator):
            self.seen = (batch["x"].dtype, self.net(batch["x"]).dtype)
            exact = toy_data()
            assert torch.equal(batch["y"], exact["y"][batch["row"]])
            return super().training_step(batch, generator)

    toy = Watching()
    run(toy, tmp_path, replace(CONFIG, steps=3, precision="bf16-mixed"))
    assert toy.seen == (torch.float32, torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in toy.parameters())


# ---- refusals ----


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"{BATCH - 1} rows are fewer than one batch of {BATCH}"):
        run(Toy(), tmp_path, data=toy_data(BATCH - 1))
    run(Toy(), tmp_path / "enough", data=toy_data(BATCH))


def test_columns_of_different_lengths_are_refused(tmp_path):
    data = toy_data()
    data["y"] = data["y"][:-1]
    with pytest.raises(ValueError, match=r"differ in length.*'y': 95"):
        run(Toy(), tmp_path, data=data)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch_size": 0}])
def test_no_steps_or_no_batch_is_refused(change):
    with pytest.raises(ValueError, match="at least 1"):
        replace(CONFIG, **change)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"training\.optimizer is 'sgd'; there are adamw, muon"):
        replace(CONFIG, optimizer="sgd")
