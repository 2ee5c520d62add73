"""LeRobot trains a method: its batches go in, the loss falls, and what is saved acts as it did."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.scripts import lerobot_eval, lerobot_train
from torch.utils.data import DataLoader

from datasets_here import NAME, write_dataset
from lerobot_policy_onestride import OneStrideConfig, OneStridePolicy

SMALL = {"width": 32, "blocks": 1}
VISION = {"keypoints": 4, "features": 8, "draws": 2}
INPUTS = {
    "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
    "observation.environment_state": PolicyFeature(FeatureType.ENV, (16,)),
}
OUTPUTS = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
CAMERA = {"observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 24, 24))}


def config(method="mip", inputs=INPUTS, settings=SMALL, **more):
    return OneStrideConfig(
        device="cpu", method=method, settings=dict(settings), vision=dict(VISION), push_to_hub=False,
        input_features=dict(inputs), output_features=dict(OUTPUTS), **more,
    )  # fmt: skip


def batch(rows=32, camera=False):
    """Normalised windows: a plan goes from the state to the middle."""
    rng = torch.Generator().manual_seed(0)
    state = 2 * torch.rand((rows, 2, 2), generator=rng) - 1
    rest = 2 * torch.rand((rows, 2, 16), generator=rng) - 1
    given = {"observation.state": state, "observation.environment_state": rest}
    if camera:
        given["observation.images.top"] = torch.rand((rows, 2, 3, 24, 24), generator=rng)
    return given | {"action": state[:, -1:] * torch.linspace(1, 0, 16)[:, None], "task": ["to the middle"] * rows}


def trained(policy, given, steps):
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    losses = []
    for _ in range(steps):
        loss, said = policy.forward(given)
        assert all(isinstance(value, float) for value in said.values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("method", "more"),
    [("mip", {}), ("mip", {"prefix": 3}), ("meanflow", {}), ("bc", {}), ("kdp", {"neighbours": 0}), ("dp", {})],
)
def test_a_method_learns_and_what_is_saved_acts_alike(method, more, tmp_path):
    torch.manual_seed(0)
    settings = SMALL | {name: value for name, value in more.items() if name != "prefix"}
    if method == "bc":
        settings = {}
    policy = OneStridePolicy(config(method, settings=settings, prefix=more.get("prefix", 0), optimizer_lr=3e-3))
    losses = trained(policy, batch(), 40)
    if method == "mip":  # the others' losses are noisy, or constant by design
        assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert np.isfinite(losses).all()
    policy.save_pretrained(tmp_path)
    again = OneStridePolicy.from_pretrained(tmp_path)
    made = []
    for each in (policy.eval(), again):
        torch.manual_seed(1)
        made.append(each.predict_action_chunk(batch(4)))
    assert made[0].shape == (4, 16, 2)
    torch.testing.assert_close(*made, rtol=0, atol=0)
    assert again.supports_rtc() == ("prefix" in more)


def test_the_averaged_weights_act_once_there_are_any():
    torch.manual_seed(0)
    policy = OneStridePolicy(config(ema_decay=0.5))
    before = policy.predict_action_chunk(batch(4))
    optimizer = torch.optim.SGD(policy.get_optim_params(), 0.1)
    policy.forward(batch())[0].backward()
    optimizer.step()
    assert not torch.equal(policy.predict_action_chunk(batch(4)), before)  # a loop that never calls `update`
    first = [each.clone() for each in policy.planner.averaged.parameters()]
    policy.update()
    decay = 0.1  # (1 + step) / (10 + step) at step 0
    for old, mean, now in zip(first, policy.planner.averaged.parameters(), policy.get_optim_params(), strict=True):
        torch.testing.assert_close(mean, decay * old + (1 - decay) * now)
    with torch.no_grad():
        for parameter in policy.get_optim_params():
            parameter.zero_()
    assert policy.predict_action_chunk(batch(4)).abs().max() > 0


def test_a_learnt_prefix_comes_back_and_the_rest_goes_on_from_it():
    torch.manual_seed(0)
    policy = OneStridePolicy(config(prefix=3))
    given, left = batch(1), torch.full((10, 2), 0.25)
    free = policy.predict_action_chunk(given)
    told = policy.predict_action_chunk(given, inference_delay=2, prev_chunk_left_over=left)
    assert told[0, :2].eq(0.25).all()
    assert (told - free)[0, 2:].abs().max() > 1e-4


def test_cameras_are_learnt_from():
    torch.manual_seed(0)
    policy = OneStridePolicy(config(inputs=INPUTS | CAMERA, optimizer_lr=3e-3))
    encoder = policy.planner.generator.encoders["top"]
    before = encoder.output.weight.detach().clone()
    losses = trained(policy, batch(8, camera=True), 10)
    assert losses[-1] < losses[0]
    assert not torch.equal(encoder.output.weight, before)
    step = {key: value[:, 0] for key, value in batch(8, camera=True).items() if key.startswith("observation")}
    assert policy.select_action(step).shape == (8, 2)
    step["observation.images.top"] = torch.zeros(8, 3, 32, 32)
    policy.reset()
    with pytest.raises(ValueError, match=r"images of camera 'top' are \(32, 32\), expected \(24, 24\)"):
        policy.select_action(step)


def test_noise_that_is_given_is_used():
    policy = OneStridePolicy(config("meanflow"))
    noise = torch.randn(4, 16, 2)
    made = [policy.predict_action_chunk(batch(4), noise=each) for each in (noise, noise, -noise)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    with pytest.raises(ValueError, match=r"noise has shape \(4, 8, 2\), expected \(4, 16, 2\)"):
        policy.predict_action_chunk(batch(4), noise=noise[:, :8])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"method": "onedp-s"}, "method 'onedp-s' learns from more than .* LeRobot can train .*mip"),
        ({"method": "mipp"}, "there is no method 'mipp'. Did you mean 'mip'"),
        ({"method": "kdp"}, "learns from neighbours"),
        ({"settings": {"widht": 3}}, "widht"),
        ({"inputs": {}}, "needs observation.state"),
        ({"inputs": {"observation.state": PolicyFeature(FeatureType.STATE, (2, 2))}}, "expected one dimension"),
        ({"inputs": INPUTS | CAMERA, "prefix": 2}, "one of cameras, conditions and a prefix"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(asked, said):
    with pytest.raises(ValueError, match=said) as refused:
        OneStridePolicy(config(**asked))
    assert "\n" not in str(refused.value)


def test_batches_of_other_sizes_are_refused():
    policy, given = OneStridePolicy(config()), batch()
    with pytest.raises(ValueError, match=r"'action' has shape \(32, 8, 2\), expected \(B, 16, 2\)"):
        policy.forward(given | {"action": given["action"][:, :8]})
    with pytest.raises(ValueError, match=r"observations are \(32, 2, 2\), expected \(B, 2, 18\)"):
        policy.forward({name: given[name] for name in ("observation.state", "action")})
    with pytest.raises(ValueError, match="different numbers of observations"):
        policy.forward(given | {"observation.state": given["observation.state"][:, :1]})


def test_a_data_sets_windows_are_normalised_and_learnt_from(tmp_path):
    dataset = LeRobotDataset(NAME, write_dataset(tmp_path / "data", side=24))
    torch.manual_seed(0)
    policy = make_policy(config(inputs={}), ds_meta=dataset.meta)
    assert policy.config.fps == 10
    assert policy.planner.cameras == {"top": (24, 24)}
    windows = LeRobotDataset(
        NAME, tmp_path / "data", delta_timestamps=resolve_delta_timestamps(policy.config, dataset.meta)
    )
    before, after = make_pre_post_processors(policy.config, dataset_stats=dataset.meta.stats)
    given = before(next(iter(DataLoader(windows, 16))))
    assert given["action"].shape == (16, 16, 2)
    assert given["action"].abs().max() <= 1 + 1e-5
    assert trained(policy, given, 1)[0] > 0
    chunk = after(policy.predict_action_chunk({key: given[key] for key in policy.config.input_features}))
    high = torch.as_tensor(dataset.meta.stats["action"]["max"])
    torch.testing.assert_close(after(torch.ones(1, 2))[0], high.float())
    assert chunk.shape == (16, 16, 2)


@pytest.mark.slow
def test_lerobots_own_programs_train_and_evaluate(tmp_path, monkeypatch):
    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["lerobot", *arguments])
        main()

    data = write_dataset(tmp_path / "data")
    run(
        lerobot_train.main, "--policy.type=onestride", "--policy.prefix=3", f"--policy.settings={json.dumps(SMALL)}",
        "--policy.push_to_hub=false", "--policy.device=cpu", f"--dataset.repo_id={NAME}", f"--dataset.root={data}",
        "--batch_size=8", "--steps=2", "--num_workers=0", f"--output_dir={tmp_path / 'train'}",
    )  # fmt: skip
    run(
        lerobot_eval.main, f"--policy.path={tmp_path / 'train/checkpoints/last/pretrained_model'}", "--env.type=pusht",
        "--env.obs_type=environment_state_agent_pos", "--env.episode_length=10", "--eval.n_episodes=2",
        "--eval.batch_size=2", "--eval.use_async_envs=false", f"--output_dir={tmp_path / 'eval'}",
    )  # fmt: skip
    said = json.loads((tmp_path / "eval/eval_info.json").read_text())
    assert said["overall"]["n_episodes"] == 2


@pytest.mark.slow
def test_lerobots_evaluation_runs_an_exported_planner(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [
        "lerobot-eval", f"--policy.path={pretrained}", "--env.type=pusht", "--env.obs_type=environment_state_agent_pos",
        "--env.episode_length=10", "--eval.n_episodes=2", "--eval.batch_size=1", "--eval.use_async_envs=false",
        f"--output_dir={tmp_path}",
    ])  # fmt: skip
    lerobot_eval.main()
    assert json.loads((tmp_path / "eval_info.json").read_text())["overall"]["n_episodes"] == 2
