"""CleanDiffuser's policies, adopted: its own actions from the same noise, and what its files do not say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from adopted_files import FIXTURES, cleandiffuser, golden_of, task_with
from onestride.adopt.adopting import Sampling, adopt, read_policy
from onestride.adopt.cleandiffuser import Told
from onestride.cli import main
from onestride.diffusion.samplers import sample
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.files import CheckpointError
from onestride.policy.policy import Policy
from onestride.robot.fields import Field
from onestride.tasks import TASKS

PYTHON = "ONESTRIDE_CLEANDIFFUSER_PYTHON"  # a Python that imports cleandiffuser
TOLERANCE = 1e-4  # of what is normalised: a field of 512 px is about 2
NUMBERS, KEYPOINTS = "cleandiffuser-numbers", "cleandiffuser-keypoints"
LEVELS = {NUMBERS: 5, KEYPOINTS: 50}
TASK = {
    NUMBERS: TASKS["pusht"],
    KEYPOINTS: lambda: task_with(Field("keypoint", (9, 2)), Field("agent_pos", (2,))),
}


@pytest.fixture(params=[NUMBERS, KEYPOINTS])
def name(request):
    return request.param


def told(name, path, **changes):
    return Told(**{"task": TASK[name](), "horizon": 16, "noise_levels": LEVELS[name], "data": path.parent / "data.npz"}
                | changes)  # fmt: skip


def adopted(name, path, run, **changes):
    return adopt(run, path, TASK[name](), told=told(name, path, **changes))


def assert_the_librarys_actions(policy, golden):
    planner, config = policy.generator, policy.generator.config

    def ours(chunk):
        return chunk.roll(-config.film_unet.past_rows, -2)

    context = policy.normalizer.context(golden["observations"].flatten(1))
    with torch.no_grad():
        output = planner.network(ours(golden["noise"]), golden["timesteps"] + 1, context)
        torch.testing.assert_close(output, ours(golden["output"]), atol=2e-5, rtol=0)
        plans = sample(
            lambda x, k: planner.denoise(x, k, context), ours(golden["noise"]), planner.fixed, planner.schedule,
            solver=config.solver, steps=config.sample_steps, spacing=config.spacing, clip=config.clip,
            noise=ours(golden["step_noise"]),
        )  # fmt: skip
    chunk = policy.normalizer.unnormalize(plans)
    assert golden["chunk"].std() > 10  # pixels: nothing that a constant would pass
    assert ((chunk[:, :8] - golden["chunk"]).abs() / policy.normalizer.std).max() < TOLERANCE


def test_the_same_noise_gives_the_librarys_own_actions(name, tmp_path):
    """Of the averaged weights: the others are larger by 1, all of them."""
    path = cleandiffuser(name, tmp_path)
    made = adopted(name, path, tmp_path / "run")
    assert_the_librarys_actions(made.policy, golden_of(path))
    assert made.policy.nfe == LEVELS[name]


def test_an_adopted_policy_is_saved_decides_and_is_known_again(tmp_path):
    path, run = cleandiffuser(NUMBERS, tmp_path), tmp_path / "run"
    first = adopted(NUMBERS, path, run).policy
    policy = Policy.from_pretrained(run / "teacher", candidates=4)
    assert_the_librarys_actions(policy, golden_of(path))
    actions = policy.predict_action_chunk(np.full((1, 36), 200.0))
    assert actions.shape == (1, 8, 2)
    assert "it was there already" in adopted(NUMBERS, path, run).notes
    for changed in ({"horizon": 32}, {"noise_levels": 6}, {"data": fewer(path)}):
        with pytest.raises(CheckpointError, match="another checkpoint, which is not overwritten"):
            adopted(NUMBERS, path, run, **changed)
    assert first.task.control.horizon == 16


def fewer(path):
    """The same data without what was the least and the most."""
    with np.load(path.parent / "data.npz") as file:
        arrays = dict(file)
    arrays["actions"] = arrays["actions"].clip(50, 450)
    np.savez(path.parent / "fewer.npz", **arrays)
    return path.parent / "fewer.npz"


def test_a_column_goes_from_its_least_to_its_most_and_one_that_never_changed_is_its_least(tmp_path):
    path = cleandiffuser(NUMBERS, tmp_path)
    normalizer = adopted(NUMBERS, path, tmp_path / "run").policy.normalizer
    with np.load(path.parent / "data.npz") as file:
        seen, done = file["observations"], file["actions"]
    moved = [column for column in range(36) if column not in (4, 22)]
    context = normalizer.context(torch.from_numpy(np.concatenate((seen, seen), 1)))
    torch.testing.assert_close(context[:, moved].aminmax(dim=0), (-torch.ones(34), torch.ones(34)))
    assert torch.equal(context[:, [4, 22]], -torch.ones(len(seen), 2))
    torch.testing.assert_close(normalizer.unnormalize(-torch.ones(2)), torch.from_numpy(done.min(0)))
    torch.testing.assert_close(normalizer.unnormalize(torch.ones(2)), torch.from_numpy(done.max(0)))


def test_what_the_last_action_led_to_is_none_of_the_rows_that_it_learnt_from(tmp_path):
    path = cleandiffuser(NUMBERS, tmp_path)
    with np.load(path.parent / "data.npz") as file:
        arrays = dict(file)
    ends = arrays["terminals"].astype(bool)
    after = np.roll(arrays["observations"], -1, 0)
    after[ends] = 511.0  # farther than anything before
    np.savez(path.parent / "longer.npz", next_observations=after, **arrays)
    mine, other = (adopted(NUMBERS, path, tmp_path / name, data=path.parent / name).policy.normalizer.state_dict()
                   for name in ("data.npz", "longer.npz"))  # fmt: skip
    for key, value in mine.items():
        assert torch.equal(value, other[key])


# ---- what is not in the file ----


def refused(path, name, tmp_path, message, **changes):
    with pytest.raises((CheckpointError, ValueError, FileNotFoundError), match=message) as error:
        adopted(name, path, tmp_path / "run", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": None}, r"saves weights alone: give --horizon \(the rows of a chunk, 'horizon' in its config"),
        (
            {"noise_levels": None, "data": None},
            r"give --noise-levels \(.*'sample_steps' there\); --data \(the episodes",
        ),
        ({"horizon": 12}, "takes powers of 2"),
        ({"noise_levels": 0}, "--noise-levels is 0, expected 1 to 10000"),
        ({"task": task_with(Field("state", (5,)))}, "is given 36 numbers; task 'pusht-image' has 2 observations of 5"),
        ({"data": Path("nowhere.npz")}, "nowhere.npz does not exist"),
    ],
)
def test_what_the_file_does_not_say_has_to_be_told(changes, message, tmp_path):
    refused(cleandiffuser(NUMBERS, tmp_path), NUMBERS, tmp_path, message, **changes)


def test_data_of_other_columns_is_refused(tmp_path):
    path = cleandiffuser(NUMBERS, tmp_path)
    other = FIXTURES / KEYPOINTS / "data.npz"
    refused(path, NUMBERS, tmp_path, "has observations of 20 and actions of 2 numbers; .* has 18 and 2", data=other)


def with_weights(path, change):
    saved = torch.load(path, weights_only=True)
    change(saved["model_ema"])
    torch.save(saved, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update({"condition.mlp.0.weight": torch.zeros(2)}), "its condition passes a network of its own"),
        (lambda w: w.update({"diffusion.map_noise.freqs": torch.zeros(2)}), "has another embedding of noise"),
        (lambda w: w.update({"diffusion.local_cond_encoder.2.conv.bias": torch.zeros(2)}), "has a local condition"),
        (lambda w: [w.pop(key) for key in list(w) if "map_emb" in key], "no map_emb.0.bias: it is no ChiUNet1d"),
        (lambda w: [w.pop(key) for key in list(w) if "downs" in key], "no conditional U-Net"),
        (lambda w: w.pop("diffusion.mids.1.conv1.0.bias"), "another network than its settings say"),
        (lambda w: w["diffusion.final_conv.3.bias"].fill_(torch.nan), "not finite"),
        (lambda w: w.update({"diffusion.final_conv.3.bias": torch.zeros(3)}), "has shape"),
        (lambda w: w.update({"diffusion.map_emb.0.weight": torch.zeros(8)}), r"map_emb.0.weight has shape \(8,\)"),
        (lambda w: w.update({"diffusion.global_cond_encoder.weight": torch.zeros(8)}), "global_cond_encoder"),
        (lambda w: w.update({"diffusion.more": {"a": 1}}), "'model_ema' is no state dict of tensors"),
    ],
)
def test_weights_of_something_else_are_refused(change, message, tmp_path):
    path = cleandiffuser(NUMBERS, tmp_path)
    with_weights(path, change)
    refused(path, NUMBERS, tmp_path, message)


class Runs:
    """What a pickle that wants to run code makes."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_wants_to_run_code_runs_none(tmp_path):
    path, mark = cleandiffuser(NUMBERS, tmp_path), tmp_path / "ran"
    torch.save({"model": {}, "model_ema": Runs(mark)}, path)
    refused(path, NUMBERS, tmp_path, r"it names posix.mkdir; .* Nothing in it was executed")
    assert not mark.exists()


def test_what_a_policys_own_files_say_is_not_told(tmp_path):
    path = FIXTURES / "lerobot-ddpm"
    with pytest.raises(ValueError, match="says itself what --horizon and --noise-levels are for"):
        read_policy(path, Told(TASKS["pusht"](), horizon=16))


# ---- the command, and what comes after it ----


def test_the_command_adopts_with_data_and_says_what_is_missing(tmp_path, capsys):
    path, run, options = cleandiffuser(NUMBERS, tmp_path), str(tmp_path / "run"), ["--task", "pusht"]
    with pytest.raises(SystemExit):
        main(["adopt", str(path), "--run", run, *options])
    assert "give --horizon (" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    options += ["--horizon", "16", "--noise-levels", "5"]
    main(["adopt", str(path), "--run", run, "--data", str(path.parent / "data.npz"), *options])
    said = capsys.readouterr().out
    assert "2 episodes, 80 steps" in said
    assert "teacher: a policy of CleanDiffuser" in said
    assert "chunks of 16 actions by ddpm, 5 network calls each" in said
    assert "normalised by the least and the most of 80 steps in data.npz" in said
    main(["adopt", str(path), "--run", run, *options])  # now by the run's own data, which are the same
    assert "it was there already" in capsys.readouterr().out
    settings = ["--training.steps", "2", "--training.batch-size", "4", "--training.precision", "32-true"]
    main(["train", "onedp-s", "--preset", "pusht-tiny", "--run", run, *settings])
    teacher, student = (Policy.from_pretrained(tmp_path / "run" / name) for name in ("teacher", "onedp-s-0"))
    assert (teacher.nfe, student.nfe) == (5, 1)
    assert student.generator.planner.config == teacher.generator.config
    for key, value in teacher.normalizer.state_dict().items():
        assert torch.equal(student.normalizer.state_dict()[key], value)


@pytest.mark.slow
def test_an_exported_folder_decides_as_the_policy(tmp_path):
    path = cleandiffuser(NUMBERS, tmp_path)
    adopt(tmp_path / "run", path, TASK[NUMBERS](), "teacher", Sampling("ddim", 2), told(NUMBERS, path))
    policy = Policy.from_pretrained(tmp_path / "run" / "teacher", candidates=4)
    assert export(policy, tmp_path / "out", draws=4, seed=0, checkpoint=tmp_path / "run" / "teacher").whole
    policy.reset(0)
    observation = golden_of(path)["observations"][0].flatten().double().numpy()
    decision = Engine.from_folder(tmp_path / "out").decide(observation)
    np.testing.assert_allclose(decision.action, policy.decide(observation).action, atol=1e-4 * 256)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON not in os.environ, reason=f"${PYTHON} names no Python with cleandiffuser")
def test_cleandiffuser_makes_the_fixtures_again(tmp_path):
    """With CleanDiffuser itself, and the files that it saved: what it does today is still what is adopted."""
    script = Path(__file__).parent / "make_cleandiffuser_fixtures.py"
    command = [os.environ[PYTHON], str(script), str(tmp_path), "weights"]
    subprocess.run(command, check=True)
    for name in LEVELS:
        path = tmp_path / name / "model_final.pt"
        assert_the_librarys_actions(adopted(name, path, tmp_path / f"run-{name}").policy, golden_of(path))
        np.testing.assert_allclose(golden_of(path)["chunk"], golden_of(FIXTURES / name)["chunk"], atol=0.05)
