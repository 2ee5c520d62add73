"""Pairs: the same however they were made, unusable once altered, and worth learning from (finding 6)."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from onestride.files import CheckpointError
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.plans.given import mask_of
from onestride.policy.policy import Policy
from onestride.runs.pairs import (
    COLUMNS,
    MANIFEST,
    PairsConfig,
    load_pairs,
    make_pairs,
)
from onestride.seals import seal, sealed
from pairs_of_a_point import COUNT, IDENTITY, columns, contents, dies_after

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
