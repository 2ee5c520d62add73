"""Transitions of two bodies in one file, and the baselines of a library that are trained on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from onestride.data.adapters import read_npz
from onestride.evaluation.result import read_experiment
from onestride.evaluation.variant import Variant
from onestride.methods.dynamics import MOST, ContextsConfig
from onestride.registry import attribute
from onestride.runs.collecting import behaviour_stage
from onestride.runs.contexts import load_contexts, train_contexts
from onestride.runs.run import episodes_of
from onestride.runs.sources import take_source
from onestride.runs.transitions import CORRECTIONS, export_transitions
from onestride.tasks import TASKS, collect_actors
from onestride.training.config import TrainConfig

SCRIPT = Path(__file__).parents[2] / "examples" / "d3rlpy_baselines.py"
LIGHT = "halfcheetah-v5-mass-14-to-7"
TRAINING = TrainConfig(steps=20, batch_size=64)


def rock(observation, rng):
    return 0.5 * rng.standard_normal(6)


def hop(observation, rng):
    return 0.5 * rng.standard_normal(3)


def collected(folder, task, behaviour, steps):
    """A run of so many steps, in chunks of 150."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_actors, "CHUNK", 150)
        patch.setattr(collect_actors, "WIDTH", 4)
        behaviour_stage(folder, TASKS[task](), [Path(f"{__file__}:{behaviour}")], steps, 0)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A light body's few steps beside a stock one's."""
    folder = tmp_path_factory.mktemp("runs")
    made = collected(folder / "light", LIGHT, "rock", 300)
    take_source(made, collected(folder / "stock", "halfcheetah-v5", "rock", 900))
    return made


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    train_contexts(run, ContextsConfig(folds=2, score="dara"), TRAINING)
    path = tmp_path_factory.mktemp("files") / "light.npz"
    assert export_transitions(run, path) == {"source": 900, "target": 300}
    return path


def test_every_step_of_both_is_there_in_order(run, file):
    arrays = dict(np.load(file, allow_pickle=False))
    assert arrays["domain"].tolist() == [0] * 900 + [1] * 300
    wanted = [*episodes_of(run, "source"), *episodes_of(run)]
    np.testing.assert_array_equal(arrays["observations"], np.concatenate([e.observations[:-1] for e in wanted]))
    np.testing.assert_array_equal(arrays["next_observations"], np.concatenate([e.observations[1:] for e in wanted]))


def test_what_is_written_is_read_again(tmp_path):
    """By what `onestride import` reads with: of a body that falls, in a run without a source."""
    run, path = collected(tmp_path / "run", "hopper-v5", "hop", 300), tmp_path / "hopper.npz"
    assert export_transitions(run, path) == {"target": 300}
    found, wanted = list(read_npz(path)), list(episodes_of(run))
    assert sum(e.terminated for e in wanted) > 5
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)


def test_the_sources_rewards_are_corrected_by_what_the_classifiers_say(run, file):
    arrays = dict(np.load(file, allow_pickle=False))
    model, source = load_contexts(run / "contexts"), arrays["domain"] == 0
    o, a, following = (torch.from_numpy(arrays[k][source]) for k in ("observations", "actions", "next_observations"))
    with torch.inference_mode():
        rows = model.normalizer(model.inputs(o, a, following))
        ratio = model.transition(rows) - model.behaviour(rows[:, :23])
    np.testing.assert_allclose(arrays[CORRECTIONS][source], ratio.clamp(-MOST, MOST).mean(0), atol=1e-5)
    assert arrays[CORRECTIONS][source].std() > 0
    assert not arrays[CORRECTIONS][~source].any()


def test_without_daras_classifiers_there_are_no_corrections(run, tmp_path):
    (run / "contexts").rename(tmp_path / "kept")
    try:
        export_transitions(run, tmp_path / "none.npz")
        train_contexts(run, ContextsConfig(folds=2), TRAINING)
        export_transitions(run, tmp_path / "plain.npz")
    finally:
        (run / "contexts").rename(tmp_path / "other")
        (tmp_path / "kept").rename(run / "contexts")
    for name in ("none.npz", "plain.npz"):
        assert CORRECTIONS not in np.load(tmp_path / name)
    with pytest.raises(ValueError, match=r"written as \.npz, got .*mine\.csv"):
        export_transitions(run, tmp_path / "mine.csv")


# ---- the library's part, without the library ----


class Library(ModuleType):
    """What the script calls of d3rlpy: it notes what it would learn, and does nothing."""

    def __init__(self) -> None:
        super().__init__("d3rlpy")
        self.__version__, self.fitted = "0", []
        self.seed = lambda seed: None
        self.ActionSpace = SimpleNamespace(CONTINUOUS=1)
        self.logging = SimpleNamespace(NoopAdapterFactory=lambda: None)
        self.dataset = SimpleNamespace(MDPDataset=lambda **arrays: arrays)
        self.algos = SimpleNamespace(CQLConfig=lambda **_: self, BCQConfig=lambda **_: self)

    def create(self, device):
        return self

    def fit(self, data, n_steps, **_):
        self.fitted.append((data, n_steps))

    def predict(self, observations):
        assert observations.dtype == np.float32
        return np.full((len(observations), 6), 5.0)


@pytest.fixture
def library(monkeypatch):
    models = ModuleType("d3rlpy.models")
    models.VectorEncoderFactory = lambda sizes: None
    made = Library()
    monkeypatch.setattr(sys, "modules", sys.modules | {"d3rlpy": made, "d3rlpy.models": models})
    return made


def settings_of(path, out, rows, **changes):
    kind = attribute(f"{SCRIPT}:Settings", "script")
    return kind(path, LIGHT, out, rows, steps=7, finetune_steps=3, seeds=(0, 1), episodes=2, **changes)


def test_four_ways_of_training_and_a_result(library, file, tmp_path):
    main, arrays = attribute(f"{SCRIPT}:main", "script"), dict(np.load(file))
    out, rows = tmp_path / "light.json", ("cql-finetuned", "bcq-dara")
    main(settings_of(file, out, rows, eta=0.5))
    assert [steps for _, steps in library.fitted] == [7, 3] * 2 + [7] * 2
    source, target, both = (library.fitted[i][0] for i in (0, 1, 4))
    np.testing.assert_array_equal(source["observations"], arrays["observations"][:900])
    np.testing.assert_array_equal(target["rewards"], arrays["rewards"][900:])
    np.testing.assert_allclose(both["rewards"], arrays["rewards"] + 0.5 * arrays[CORRECTIONS], rtol=1e-6)
    np.testing.assert_array_equal(both["terminals"], arrays["terminals"])

    record = read_experiment(out)
    assert list(record["rows"]) == ["cql-finetuned-unselected", "bcq-dara-unselected"]
    for row, metrics in record["rows"].items():
        assert Variant.of(metrics).row == row
        assert metrics["episodes"]["mean"] == 4
        assert metrics["return_raw"]["n"] == 2  # seeds
    lines = [json.loads(line) for line in (tmp_path / "light.episodes.jsonl").read_text().splitlines()]
    mine = [line["return_raw"] for line in lines if line["row"] == "bcq-dara-unselected" and line["seed"] == 1]
    assert record["rows"]["bcq-dara-unselected"]["return_raw"]["per_seed"][1] == pytest.approx(np.mean(mine))

    out.unlink()
    main(settings_of(file, out, rows, eta=0.5))  # all is there
    assert len(library.fitted) == 6
    assert read_experiment(out)["rows"] == record["rows"]


def test_a_file_that_does_not_fit_is_refused_before_training(library, file, run, tmp_path):
    main, arrays = attribute(f"{SCRIPT}:main", "script"), dict(np.load(file))
    np.savez(tmp_path / "plain.npz", **{k: v for k, v in arrays.items() if k != CORRECTIONS})
    with pytest.raises(ValueError, match=r"plain\.npz has no reward_corrections; write it .*--config\.score dara"):
        main(settings_of(tmp_path / "plain.npz", tmp_path / "a.json", ("cql-dara",)))
    np.savez(tmp_path / "one.npz", **{k: v[:900] for k, v in arrays.items()})
    with pytest.raises(ValueError, match=r"of a source \(domain 0\) and a target \(1\)"):
        main(settings_of(tmp_path / "one.npz", tmp_path / "a.json", ("cql-finetuned",)))
    np.savez(tmp_path / "other.npz", **{**arrays, "observations": arrays["observations"][:, :9]})
    with pytest.raises(ValueError, match=f"task '{LIGHT}' is another body"):
        main(settings_of(tmp_path / "other.npz", tmp_path / "a.json", ("cql-finetuned",)))
    assert library.fitted == []
