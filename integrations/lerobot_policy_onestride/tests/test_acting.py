"""An exported planner in LeRobot's loop decides as onestride does, and is refused where it cannot."""

from __future__ import annotations

import shutil
from importlib.metadata import distributions

import gymnasium
import numpy as np
import onestride.tasks.pusht.environment  # noqa: F401  # registers onestride/PushT-v0
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.envs import make_env, make_env_pre_post_processors
from lerobot.envs.configs import PushtEnv
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.scripts.lerobot_eval import rollout
from onestride.engine.engine import Engine
from onestride.files import CheckpointError

from lerobot_policy_onestride import OneStrideConfig, OneStridePolicy
from lerobot_policy_onestride.__main__ import write_pretrained

STEPS = 20
ENV = PushtEnv(obs_type="environment_state_agent_pos", episode_length=STEPS)


def loaded(folder, env=ENV):
    """The policy as LeRobot's programs make it, and its processors."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    return make_policy(config, env_cfg=env), make_pre_post_processors(config, str(folder))


def rolled_out(folder, env, seeds):
    """What LeRobot's evaluation does in these environments."""
    policy, (before, after) = loaded(folder, env)
    ((_, vector),) = make_env(env, n_envs=len(seeds))["pusht"].items()
    around = make_env_pre_post_processors(env_cfg=env, policy_cfg=policy.config)
    done = rollout(vector, policy, *around, before, after, seeds=seeds, return_observations=True)
    vector.close()
    return done


def decided(engine, vectors):
    """The actions (B, T, A) of onestride's own chunks for observations (B, T + 1, step_dim), in LeRobot's order."""
    n, chunks = engine.control.n_action_steps, []
    for now in range(0, vectors.shape[1] - 1, n):
        pairs = [np.concatenate((each[max(now - 1, 0)], each[now])).astype(np.float64) for each in vectors]
        chunks.append(engine.predict_action_chunk(np.stack(pairs)))
    return np.concatenate(chunks, 1)[:, : vectors.shape[1] - 1].astype(np.float32)


def test_lerobot_finds_the_distribution_by_its_name():
    names = [each.metadata["Name"] for each in distributions()]
    assert "lerobot_policy_onestride" in names  # with dashes it would not be found
    assert PreTrainedConfig.get_choice_class("onestride") is OneStrideConfig


def test_an_evaluation_sends_what_onestride_decides(pretrained, exported):
    done = rolled_out(pretrained, ENV, [3, 4])
    seen = done["observation"]
    vectors = torch.cat((seen["observation.state"], seen["observation.environment_state"]), 2).numpy()
    wanted = decided(Engine.from_folder(exported), vectors)
    assert done["action"].shape == (2, STEPS, 2)
    assert np.ptp(wanted, axis=1).min() > 1
    np.testing.assert_array_equal(done["action"].numpy(), wanted)


def test_lerobots_pusht_is_onestrides(pretrained):
    """The same seed and actions give the same observations and rewards: returns can be compared."""
    done = rolled_out(pretrained, ENV, [5])
    env = gymnasium.make("onestride/PushT-v0")
    observation, _ = env.reset(seed=5)
    seen = [torch.cat([done["observation"][f"observation.{name}"][0] for name in ("state", "environment_state")], 1)]
    for step in range(STEPS):
        np.testing.assert_allclose(seen[0][step], observation, rtol=1e-5)
        observation, reward, *_ = env.step(done["action"][0, step].numpy())
        assert float(done["reward"][0, step]) == pytest.approx(float(reward), abs=1e-6)
    env.close()


@pytest.mark.slow
def test_images_come_as_the_planner_learnt_from_them(pretrained_image, exported_image):
    env = PushtEnv(obs_type="pixels_agent_pos", episode_length=9, observation_height=96, observation_width=96)
    done = rolled_out(pretrained_image, env, [3])
    image = done["observation"]["observation.image"][0].mul(255).round().movedim(1, -1).flatten(1)
    vectors = torch.cat((done["observation"]["observation.state"][0], image), 1)[None].numpy()
    wanted = decided(Engine.from_folder(exported_image), vectors)
    np.testing.assert_array_equal(done["action"].numpy(), wanted)
    with pytest.raises(ValueError, match=r"gives images \(96, 96\) .* LeRobot's 'image' \(384, 384\)"):
        loaded(pretrained_image, PushtEnv(obs_type="pixels_agent_pos"))


def batch(seed, rows=1):
    rng = torch.Generator().manual_seed(seed)
    sizes = {"observation.state": 2, "observation.environment_state": 16}
    return {name: 512 * torch.rand((rows, size), generator=rng) for name, size in sizes.items()}


def test_after_a_reset_neither_observations_nor_actions_are_left(pretrained):
    policy, fresh = OneStridePolicy.from_pretrained(pretrained), OneStridePolicy.from_pretrained(pretrained)
    for seed in range(3):
        policy.select_action(batch(seed))
    policy.reset()
    fresh.planner.engine.decide(np.full(36, 256.0))  # which takes the draw that the other has taken
    torch.testing.assert_close(policy.select_action(batch(7)), fresh.select_action(batch(7)), rtol=0, atol=0)


def test_the_number_of_actions_per_chunk_can_be_changed(pretrained):
    config = PreTrainedConfig.from_pretrained(pretrained, cli_overrides=["--n_action_steps=2"])
    policy = OneStridePolicy.from_pretrained(pretrained, config=config)
    chunk = OneStridePolicy.from_pretrained(pretrained).predict_action_chunk(batch(0))
    first = [policy.select_action(batch(0)) for _ in range(3)]
    torch.testing.assert_close(torch.stack(first[:2], 1), chunk[:, :2], rtol=0, atol=0)
    assert not torch.equal(first[2], chunk[:, 2])
    config.n_action_steps = 17
    with pytest.raises(ValueError, match="n_action_steps is 17, expected 1 to 16"):
        OneStridePolicy.from_pretrained(pretrained, config=config)


def test_a_saved_policy_acts_alike(pretrained, tmp_path):
    policy = OneStridePolicy.from_pretrained(pretrained)
    policy.save_pretrained(tmp_path / "again")
    again = OneStridePolicy.from_pretrained(tmp_path / "again")
    made = [
        each.predict_action_chunk(batch(0, rows=3)) for each in (again, OneStridePolicy.from_pretrained(pretrained))
    ]
    assert made[0].shape == (3, 16, 2)
    torch.testing.assert_close(*made, rtol=0, atol=0)


def test_other_sizes_are_refused_in_one_line(pretrained):
    with pytest.raises(ValueError, match=r"'pusht' observes 18 numbers, LeRobot gives observation.state \(2\):"):
        loaded(pretrained, PushtEnv())
    policy = OneStridePolicy.from_pretrained(pretrained)
    with pytest.raises(ValueError, match=r"'pusht' observes 18 numbers, LeRobot gives .*\(16\)") as said:
        policy.select_action({"observation.environment_state": torch.zeros(1, 16)})
    assert "\n" not in str(said.value)
    config = PreTrainedConfig.from_pretrained(pretrained)
    config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
    with pytest.raises(ValueError, match=r"'pusht' gives actions \(2,\), LeRobot's 'action' is \(7,\)"):
        OneStridePolicy.from_pretrained(pretrained, config=config)


def test_a_folder_that_is_not_what_was_exported_is_refused(pretrained, exported, tmp_path):
    shutil.copytree(pretrained, tmp_path / "altered")
    with (tmp_path / "altered/exported/model.onnx").open("ab") as graph:
        graph.write(b"0")
    with pytest.raises(CheckpointError, match="export it again"):
        OneStridePolicy.from_pretrained(tmp_path / "altered")
    with pytest.raises(FileExistsError, match="is there already"):
        write_pretrained(exported, pretrained)
    with pytest.raises(CheckpointError, match="onestride export"):
        write_pretrained(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_configuration_names_no_folder_elsewhere(pretrained, exported):
    config = PreTrainedConfig.from_pretrained(pretrained)
    config.exported = str(exported)
    with pytest.raises(ValueError, match="expected the name of a folder beside config"):
        OneStridePolicy.from_pretrained(pretrained, config=config)


def test_an_exported_planner_is_not_trained(pretrained):
    with pytest.raises(ValueError, match="was exported and is not trained any more"):
        OneStridePolicy.from_pretrained(pretrained).get_optim_params()
