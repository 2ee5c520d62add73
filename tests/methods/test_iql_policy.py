"""The IQL policy: the weighted mean in closed form, the advantages it weighs by, and a run's critic beside it."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from onestride.cli import main
from onestride.data.minari import read_dataset
from onestride.files import CheckpointError
from onestride.methods.iql_policy import IQLPolicy, IQLPolicyConfig
from onestride.policy.policy import Policy
from onestride.runs import presets
from onestride.runs.run import material_of
from onestride.runs.stages import run_stage
from onestride.seals import seal
from onestride.selectors.store import load_selector
from onestride.tasks import TASKS
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from onestride.training.windows import make_transitions
from plan_specs import spec_of
from tiny_run import PRESET, copy_without

O, A = 2, 1  # noqa: E741
TRAINING = TrainConfig(400, 256, 5e-3, warmup=20, ema_decay=0.98, precision="32-true", accelerator="cpu")


def make(**settings):
    torch.manual_seed(0)
    fixed = torch.tensor([[True, True, False]])
    return IQLPolicy(IQLPolicyConfig(**{"hidden": 32} | settings), spec_of(fixed, 0, O))


@pytest.mark.slow
@pytest.mark.parametrize(("beta", "largest"), [(0.0, 100.0), (3.0, 100.0), (3.0, 2.0)])
def test_it_says_the_weighted_mean(tmp_path, beta, largest):
    """Two actions, 1 and -1, as often, with advantages c and -c: the answer is tanh(beta c) until weights are cut."""
    g = torch.Generator().manual_seed(0)
    state = torch.randn(4096, O, generator=g)
    side = torch.where(torch.rand(4096, generator=g) < 0.5, 1.0, -1.0)
    data = {
        "plans": torch.cat((state, side[:, None]), -1)[:, None], "context": torch.zeros(4096, 0),
        "advantage": 0.3 * side,
    }  # fmt: skip
    policy, log = train(make(beta=beta, largest_weight=largest), data, TRAINING, tmp_path, title="iql", identity={})
    better, worse = (min(math.exp(beta * c), largest) for c in (0.3, -0.3))
    with torch.no_grad():
        said = policy.sample(torch.cat((state, torch.zeros(4096, 1)), -1)[:, None], None)[..., O:]
    assert said.mean().item() == pytest.approx((better - worse) / (better + worse), abs=0.05)
    assert said.std() < 0.15
    assert log["history"]["weight"][-1][1] == pytest.approx((better + worse) / 2, rel=0.1)


@pytest.mark.slow
def test_advantages_are_the_critics_min_target_q_less_its_v(run):
    task = TASKS["hopper-v5"]()
    critic, rows = load_selector(run / "iql", task), material_of(run, task.with_control(horizon=1)).first_rows()
    step = make_transitions(read_dataset(run / "data"), task)
    assert torch.equal(rows, torch.cat((step["observation"], step["action"]), 1))
    found = critic.advantages(rows)
    for i in (0, 1234, len(rows) - 1):
        pair = (rows[i] - critic.normalizer.mean) / critic.normalizer.std
        with torch.no_grad():
            wanted = critic.iql.target(pair[None]).min() - critic.iql.v(pair[None, :11]).squeeze()
        torch.testing.assert_close(found[i], wanted, rtol=1e-4, atol=1e-5)
    assert found.std() > 0


@pytest.mark.slow
def test_it_trains_beside_the_runs_critic_and_no_other(run, tmp_path, capsys):
    there = tmp_path / "run"
    copy_without(run, there)
    settings = ("--preset", PRESET, "--run", str(there), "--training.steps", "20", "--training.batch-size", "64")
    main(["train", "iql-policy", *settings, "--config.hidden", "16"])
    policy = Policy.from_pretrained(there / "iql-policy-0")
    assert (policy.control.horizon, policy.generator.config.beta) == (1, 3.0)
    assert policy.decide(policy.task.first_observation(0)).action.shape == (3,)
    config = json.loads((there / "iql" / "config.json").read_text())
    config["training"]["id"] = "another"
    seal(there / "iql" / "config.json", config)
    with pytest.raises(SystemExit):
        main(["train", "iql-policy", *settings, "--config.hidden", "16"])
    assert "other settings or other data" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(there / "iql")
    with pytest.raises(CheckpointError, match="iql is not trained yet, and comes first"):
        run_stage(there, presets.load(PRESET).stage("iql-policy"), seeds=(7,))


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"largest_weight": 0.0}, {"hidden": 0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"self.{next(iter(wrong))}"):
        IQLPolicyConfig(**wrong)
