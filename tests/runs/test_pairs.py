"""Pairs: the same however they were made, unusable once altered, and worth learning from (finding 6)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import nn

from onestride.files import CheckpointError
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.networks.normalizer import Normalizer
from onestride.plans.given import mask_of
from onestride.policy.policy import Policy
from onestride.runs.pairs import (
    BLOCK,
    COLUMNS,
    MANIFEST,
    PairsConfig,
    load_pairs,
    make_pairs,
    open_shard,
    sample_weights,
)
from onestride.seals import seal, sealed

COUNT = 4 * BLOCK + 300  # five blocks, the last one not full
IDENTITY = {"teacher": "abc", "data": {"seed": 0, "episodes": 3}}
MEAN, VARIANCE = 0.3, 0.5


class Exact(nn.Module):
    """E[x_0 | x_k] of plans whose entries are independent N(MEAN, VARIANCE)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, k, context):
        a, s = self.schedule.alpha[k], self.schedule.sigma[k]
        return MEAN + a * VARIANCE * (x - a * MEAN) / (a**2 * VARIANCE + s**2)


@pytest.fixture
def normalizer():
    return Normalizer(
        torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([2.0, 0.5, 3.0, 1.0]), torch.ones(2), torch.full((2,), 4.0)
    )


@pytest.fixture
def teacher(point, normalizer):
    """The small task's teacher, with the exact denoiser of a Gaussian for a network."""
    planner = DiffusionPlanner(TeacherConfig(width=8, blocks=1, n_steps=20), point.plans)
    planner.network = Exact(planner.schedule)
    return Policy(point, planner, normalizer)


@pytest.fixture
def observations():
    return torch.randn(50, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(teacher, observations):
    def made(folder, *, identity=IDENTITY, **settings):
        make_pairs(teacher, observations, PairsConfig(**{"count": COUNT, "shards": 3} | settings), folder, identity)
        return folder

    return made


def columns(folder):
    parts = [open_shard(p) for p in sorted(folder.glob("*.safetensors"))]
    return {key: torch.cat([part[key] for part in parts]) for key in COLUMNS}


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def dies_after(calls, monkeypatch):
    """The teacher stops the program when it is asked once more than ``calls`` times."""
    sample, count = DiffusionPlanner.sample, 0

    def dies(self, *args, **kwargs):
        nonlocal count
        if count == calls:
            raise KeyboardInterrupt
        count += 1
        return sample(self, *args, **kwargs)

    monkeypatch.setattr(DiffusionPlanner, "sample", dies)


# ---- the same pairs, however they were made ----


def test_products_are_those_of_the_teachers_precision(point, normalizer, observations, tmp_path):
    def pairs(precision):
        torch.manual_seed(0)
        planner = DiffusionPlanner(TeacherConfig(width=32, blocks=1, n_steps=4), point.plans)
        for parameter in planner.parameters():
            nn.init.normal_(parameter, std=0.2)
        teacher, config = Policy(point, planner, normalizer, precision=precision), PairsConfig(count=200, shards=1)
        make_pairs(teacher, observations, config, tmp_path / precision, IDENTITY)
        return load_pairs(tmp_path / precision)

    exact, coarse = pairs("32-true"), pairs("bf16-mixed")
    assert torch.equal(exact["prior"], coarse["prior"])
    assert coarse["target"].dtype == torch.float32
    off = (exact["target"] - coarse["target"]).abs().max() / exact["target"].std()
    assert 1e-4 < off < 0.2


def test_shards_do_not_change_the_pairs(make, tmp_path):
    one = load_pairs(make(tmp_path / "1", shards=1))
    assert len(one["prior"]) == COUNT
    for shards in (2, 5, 99):  # no more than there are blocks
        folder = make(tmp_path / str(shards), shards=shards)
        assert len(list(folder.glob("*.safetensors"))) == min(shards, 5)
        other = load_pairs(folder)
        assert other.keys() == one.keys()
        assert all(torch.equal(other[k], one[k]) for k in one)


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4])  # shards of 1, 2 and 2 blocks: between them and inside them
def test_killed_and_resumed_gives_the_same_bytes(make, tmp_path, monkeypatch, calls, solver):
    make(tmp_path / "whole", solver=solver)
    with monkeypatch.context() as patched:
        dies_after(calls, patched)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed", solver=solver)
    left = list((tmp_path / "killed").glob("*.safetensors"))
    assert len(left) == {0: 0, 1: 1, 2: 1, 3: 2, 4: 2}[calls]
    with pytest.raises(CheckpointError, match="onestride pairs"):
        load_pairs(tmp_path / "killed")
    before = {p: p.stat().st_mtime_ns for p in left}
    make(tmp_path / "killed", solver=solver)
    assert {p: p.stat().st_mtime_ns for p in left} == before  # what was finished is not made again
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_killed_between_a_shard_and_its_line_in_the_manifest(make, tmp_path, monkeypatch):
    from onestride.runs import pairs as module

    make(tmp_path / "whole")
    write, count = module.seal, 0

    def dies(path, value):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(module, "seal", dies)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed")
    assert len(list((tmp_path / "killed").glob("*.safetensors"))) == 2
    make(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_finished_pairs_are_left_alone(make, tmp_path, monkeypatch):
    make(tmp_path)
    before = contents(tmp_path)
    dies_after(0, monkeypatch)
    make(tmp_path)
    assert contents(tmp_path) == before


def test_more_pairs_begin_with_the_fewer(make, tmp_path):
    """A row is a function of the seed and of its number alone."""
    few, many = columns(make(tmp_path / "few", count=1500)), columns(make(tmp_path / "many"))
    for key in COLUMNS:
        assert len(few[key]) == 1500
        assert torch.equal(few[key], many[key][:1500])


def test_no_noise_is_used_twice(make, tmp_path, point):
    noise = columns(make(tmp_path))["prior"][:, ~mask_of(point.plans)]
    assert len(noise.unique(dim=0)) == COUNT


def test_the_seed_decides(make, tmp_path):
    a, b = columns(make(tmp_path / "a", count=100)), columns(make(tmp_path / "b", count=100, seed=1))
    assert not torch.equal(a["prior"], b["prior"])
    assert not torch.equal(a["target"], b["target"])


# ---- folders that cannot be used ----


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"count": COUNT + 1}, {"solver": "ddpm"}, {"temperatures": (0.3, 0.5, 0.8)},
               {"probabilities": (0.5, 0.25, 0.25)}, {"identity": {"teacher": "xyz"}}, {"shards": 2}]
)  # fmt: skip
def test_a_folder_of_other_settings_is_refused(make, tmp_path, change):
    make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="delete the folder"):
        make(tmp_path, **change)
    assert contents(tmp_path) == before


def test_no_pairs_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no pairs .*onestride pairs"):
        load_pairs(tmp_path)


def test_unfinished_pairs_are_refused(make, tmp_path, monkeypatch):
    dies_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    with pytest.raises(CheckpointError, match="has 2 of 3 shards; run `onestride pairs` again"):
        load_pairs(tmp_path)


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


DAMAGE = {
    "a bit flipped in the numbers": lambda p: flip(p, -100),
    "a bit flipped in the header": lambda p: flip(p, 20),
    "cut short": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "cut to half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "emptied": lambda p: p.write_bytes(b""),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
    "another shard": lambda p: shutil.copy(p.with_name("pairs-00002-of-00003.safetensors"), p),
    "deleted": lambda p: p.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_refused_by_name_and_can_be_made_anew(make, tmp_path, damage):
    make(tmp_path)
    before, pairs = contents(tmp_path), load_pairs(tmp_path)
    name = "pairs-00001-of-00003.safetensors"
    DAMAGE[damage](tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}.*onestride pairs"):
        load_pairs(tmp_path)
    make(tmp_path)
    assert contents(tmp_path) == before
    again = load_pairs(tmp_path)
    assert all(torch.equal(again[k], pairs[k]) for k in pairs)


def test_rows_do_not_depend_on_the_order_in_which_shards_were_made(make, tmp_path):
    """The order of rows decides a student's batches, not the order in which they were finished."""
    make(tmp_path)
    before = load_pairs(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest["shards"]["pairs-00000-of-00003.safetensors"]
    seal(tmp_path / MANIFEST, manifest)
    make(tmp_path)
    after = load_pairs(tmp_path)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_a_manifest_cut_short_is_refused(make, tmp_path):
    make(tmp_path)
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text[: len(text) // 2])
    for use in (load_pairs, make):
        with pytest.raises(CheckpointError, match="cut short"):
            use(tmp_path)


def test_a_manifest_that_was_altered_or_is_of_an_earlier_version_is_refused(make, tmp_path):
    make(tmp_path)
    path, text = tmp_path / MANIFEST, (tmp_path / MANIFEST).read_text()
    manifest = json.loads(text)
    for altered, message in (
        (text.replace('"rows": 1024', '"rows": 1025'), "altered: it is not what its digest says"),
        (json.dumps(manifest | {"schema": 1}), "has schema 1, this version reads 2: delete the folder and run"),
        (sealed(manifest | {"count": [3]}), r"Expected `int`, got `.*` - at `\$\.count`"),
    ):
        assert altered != text
        path.write_text(altered)
        for use in (load_pairs, make):
            with pytest.raises(CheckpointError, match=message) as caught:
                use(tmp_path)
            assert str(path) in str(caught.value)


def test_a_teacher_that_makes_no_numbers_is_refused(make, teacher, tmp_path):
    teacher.generator.network.forward = lambda x, k, context: x * float("nan")
    with pytest.raises(ArithmeticError, match="non-finite target in block 0"):
        make(tmp_path)
    assert list(tmp_path.glob("*.safetensors")) == []


# ---- what is in them ----


def test_fixed_entries_of_prior_and_target_are_the_start(make, tmp_path, point, normalizer, observations):
    found = columns(make(tmp_path))
    starts = normalizer.start(observations[:, :2])
    for name in ("prior", "target"):
        here = found[name][:, 0, :2]
        assert torch.equal(found[name][:, mask_of(point.plans)], here)
        match = (here[:, None] == starts).all(-1)  # (M, 50): bit for bit one of the starts
        assert (match.sum(1) == 1).all()
    assert torch.equal(found["prior"][:, 0, :2], found["target"][:, 0, :2])
    # and the context is that of the same observation
    row = match.float().argmax(1)
    torch.testing.assert_close(found["context"], (observations[row, 2:] - 1) / 4)


def test_starts_are_drawn_evenly(make, tmp_path, normalizer, observations):
    here = columns(make(tmp_path))["prior"][:, 0, :2]
    count = (here[:, None] == normalizer.start(observations[:, :2])).all(-1).sum(0).double()
    expected = COUNT / len(observations)
    chi2 = ((count - expected) ** 2 / expected).sum().item()
    assert chi2 < 49 + 5 * (2 * 49) ** 0.5


def test_quality_is_the_selectors_score_of_the_plan_in_task_units(make, tmp_path, normalizer):
    found = columns(make(tmp_path))
    end = found["target"][:, -1, :2] * normalizer.std[:2] + normalizer.mean[:2]
    goal = found["context"] * 4 + 1
    torch.testing.assert_close(found["quality"], -(end - goal).square().sum(-1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(load_pairs(tmp_path)["weight"], sample_weights(found["quality"]))


def test_temperatures_come_in_the_papers_proportions_and_scale_the_noise(make, tmp_path, point):
    found = columns(make(tmp_path))
    temperature = found["temperature"]
    for value, share in ((0.3, 0.25), (0.5, 0.5), (0.7, 0.25)):
        rows = temperature == torch.tensor(value)
        assert abs(rows.float().mean().item() - share) < 5 * (share * (1 - share) / COUNT) ** 0.5
        noise = found["prior"][rows][:, ~mask_of(point.plans)].flatten()
        assert abs(noise.mean().item()) < 5 * value / len(noise) ** 0.5
        assert noise.std().item() == pytest.approx(value, rel=5 / (2 * len(noise)) ** 0.5)
    assert set(temperature.tolist()) == set(torch.tensor([0.3, 0.5, 0.7]).tolist())


def r_squared(x, y):
    """Of the linear regression of all columns of y on all columns of x."""
    x = np.column_stack((x, np.ones(len(x))))
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - residual.var(0) / y.var(0)


def test_the_target_is_a_function_of_the_stored_noise_with_ddim_and_not_with_ddpm(make, tmp_path, point):
    """Finding 6 and T-DNK-2: of what "ddpm" makes, a student can learn the mean alone."""
    r2, spread = {}, {}
    for solver in ("ddim", "ddpm"):
        found = columns(make(tmp_path / solver, solver=solver))
        prior, target = (found[name][:, ~mask_of(point.plans)].double().numpy() for name in ("prior", "target"))
        r2[solver] = r_squared(prior, target)
        spread[solver] = [target[found["temperature"].numpy() == np.float32(t)].std() for t in (0.3, 0.5, 0.7)]
    assert r2["ddim"].min() > 0.99
    assert r2["ddpm"].max() < 0.05
    np.testing.assert_allclose(np.array(spread["ddim"]) / spread["ddim"][1], (0.6, 1.0, 1.4), rtol=0.03)
    np.testing.assert_allclose(np.array(spread["ddpm"]) / spread["ddpm"][1], 1.0, rtol=0.03)


def test_the_noise_of_ddpm_is_stored_nowhere_and_yet_the_same_again(make, tmp_path):
    a, b = columns(make(tmp_path / "a", solver="ddpm")), columns(make(tmp_path / "b", solver="ddpm", shards=1))
    assert torch.equal(a["target"], b["target"])
    ddim = columns(make(tmp_path / "c"))
    assert torch.equal(a["prior"], ddim["prior"])
    assert not torch.equal(a["target"], ddim["target"])


def test_an_arm_teacher_makes_pairs(policy, observation, tmp_path):
    observations = torch.from_numpy(observation).float()[None].repeat(3, 1)
    make_pairs(policy, observations, PairsConfig(count=70, shards=2), tmp_path, IDENTITY)
    pairs = load_pairs(tmp_path)
    assert pairs["prior"].shape == pairs["target"].shape == (70, 32, 9)
    assert pairs["context"].shape == (70, policy.task.context_dim)
    assert pairs["weight"].shape == (70,)


# ---- starts beyond the data ----


def test_without_jitter_every_start_is_one_of_the_data_and_the_pairs_are_as_ever(make, tmp_path):
    a, b = columns(make(tmp_path / "a", count=1500)), columns(make(tmp_path / "b", count=1500, jitter=0.0))
    assert all(torch.equal(a[key], b[key]) for key in COLUMNS)


def test_jitter_moves_the_starts_by_so_many_deviations_and_nothing_else(make, tmp_path, point, teacher):
    """Every row by its own share of it, 0 to all, so that most stay near."""
    plain, moved = columns(make(tmp_path / "a")), columns(make(tmp_path / "b", jitter=0.5))
    temperature = plain["temperature"]
    assert torch.equal(moved["temperature"], temperature)
    assert torch.equal(moved["context"], plain["context"])
    shift = (moved["prior"] - plain["prior"])[:, mask_of(point.plans)]  # (M, 2), normalised
    assert (shift != 0).all()
    assert shift.mean().abs() < 5 * 0.5 / COUNT**0.5
    assert shift.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.05)  # E[u^2] = 1/3 of a uniform share
    assert torch.equal(moved["target"][:, mask_of(point.plans)], moved["prior"][:, mask_of(point.plans)])


def test_jittered_pairs_are_the_same_however_they_are_made(make, tmp_path, monkeypatch):
    whole = columns(make(tmp_path / "whole", jitter=0.3))
    dies_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed", jitter=0.3)
    monkeypatch.undo()
    killed = columns(make(tmp_path / "killed", jitter=0.3))
    one = columns(make(tmp_path / "one", jitter=0.3, shards=1))
    few = columns(make(tmp_path / "few", jitter=0.3, count=1500))
    for key in COLUMNS:
        assert torch.equal(killed[key], whole[key])
        assert torch.equal(one[key], whole[key])
        assert torch.equal(few[key], whole[key][:1500])
    with pytest.raises(CheckpointError, match="delete the folder"):
        make(tmp_path / "one", shards=1)


# ---- weights ----


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_weights_are_ranks(count, ties):
    quality = torch.randn(count, generator=torch.Generator().manual_seed(count))
    if ties:
        quality = (2 * quality).round()
    expected = 1 + (rankdata(quality.numpy(), method="average") - 1) / max(count - 1, 1)
    np.testing.assert_allclose(sample_weights(quality).numpy(), expected, rtol=1e-6)


def test_weights_lie_between_1_and_2_and_grow_with_quality():
    quality = torch.randn(999, generator=torch.Generator().manual_seed(0)) * 1e6
    weight = sample_weights(quality)
    assert weight.min() == 1.0
    assert weight.max() == 2.0
    assert weight.mean().item() == pytest.approx(1.5)
    assert (weight[quality.argsort()].diff() > 0).all()
    torch.testing.assert_close(sample_weights(quality, beta=3.0), 1 + 3 * (weight - 1))


def test_equal_quality_weighs_equally():
    assert torch.equal(sample_weights(torch.full((7,), -2.0)), torch.full((7,), 1.5))


# ---- configs ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"shards": 0}, "at least 1"),
        ({"probabilities": (0.5, 0.5)}, "as many probabilities"),
        ({"probabilities": (0.5, 0.5, 0.5)}, "adding up to 1"),
        ({"solver": "euler"}, "euler"),
        ({"probabilities": (1.5, -0.75, 0.25)}, "probabilities"),
    ],
)
def test_configs_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PairsConfig(**settings)
