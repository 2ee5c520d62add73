"""Model cards: what they say stands in the config or the contract, and nobody's digest lists them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from onestride.card import CARD, NOT_EVALUATED, checkpoint_card, exported_card
from onestride.checkpoint import CONFIG, load_config
from onestride.cli import main
from onestride.engine.export import export
from onestride.engine.folder import CHECKSUMS
from onestride.policy.policy import Policy
from onestride.runs.finished import record
from onestride.seals import seal
from onestride.selectors import SELECTORS
from onestride.selectors.store import save_selector
from onestride.training.config import TrainConfig

DATA = {"seed": 3, "episodes": 64, "total_steps": 2119, "planner": {"speed": 0.4}}
OTHER = {"dataset": "hopper-medium", "content": "f00d", "behaviours": [{"name": "calm", "sha256": "ab"}]}


@pytest.fixture
def saved(make_arm_policy, tmp_path):
    training = record(TrainConfig(steps=30, seed=7), {"data": DATA}, {"precision": "32-true", "steps": 30})
    make_arm_policy("student").save(tmp_path / "dnk-7", training)
    return tmp_path / "dnk-7"


def head(text: str) -> dict:
    """The YAML that a hub reads."""
    empty, said, _ = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(said)


def rows(text: str) -> dict[str, str]:
    lines = [
        line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ") and "---" not in line
    ]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_a_checkpoints_card_says_what_it_is(saved):
    text = (saved / CARD).read_text()
    said = head(text)
    assert (said["library_name"], said["pipeline_tag"]) == ("onestride", "robotics")
    assert said["tags"] == ["robotics", "onestride", "dnk", "kinova"]
    assert "license" not in said
    table = rows(text)
    assert table["observation"].startswith("41 numbers: position 3 [m], velocity 3 [m/s]")
    assert table["action"] == "3 numbers in the robot's units, from [0.26, -0.34, 0.04] to [0.59, 0.34, 0.34]"
    assert (table["control period"], table["seed"], table["optimisation steps"]) == ("0.05 s", "7", "30")
    assert table["plan"].startswith("32 rows")
    assert table["data"] == "collected by the program, 64 episodes, 2,119 steps, seed 3"
    assert table["training"] == load_config(saved)["training"]["id"]
    assert "1 network call per decision" in text
    assert NOT_EVALUATED in text
    assert f"torch {load_config(saved)['versions']['torch']}" in text
    assert "speed" not in text


def test_what_the_card_loads_with_is_code_that_runs(saved, observation):
    block = (saved / CARD).read_text().split("```python\n")[1].split("```")[0]
    names = {"observation": observation}
    exec(block.replace("path/to/this/folder", str(saved)), names)
    assert np.array_equal(names["action"], Policy.from_pretrained(saved).decide(observation).action)


def test_a_card_that_was_edited_or_removed_harms_nothing(saved, observation):
    action = Policy.from_pretrained(saved).decide(observation).action
    (saved / CARD).write_text("mine")
    assert np.array_equal(Policy.from_pretrained(saved).decide(observation).action, action)
    (saved / CARD).unlink()
    assert np.array_equal(Policy.from_pretrained(saved).decide(observation).action, action)


def test_an_exported_folders_card(saved, tmp_path, observation):
    out = tmp_path / "exported"
    policy = Policy.from_pretrained(saved)
    export(policy, out, form="native", draws=2, seed=0, checkpoint=saved)
    text = (out / CARD).read_text()
    table = rows(text)
    assert head(text)["tags"] == ["robotics", "onestride", "dnk", "kinova", "native"]
    assert table["data"] == rows((saved / CARD).read_text())["data"]
    assert (table["seed"], table["control period"], table["plan"]) == ("7", "0.05 s", "32 x 9 (rows, columns)")
    assert CARD not in (out / CHECKSUMS).read_text()
    (out / CARD).write_text("mine")
    names = {"observation": observation}
    exec(text.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(out)), names)
    assert names["action"].shape == (3,)


@pytest.mark.slow
def test_an_exported_folders_card_has_what_the_run_measured(saved, tmp_path):
    success = {"mean": 0.875, "std": 0.1, "n": 40, "per_seed": [0.9, 0.85]}
    report = {
        "rows": {"dnk": {"variant": {"method": "dnk"}, "success": success}},
        "config": {"dnk-7": load_config(saved)},
    }
    report |= {"command": "onestride evaluate", "seeds": {"training": [7]}, "machine": {"cpu": "a CPU"}}
    (tmp_path / "evaluation").mkdir()
    seal(tmp_path / "evaluation/comparison.json", report)
    main(["export", str(saved), "--out", str(tmp_path / "out"), "--format", "native", "--draws", "2"])
    text = (tmp_path / "out" / CARD).read_text()
    assert "| dnk | success | 0.875 | 0.1 | 40 |" in text
    assert NOT_EVALUATED not in text


def test_a_selectors_card_says_that_it_makes_no_plans(policy, tmp_path):
    kind = SELECTORS["medoid"]()
    save_selector(tmp_path / "s", kind.make(None, policy.normalizer, policy.task, kind.options), "kinova", {"id": "m"})
    text = (tmp_path / "s" / CARD).read_text()
    assert "ranks candidate plans of the task `kinova`" in text
    assert "selector=" in text


def test_whose_data_it_was_is_said_of_pairs_and_of_two_bodies():
    config = TrainConfig(steps=1)
    identity = {"pairs": [{"count": 3}, {"data": DATA, "source": OTHER, "teacher": "abc"}]}
    made = record(config, identity, {"precision": "32-true"})
    assert made["id"] == record(config, dict(identity), {"precision": "32-true"})["id"]
    card = checkpoint_card({"kind": "mine", "task": "hopper-v5", "training": made})
    assert rows(card)["data of another body"] == "`hopper-medium`, by calm, content f00d"
    assert "sha256" not in json.dumps(made["data"])


@pytest.mark.parametrize("name", ["gym:Reacher-v5", "a: [b", 'it\'s "#1"', "x\ny"])
def test_a_tasks_name_cannot_break_the_head(name):
    assert name in head(checkpoint_card({"kind": "k", "task": name, "training": None}))["tags"]


def test_early_folders_that_say_less_have_a_card_too(saved):
    config = json.loads((saved / CONFIG).read_text())
    for late in ("control", "nfe", "training", "versions"):
        config.pop(late)
    assert rows(checkpoint_card(config))["data"] == "not recorded"
    contract = {"task": "t", "inputs": {"observation": {"shape": [3]}}, "outputs": {"action": {"shape": [1]}}}
    assert rows(exported_card(contract))["observation"].startswith("3 numbers")
