"""Behaviour cloning: the mean of what the data did, from what is known alone; trained by its name on a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.cli import main
from onestride.engine.engine import Engine
from onestride.evaluation.entries import evaluation_variants, policy_of
from onestride.methods.cloning import BC, Cloning, CloningConfig
from onestride.policy.policy import Policy
from onestride.runs import presets
from onestride.tasks import TASKS
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from plan_specs import spec_of
from tiny_run import CONFIG, PRESET, copy_without

O, A, C = 2, 1, 3  # noqa: E741
D = O + A
TRAINING = TrainConfig(400, 256, 5e-3, warmup=20, ema_decay=0.98, precision="32-true", accelerator="cpu")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask(horizon):
    fixed = torch.zeros(horizon, D, dtype=torch.bool)
    fixed[0, :O] = True
    return fixed


def make(horizon=1, **settings):
    torch.manual_seed(0)
    return Cloning(CloningConfig(**{"hidden": 32} | settings), spec_of(mask(horizon), C, O))


@pytest.mark.slow
def test_it_says_the_mean_of_what_the_data_did(tmp_path):
    """Half the data does 0.5 o_1 + c_2 + 1, half 0.5 o_1 + c_2 - 1: cloning does neither."""
    o, context = normal(4096, 1, O), normal(4096, C, seed=1)
    side = torch.where(normal(4096, 1, 1, seed=2) > 0, 1.0, -1.0)
    wanted = (0.5 * o[..., :1] + context[:, None, 2:]).clamp(-2, 2)
    data = {"plans": torch.cat((o, wanted + side), -1), "context": context}
    cloned, _ = train(make(), data, TRAINING, tmp_path, title="bc", identity={})
    with torch.no_grad():
        plans = cloned.sample(torch.cat((o, 3 * normal(4096, 1, A, seed=3)), -1), context)
    assert torch.equal(plans[..., :O], o)
    assert (plans[..., O:] - wanted).square().mean().sqrt() < 0.2
    assert (plans[..., O:] - wanted - side).square().mean().sqrt() > 0.9


@pytest.mark.parametrize("horizon", [1, 4])
def test_noise_changes_nothing_and_known_entries_come_back(horizon):
    cloning, prior = make(horizon), normal(16, horizon, D)
    prior[0, 0, :O] = -0.0
    plans = cloning.sample(prior, normal(1, C))
    assert torch.equal(plans[:, mask(horizon)].view(torch.int32), prior[:, mask(horizon)].view(torch.int32))
    other = torch.where(mask(horizon), prior, torch.inf)
    assert torch.equal(cloning.sample(other, normal(1, C)), plans)


def test_the_loss_is_the_weighted_mean_over_free_entries():
    cloning, batch = make(4, first_action_weight=7.0), {"plans": normal(9, 4, D), "context": normal(9, C, seed=1)}
    said = cloning.network(torch.where(mask(4), batch["plans"], 0.0), batch["context"])
    total, weights = 0.0, 0.0
    for h in range(4):
        for d in range(D):
            w = 0.0 if h == 0 and d < O else 7.0 if h == 0 else 1.0
            total, weights = total + w * (said - batch["plans"])[:, h, d].square(), weights + w
    found = cloning.training_step(batch, torch.Generator())["loss"]
    torch.testing.assert_close(found, (total / weights).mean())


def test_dropout_is_of_training_alone_and_drawn_from_its_generator():
    cloning, batch = make(dropout=0.5), {"plans": normal(64, 1, D), "context": normal(64, C, seed=1)}
    losses = [cloning.training_step(batch, torch.Generator().manual_seed(s))["loss"] for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(
        cloning.sample(batch["plans"], batch["context"]), cloning.sample(batch["plans"], batch["context"])
    )


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"first_action_weight": 0.0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"cloning needs .*self.{next(iter(wrong))}"):
        CloningConfig(**wrong)


def test_its_plans_are_as_short_as_the_task_lets_them_be():
    tasks = {name: TASKS[name]() for name in ("hopper-v5", "pusht", "pointmaze-umaze")}
    assert {name: task.shortest for name, task in tasks.items()} == {
        "hopper-v5": 1, "pusht": 16, "pointmaze-umaze": tasks["pointmaze-umaze"].control.horizon
    }  # fmt: skip
    assert BC.shortest
    assert presets.load(PRESET).stage("bc").selector is None
    assert presets.load(PRESET).stage("mlp").selector == "iql"


@pytest.mark.slow
def test_it_trains_by_its_name_decides_without_a_selector_and_folds(run, tmp_path):
    there = tmp_path / "run"
    copy_without(run, there)
    settings = ("--preset", PRESET, "--run", str(there), "--training.steps", "20", "--training.batch-size", "64")
    main(["train", "bc", *settings, "--config.hidden", "16"])
    policy = Policy.from_pretrained(there / "bc-0")
    assert policy.control.horizon == 1
    entries = {entry.row: entry for entry in evaluation_variants(there, CONFIG)}
    assert [row for row in entries if row.startswith("bc")] == ["bc-unselected"]
    assert entries["bc-unselected"].variant.label == "BC (unselected)"
    observation = policy.task.first_observation(0)
    alone = policy_of(there, entries["bc-unselected"], "cpu").decide(observation).action
    engine = Engine.from_policy(policy, "torch", draws=2)
    for decided in (policy.decide(observation), engine.decide(observation)):
        np.testing.assert_allclose(decided.action, alone, atol=1e-6)
    ranked = Policy.from_pretrained(there / "bc-0", selector=there / "iql")
    assert ranked.decide(observation).scores.std() < 1e-4
