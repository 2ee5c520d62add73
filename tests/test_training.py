"""The optimisation loop: the same bits whether it was killed or not, every row once, an average that can be checked."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from onestride.checkpoint import load_tensors
from onestride.diffusion.planner import DiffusionPlanner, TeacherConfig
from onestride.diffusion.returns import ReturnConfig, ReturnModel
from onestride.files import CheckpointError
from onestride.selectors.iql import IQL, IQLConfig
from onestride.students.koopman import KoopmanConfig, KoopmanStudent
from onestride.training import STATE, Asked, NonFiniteLossError, TrainConfig, finish, train

ROWS, BATCH = 96, 16
CONFIG = TrainConfig(
    steps=120, batch_size=BATCH, learning_rate=1e-2, warmup=10, ema_decay=0.95, precision="32-true", accelerator="cpu",
    checkpoint_every=0.0,
)  # fmt: skip


class Toy(nn.Module):
    """Noisy regression; keeps what it was given and can be made to die, or to lose its senses, at a step."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2))
        self.rows, self.after, self.calls = [], [], 0
        self.dies_at = self.nan_at = self.nan_gradient_at = None

    def training_step(self, batch, generator):
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.rows.append(batch["row"].tolist())
        self.after.append([p.detach().clone() for p in self.parameters()])
        noise = torch.randn(len(batch["x"]), 3, generator=generator)
        loss = (self.net(batch["x"] + 0.1 * noise) - batch["y"]).square().mean()
        if self.calls == self.nan_at:
            loss = loss * float("nan")
        if self.calls == self.nan_gradient_at:  # sqrt at 0: the value is 0, its slope is not a number
            loss = loss + (self.net[0].weight * 0).sum().sqrt()
        return {"loss": loss}

    def __deepcopy__(self, memo):
        other = Toy()
        other.load_state_dict(self.state_dict())
        return other


def toy_data(rows=ROWS):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=g)
    return {"x": x, "y": torch.stack((x.sum(1), x[:, 0] * x[:, 1]), 1), "row": torch.arange(rows)}


def run(method, folder, config=CONFIG, data=None, identity=None):
    return train(method, data or toy_data(), config, folder, title="toy", identity=identity or {"data": 1})


def same_bits(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


# ---- killed and resumed ----


def plan_mask():
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[0, :3] = True
    return mask


def make_teacher(network):
    config = TeacherConfig(network=network, width=16, blocks=1, unet_width=8, unet_multipliers=(1, 2), n_steps=4)
    return DiffusionPlanner(config, plan_mask(), 2, 3)


def make_student(**settings):
    return KoopmanStudent(KoopmanConfig(latent_dim=8, hidden=16, gain_hidden=8, **settings), plan_mask(), 2, 3)


METHODS = {
    "toy": Toy,
    "mlp teacher": lambda: make_teacher("mlp"),
    "unet teacher": lambda: make_teacher("unet"),
    "dnk": make_student,
    "kdm": lambda: make_student(operator="kdm", latent_noise=0.4, shared_encoder=False),
    "kdm-f": lambda: make_student(operator="kdm-f"),
    "mlp": lambda: make_student(operator="mlp"),
    "iql": lambda: IQL(IQLConfig(hidden=8, polyak=0.1), 3, 2),
    "returns": lambda: ReturnModel(ReturnConfig(width=16, blocks=1, n_steps=4), plan_mask(), 2),
}


def method_data(name):
    if name == "toy":
        return toy_data()
    g = torch.Generator().manual_seed(0)
    if name == "iql":
        data = {
            k: torch.randn(ROWS, d, generator=g)
            for k, d in (("observation", 3), ("next_observation", 3), ("action", 2))
        }
        return data | {"reward": torch.randn(ROWS, generator=g), "terminated": (torch.arange(ROWS) % 9 == 0).float()}
    data = {"context": torch.randn(ROWS, 2, generator=g)}
    if name == "returns":
        return data | {"plans": torch.randn(ROWS, 4, 5, generator=g), "value": torch.randn(ROWS, generator=g)}
    for column in ("plans",) if "teacher" in name else ("prior", "target"):
        data[column] = torch.randn(ROWS, 4, 5, generator=g)
    if "teacher" not in name:
        data["weight"] = 1 + torch.rand(ROWS, generator=g)
    return data


@pytest.mark.parametrize(
    ("name", "dies_at", "optimizer"),
    [
        *((name, 115, "adamw") for name in METHODS),
        *(("toy", dies_at, "adamw") for dies_at in (51, 60, 119)),
        *((name, 115, "muon") for name in ("toy", "dnk", "kdm-f", "iql")),  # with and without what is no matrix
    ],
)
def test_killed_and_resumed_ends_with_the_same_bits(name, dies_at, optimizer, tmp_path, monkeypatch):
    data, config = method_data(name), replace(CONFIG, optimizer=optimizer)
    torch.manual_seed(0)
    start = METHODS[name]()
    whole = copy.deepcopy(start)
    whole_ema, whole_report = run(whole, tmp_path / "whole", config, data=data)

    killed, step = copy.deepcopy(start), type(start).training_step
    calls = 0

    def dies(self, batch, generator):
        nonlocal calls
        if calls == dies_at:
            raise KeyboardInterrupt
        calls += 1
        return step(self, batch, generator)

    with monkeypatch.context() as patched:
        patched.setattr(type(start), "training_step", dies)
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
    assert [step for step, _ in whole_report["history"]] == [50, 100, 120]


@pytest.mark.parametrize("asked_at", [0, 49, 50, 77, 118, 119])
def test_ctrl_c_waits_for_the_step_and_keeps_it(asked_at, tmp_path, monkeypatch):
    """Up to half a minute was lost, and all of a stage that took no longer."""
    config = replace(CONFIG, checkpoint_every=1e6)
    whole = Toy()
    whole_ema, whole_report = run(whole, tmp_path / "whole", config)
    stopped, step = Toy(), Toy.training_step

    def asks(self, batch, generator):
        if self.calls == asked_at:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, generator)

    with monkeypatch.context() as patched:
        patched.setattr(Toy, "training_step", asks)
        with pytest.raises(KeyboardInterrupt):
            run(stopped, tmp_path / "stopped", config)
    assert stopped.calls == asked_at + 1
    assert load_tensors(tmp_path / "stopped" / STATE)[1]["step"] == str(asked_at + 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = Toy(seed=3)
    ema, report = run(resumed, tmp_path / "stopped", config)
    assert resumed.calls == 120 - asked_at - 1
    same_bits(resumed, whole)
    same_bits(ema, whole_ema)
    assert [at for at, _ in report["history"]] == [50, 100, 120]
    for (_, mine), (_, wanted) in zip(report["history"], whole_report["history"], strict=True):
        assert mine == pytest.approx(wanted, rel=1e-6)


def test_a_second_ctrl_c_does_not_wait():
    with Asked() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.to_stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


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
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import test_training as t
class Slow(t.Toy):
    def training_step(self, batch, generator):
        time.sleep(0.002)
        return super().training_step(batch, generator)
t.run(Slow(), Path({folder!r}), t.replace(t.CONFIG, steps=1000))
"""


@pytest.mark.slow
def test_killed_without_warning_and_resumed_in_another_process(tmp_path):
    config = replace(CONFIG, steps=1000)
    whole = Toy()
    whole_ema, _ = run(whole, tmp_path / "whole", config)
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder))
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
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(CheckpointError, match="other settings or other data"):
        run(method, interrupted, replace(CONFIG, **change))
    assert method.calls == 0
    assert (interrupted / STATE).read_bytes() == before


def test_a_state_of_other_data_or_another_network_is_refused(interrupted):
    with pytest.raises(CheckpointError, match="other settings or other data"):
        run(Toy(), interrupted, identity={"data": 2})


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


# ---- a loss that is no number ----


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
    assert report["history"][-1][1] < 0.5 * report["history"][0][1]


def test_what_was_trained_before_there_was_a_choice_stays_itself():
    known = asdict(TrainConfig())
    del known["optimizer"]
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
    assert report["history"] == [
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
    assert report["history"][-1][1] < 0.5 * report["history"][0][1]
    assert report["steps"] == 300
    assert report["precision"] == "32-true"
    assert report["device"] == "cpu"
    assert report["seconds"] > 0
    json.dumps(report)  # it goes into the checkpoint's config


def test_the_time_of_the_first_attempt_counts(interrupted):
    spent = float(load_tensors(interrupted / STATE)[1]["seconds"])
    assert spent > 0
    assert run(Toy(), interrupted)[1]["seconds"] > spent


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
