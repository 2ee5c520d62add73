"""Checkpoints that load to the bit or say why they do not."""

from __future__ import annotations

import json
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import onestride
from onestride.card import CARD
from onestride.checkpoint import CONFIG, MODEL, load_config, load_model
from onestride.files import CheckpointError
from onestride.policy.policy import Policy
from onestride.seals import seal
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.tensors import load_unsealed, save_unsealed


@pytest.fixture
def saved(policy, tmp_path) -> Path:
    policy.save(tmp_path / "teacher", {"id": "abc", "seconds": 1.0})
    return tmp_path / "teacher"


def change_config(folder, **values):
    """Sealed again: what is wrong is not that it was altered."""
    seal(folder / CONFIG, json.loads((folder / CONFIG).read_text()) | values)


def change_tensors(folder, change):
    tensors, _ = load_unsealed(folder / MODEL)
    change(tensors)
    save_unsealed(folder / MODEL, tensors)
    seal(folder / CONFIG, json.loads((folder / CONFIG).read_text()), [MODEL])


def refused(folder, message, **options):
    with pytest.raises(CheckpointError, match=message) as caught:
        Policy.from_pretrained(folder, **options)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("teacher", {}),
        ("teacher", {"prediction": "eps", "solver": "ddpm"}),
        ("teacher", {"network": "unet", "unet_width": 8, "unet_multipliers": (1, 2)}),
        ("student", {}),
        ("student", {"operator": "kdm"}),
        ("student", {"operator": "kdm-f", "shared_encoder": False}),
    ],
)
def test_a_policy_comes_back_to_the_bit(make_arm_policy, observation, tmp_path, kind, settings):
    before = make_arm_policy(kind, candidates=6, **settings)
    before.save(tmp_path / "it", {"id": "abc"})
    after = Policy.from_pretrained(tmp_path / "it", task="kinova", seed=5)
    assert after.generator.config == before.generator.config
    before.reset(5)
    for _ in range(3):  # the stream of noise, not its first draw alone
        was, now = before.decide(observation), after.decide(observation)
        assert now.plans.shape == (6, 32, 9)
        assert np.array_equal(was.plans, now.plans)
        np.testing.assert_array_equal(was.scores, now.scores)
        np.testing.assert_array_equal(was.action, now.action)
    after.reset(6)
    assert not np.array_equal(after.decide(observation).plans, was.plans)


def test_the_temperatures_of_its_noise_come_back_too(make_arm_policy, observation, tmp_path):
    student = make_arm_policy("student")
    before = Policy(
        student.task,
        student.generator,
        student.normalizer,
        candidates=4,
        sampling=CandidateSampling((0.1, 1.0), (0.5, 0.5)),
    )
    before.save(tmp_path / "it", {"id": "abc"})
    after = Policy.from_pretrained(tmp_path / "it")
    before.reset(0)
    assert np.array_equal(after.decide(observation).plans, before.decide(observation).plans)


def test_a_checkpoint_is_two_files_and_a_card_and_nothing_is_pickled(saved):
    assert sorted(path.name for path in saved.iterdir()) == [CARD, CONFIG, MODEL]
    config = json.loads((saved / CONFIG).read_text())
    assert config["kind"] == "diffuser"
    assert config["versions"]["torch"] == torch.__version__
    raw = (saved / MODEL).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])  # a table of names, types and places, then numbers alone
    ends = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert 8 + size + ends == len(raw)
    assert any(name.startswith("normalizer.") for name in header)


def test_no_source_file_pickles():
    """What others pickled is read by a machine without calls (tests/data/test_vecnormalize.py), never by pickle."""
    source = Path(onestride.__file__).parent
    harmless = re.compile(r"Nothing is pickled|allow_pickle=False")
    pattern = re.compile(r"\b(pickle|cloudpickle|joblib|torch\.save|torch\.load|allow_pickle)\b")
    files = list(source.rglob("*.py"))
    assert len(files) > 20
    used = re.compile(r"\bimport (cloudpickle|joblib|pickle)\b|\bpickle\.(loads?|dumps?|Unpickler|Pickler)\b")
    for path in files:
        assert not used.search(path.read_text()), path
    named = {p.name for p in files if pattern.search(harmless.sub("", p.read_text()))}
    assert named <= {
        "actors.py",
        "vecnormalize.py",
        "pickled.py",
        "torch_weights.py",
        "diffusion_policy.py",
    }  # in words


def test_without_its_normaliser(saved):
    def drop(tensors):
        for name in [n for n in tensors if n.startswith("normalizer.")]:
            del tensors[name]

    change_tensors(saved, drop)
    assert "again" in refused(saved, "no normaliser")


def test_with_half_its_normaliser(saved):
    change_tensors(saved, lambda t: t.pop("normalizer.std"))
    refused(saved, r"missing \['normalizer.std'\]")


def test_with_a_tensor_missing_or_too_many(saved):
    change_tensors(saved, lambda t: t.pop("generator.network.output.bias"))
    refused(saved, r"missing \['generator.network.output.bias'\]")
    change_tensors(
        saved, lambda t: t.update({"generator.network.output.bias": torch.zeros(288), "extra": torch.ones(1)})
    )
    refused(saved, r"unexpected \['extra'\]")


@pytest.mark.parametrize("name", ["normalizer.mean", "generator.network.output.weight"])
def test_with_a_wrong_shape(saved, name):
    change_tensors(saved, lambda t: t.update({name: t[name][:-1]}))
    refused(saved, rf"'{name}' has shape .* implies")


def test_with_another_width_in_its_config(saved):
    config = json.loads((saved / CONFIG).read_text())
    change_config(saved, generator=config["generator"] | {"width": 16})
    refused(saved, "has shape .* implies")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 1_000_000_000}, "has shape .* implies"),
        ({"blocks": 1_000_000_000}, "has fewer tensors than config.json implies"),
        ({"n_steps": 1_000_000_000}, "n_steps is 1000000000, expected at most"),
        ({"width": 10**18}, "no network is of such settings"),
        ({"width": -8}, "no network is of such settings"),
        ({"width": [8]}, r"Expected `int`, got `(array|list)` - at `\$\.width`"),
        ({"network": "unet", "unet_multipliers": [1] * 100_000}, "has fewer tensors|no network is of such settings"),
    ],
)
def test_sizes_that_the_weights_do_not_have_take_no_memory(saved, settings, message):
    config = json.loads((saved / CONFIG).read_text())
    change_config(saved, generator=config["generator"] | settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(saved, message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # [kB]


@pytest.mark.parametrize(("entry", "value"), [("horizon", 10**9), ("candidates", 10**9), ("horizon", 30_000)])
def test_a_horizon_or_candidates_beyond_all_measure(saved, entry, value):
    plan = json.loads((saved / CONFIG).read_text())["plan"]
    change_config(saved, **({"plan": plan | {"horizon": value}} if entry == "horizon" else {entry: value}))
    refused(saved, rf"{entry}|has shape .* implies")


@pytest.mark.slow
def test_every_flipped_bit_is_refused_by_name(saved):
    """In the config every byte, in the weights a sample: header, first and last numbers, and some between."""
    rng = np.random.default_rng(0)
    for name in (CONFIG, MODEL):
        path, whole = saved / name, (saved / name).read_bytes()
        drawn = rng.integers(len(whole), size=40)
        places = range(len(whole)) if name == CONFIG else [*range(12), *drawn.tolist(), len(whole) - 1]
        for at in places:
            bit = 1 << int(rng.integers(8))
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            with pytest.raises(CheckpointError, match=re.escape(str(saved))):
                load_model(saved, load_config(saved), lambda: pytest.fail("it got as far as the network"))
        path.write_bytes(whole)
    assert Policy.from_pretrained(saved).candidates


def test_weights_of_another_checkpoint_are_refused(saved, make_arm_policy, tmp_path):
    """Of the same shapes: only the digest tells."""
    make_arm_policy("teacher", prediction="eps").save(tmp_path / "other", {"id": "other"})
    other = tmp_path / "other" / MODEL
    tensors, _ = load_unsealed(other)
    save_unsealed(other, {k: v + 0.5 for k, v in tensors.items()})
    shutil.copy(other, saved / MODEL)
    refused(saved, "model.safetensors was altered or cut short: its SHA-256 is .* config.json says")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["normalizer.context_std", "generator.network.input.weight"])
def test_with_a_number_that_is_not_finite(saved, name, value):
    def spoil(tensors):
        tensors[name].view(-1)[3] = value

    change_tensors(saved, spoil)
    refused(saved, rf"'{name}' holds a non-finite number")


@pytest.mark.parametrize("left", [0, 5, 100, 0.5, -1])
def test_cut_short(saved, left):
    raw = (saved / MODEL).read_bytes()
    (saved / MODEL).write_bytes(raw[: int(left * len(raw)) if isinstance(left, float) else left])
    refused(saved, "altered or cut short")


def test_without_its_weights(saved):
    (saved / MODEL).unlink()
    refused(saved, "cannot be read")


def test_of_another_task(saved):
    refused(saved, "trained for task 'kinova', not for 'point'", task="point")
    change_config(saved, task="pusher")
    refused(saved, "is of a task that is not known here: there is no task 'pusher'")


def test_of_another_schema(saved):
    for schema in (1, 2, None, "3"):
        change_config(saved, schema=schema)
        assert "train it again" in refused(saved, f"has schema {schema!r}, this version reads 3")


def test_of_another_kind(saved):
    change_config(saved, kind="prophet")
    refused(saved, "of another method: there is no method 'prophet'. There are: diffuser, dp, dnk")


def test_unfinished(saved):
    (saved / CONFIG).unlink()
    refused(saved, "no finished checkpoint")


def test_nothing_there_names_what_is_beside_it(saved):
    assert "did you mean teacher? Checkpoints beside it: teacher" in refused(
        saved.parent / "taecher", "no finished checkpoint"
    )
    refused(saved / "no" / "such" / "folder", "no finished checkpoint")


def test_config_cut_short(saved):
    text = (saved / CONFIG).read_text()
    (saved / CONFIG).write_text(text[: len(text) // 2])
    refused(saved, "JSON .*cut short")


def test_config_of_bytes_that_are_no_text(saved):
    (saved / CONFIG).write_bytes(b"\xff\xfe\x00" * 40)
    refused(saved, "altered or cut short")


def test_config_that_is_json_but_no_config(saved):
    (saved / CONFIG).write_text("[1, 2]")
    with pytest.raises(CheckpointError):
        load_config(saved)


@pytest.mark.parametrize("key", ["task", "kind", "generator", "candidates"])
def test_config_with_an_entry_missing(saved, key):
    config = json.loads((saved / CONFIG).read_text())
    del config[key]
    seal(saved / CONFIG, config)
    refused(saved, f"missing required field `{key}`")


def test_config_of_a_generator_with_a_setting_nobody_knows(saved):
    config = json.loads((saved / CONFIG).read_text())
    change_config(saved, generator=config["generator"] | {"attention_heads": 8})
    refused(saved, "attention_heads")


def test_no_candidates_is_refused(saved):
    with pytest.raises(ValueError, match="at least one candidate"):
        Policy.from_pretrained(saved, candidates=0)
    assert Policy.from_pretrained(saved, candidates=3).candidates == 3


def test_saving_over_a_checkpoint_leaves_the_old_one_until_the_new_one_is_whole(saved, make_arm_policy, monkeypatch):
    from onestride import checkpoint

    def dies(*_):
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(checkpoint, "seal", dies)
    other = make_arm_policy("teacher", prediction="eps")  # the same shapes, another meaning
    with pytest.raises(KeyboardInterrupt):
        other.save(saved, {"id": "other"})
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
