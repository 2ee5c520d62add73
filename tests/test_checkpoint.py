"""Checkpoints that load to the bit or say why they do not."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import onestride
from onestride.checkpoint import CONFIG, MODEL, load_config, load_tensors, save_tensors
from onestride.control.policy import Policy
from onestride.files import CheckpointError
from onestride.manifest import digest
from onestride.selectors.sampling import Sampling
from rewritten import rewrite


@pytest.fixture
def saved(policy, tmp_path) -> Path:
    policy.save(tmp_path / "teacher", {"id": "abc", "seconds": 1.0})
    return tmp_path / "teacher"


def change_config(folder, **values):
    rewrite(folder / CONFIG, **values)


def change_tensors(folder, change):
    tensors, _ = load_tensors(folder / MODEL)
    change(tensors)
    save_tensors(folder / MODEL, tensors)
    rewrite(folder / CONFIG)


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
        student.task, student.generator, student.normalizer, candidates=4, sampling=Sampling((0.1, 1.0), (0.5, 0.5))
    )
    before.save(tmp_path / "it", {"id": "abc"})
    after = Policy.from_pretrained(tmp_path / "it")
    before.reset(0)
    assert np.array_equal(after.decide(observation).plans, before.decide(observation).plans)


def test_a_checkpoint_is_two_files_and_nothing_is_pickled(saved):
    assert sorted(path.name for path in saved.iterdir()) == [CONFIG, MODEL]
    config = json.loads((saved / CONFIG).read_text())
    assert config["kind"] == "teacher"
    assert config["versions"]["torch"] == torch.__version__
    raw = (saved / MODEL).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])  # a table of names, types and places, then numbers alone
    ends = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert 8 + size + ends == len(raw)
    assert any(name.startswith("normalizer.") for name in header)


def test_no_source_file_pickles():
    """What others pickled is read in one place, which executes nothing of it (tests/data/test_behaviour.py)."""
    source = Path(onestride.__file__).parent
    harmless = re.compile(r"Nothing is pickled|allow_pickle=False")
    pattern = re.compile(r"\b(pickle|cloudpickle|joblib|torch\.save|torch\.load|allow_pickle)\b")
    files = list(source.rglob("*.py"))
    assert len(files) > 20
    assert [p.name for p in files if pattern.search(harmless.sub("", p.read_text()))] == ["behaviour.py"]
    foreign = (source / "data" / "behaviour.py").read_text()
    assert not re.search(r"pickle\.(loads?|dumps?)\b|torch\.save|allow_pickle=True", foreign)
    assert foreign.count("torch.load(") == foreign.count("weights_only=True") == 1


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
    refused(saved, f"{MODEL} cannot be read")


def test_of_another_task(saved):
    refused(saved, "trained for task 'kinova', not for 'point'", task="point")
    change_config(saved, task="pusher")
    refused(saved, "is of task 'pusher', this version has kinova")


def test_of_another_schema(saved):
    for schema in (1, None, "2"):
        change_config(saved, schema=schema)
        refused(saved, f"has schema {schema!r}, this version reads 2")


def test_of_another_kind(saved):
    change_config(saved, kind="prophet")
    refused(saved, "of kind 'prophet', this version has teacher, student")


def test_unfinished(saved):
    (saved / CONFIG).unlink()
    refused(saved, "no finished checkpoint")


def test_nothing_there_names_what_is_beside_it(saved):
    assert "checkpoints beside it: teacher" in refused(saved.parent / "taecher", "no finished checkpoint")
    refused(saved / "no" / "such" / "folder", "no finished checkpoint")


def test_config_cut_short(saved):
    text = (saved / CONFIG).read_text()
    (saved / CONFIG).write_text(text[: len(text) // 2])
    refused(saved, "is not JSON .*cut short")


def test_config_of_bytes_that_are_no_text(saved):
    (saved / CONFIG).write_bytes(b"\xff\xfe\x00" * 40)
    refused(saved, "altered or cut short")


def test_config_that_is_json_but_no_config(saved):
    (saved / CONFIG).write_text("[1, 2]")
    with pytest.raises(CheckpointError):
        load_config(saved)


@pytest.mark.parametrize("key", ["task", "kind", "generator", "candidates"])
def test_config_with_an_entry_missing(saved, key):
    rewrite(saved / CONFIG, _drop=[key])
    refused(saved, f"{CONFIG} .* missing required field `{key}`")


def test_config_of_a_generator_with_a_setting_nobody_knows(saved):
    config = json.loads((saved / CONFIG).read_text())
    change_config(saved, generator=config["generator"] | {"attention_heads": 8})
    refused(saved, "attention_heads")


def test_no_candidates_is_refused(saved):
    with pytest.raises(ValueError, match="at least one candidate"):
        Policy.from_pretrained(saved, candidates=0)
    assert Policy.from_pretrained(saved, candidates=3).candidates == 3


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        (("training", "id"), 7, r"Expected `str \| null`, got `int` - at `\$\.training\.id`"),
        (("candidates",), [4], r"Expected `int`, got `array` - at `\$\.candidates`"),
        (("candidates",), 1 << 40, r"Expected `int` <= .* at `\$\.candidates`"),
        (("temperatures",), [0.3, "0.5"], r"got `str` - at `\$\.temperatures\[1\]`"),
        (("generator", "width"), 8.5, r"\(generator\) .*Expected `int`, got `float` - at `\$\.width`"),
        (("generator", "width"), 10**9, r"\(generator\) .*Expected `int` <= .* at `\$\.width`"),
        (("generator", "blocks"), 10**9, r"\(generator\) .*Expected `int` <= .* at `\$\.blocks`"),
        (("generator", "n_steps"), 10**12, r"\(generator\) .*Expected `int` <= .* at `\$\.n_steps`"),
        (("generator", "network"), "rnn", r"\(generator\) .*Invalid enum value 'rnn' - at `\$\.network`"),
        (("shares",), [0.5], r"\(temperatures, shares\) .*adding up to 1"),
    ],
)
def test_a_config_of_other_types_is_refused_with_the_place(saved, path, wrong, message):
    config = json.loads((saved / CONFIG).read_text())
    outer = path[0]
    change_config(saved, **{outer: wrong if len(path) == 1 else config[outer] | {path[1]: wrong}})
    assert "\n" not in refused(saved, message)


def test_a_large_network_is_refused_before_it_takes_memory(saved):
    config = json.loads((saved / CONFIG).read_text())
    change_config(saved, generator=config["generator"] | {"width": 60_000, "blocks": 64})  # a terabyte
    refused(saved, "does not match|has shape .* implies")


def test_a_value_changed_by_hand_is_refused(saved):
    config = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps(config))  # spaces say nothing
    Policy.from_pretrained(saved)
    for other in (
        config | {"candidates": config["candidates"] + 1},
        config | {"files": {}},
        config | {"training": config["training"] | {"seconds": 2.0}},
        {k: v for k, v in config.items() if k != "guidance"} | {"guidance": 0.5},
    ):
        (saved / CONFIG).write_text(json.dumps(other))
        refused(saved, f"{CONFIG} is not what was written")
        with pytest.raises(CheckpointError, match="not what was written"):
            load_config(saved)


def test_a_byte_order_mark_is_no_fault(saved):
    (saved / CONFIG).write_bytes(codecs.BOM_UTF8 + (saved / CONFIG).read_bytes())
    assert load_config(saved)["kind"] == "teacher"


def test_a_flipped_bit_anywhere_in_the_weights_is_refused(saved):
    raw = (saved / MODEL).read_bytes()
    for at in range(0, len(raw), 997):
        (saved / MODEL).write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        refused(saved, f"{MODEL} is not what was written")


def test_a_file_out_of_the_folder_is_not_read(saved):
    (saved.parent / "other").write_text("secret")
    config = json.loads((saved / CONFIG).read_text())
    for name in ("../other", str(saved.parent / "other")):
        files = config["files"] | {name: {"bytes": 6, "sha256": "0"}}
        changed = {k: v for k, v in config.items() if k != "sha256"} | {"files": files}
        (saved / CONFIG).write_text(json.dumps(changed | {"sha256": digest(changed)}))
        refused(saved, "is not in its folder")


def test_saving_over_a_checkpoint_leaves_the_old_one_until_the_new_one_is_whole(saved, make_arm_policy, monkeypatch):
    from onestride import checkpoint

    def dies(*_):
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(checkpoint, "write_manifest", dies)
    other = make_arm_policy("teacher", prediction="eps")  # the same shapes, another meaning
    with pytest.raises(KeyboardInterrupt):
        other.save(saved, {"id": "other"})
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
