"""A method of one file, the one that docs/your-method.md shows: trained, evaluated, loaded and run by name alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from onestride.cli import main
from onestride.engine.engine import Engine
from onestride.evaluation.entries import evaluation_variants
from onestride.files import CheckpointError
from onestride.methods import METHODS
from onestride.policy.policy import Policy
from tiny_run import CONFIG, PRESET, copy_without

PAGE = Path(__file__).parents[1] / "docs" / "your-method.md"


@pytest.fixture
def method_file(tmp_path, monkeypatch):
    path = tmp_path / "my_method.py"
    path.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)))
    monkeypatch.setenv("ONESTRIDE_METHODS", "")
    yield path
    if "regression" in METHODS:
        del METHODS["regression"]


def test_a_method_from_outside_trains_and_decides_with_no_other_file_changed(run, tmp_path, method_file):
    there = tmp_path / "run"
    copy_without(run, there)
    settings = ("--preset", PRESET, "--run", str(there), "--training.steps", "20", "--training.batch-size", "64")
    main(["train", f"{method_file}:REGRESSION", *settings, "--config.hidden", "24"])
    policy = Policy.from_pretrained(there / "regression-0")
    assert policy.generator.config.hidden == 24
    assert policy.selector.kind == "iql"  # as the preset ranks
    labels = {entry.row: entry.variant.label for entry in evaluation_variants(there, CONFIG)}
    assert labels["regression"] == "Regression"
    assert "regression-unselected" in labels
    observation = policy.task.first_observation(0)
    engine = Engine.from_policy(policy, "torch", draws=4, seed=3)  # it has no fold: the module itself is the graph
    policy.reset(3)
    for _ in range(2):
        np.testing.assert_allclose(engine.decide(observation).action, policy.decide(observation).action, atol=1e-5)


def test_a_checkpoint_of_a_method_that_is_not_known_says_how_to_name_it(run, tmp_path, method_file, monkeypatch):
    there = tmp_path / "run"
    copy_without(run, there)
    settings = ("--preset", PRESET, "--run", str(there), "--training.steps", "2", "--training.batch-size", "64")
    main(["train", f"{method_file}:REGRESSION", *settings])
    monkeypatch.setenv("ONESTRIDE_METHODS", "")  # another process, which does not know it
    del METHODS["regression"]
    with pytest.raises(CheckpointError, match=r"there is no method 'regression'.*ONESTRIDE_METHODS"):
        Policy.from_pretrained(there / "regression-0")
