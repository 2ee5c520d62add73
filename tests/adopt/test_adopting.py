"""Policies of other libraries, adopted: the library's own actions from the same noise."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adopted_files import DDIM, DDPM, FIXTURES, ORIGINAL, as_before_04, copied, edited, golden_of
from onestride.adopt.adopting import Sampling, adopt, policy_of, read_policy
from onestride.cli import main
from onestride.diffusion.samplers import sample
from onestride.files import CheckpointError
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.policy.policy import Policy
from onestride.tasks import TASKS

PYTHON = "ONESTRIDE_LEROBOT_PYTHON"  # a Python with lerobot 0.6.1, diffusers, dill and omegaconf
TOLERANCE = 1e-4  # of what is normalised: a field of 512 px is about 2


@pytest.fixture
def pusht():
    return TASKS["pusht"]()


@pytest.fixture(params=[DDPM, DDIM, ORIGINAL], ids=lambda path: path.name)
def path(request):
    return request.param


def ours(chunk, policy):
    """A chunk of the network's rows in our order: from now on, those before now last."""
    return chunk.roll(-policy.generator.config.film_unet.past_rows, -2)


def chunk_of(policy, golden):
    """What the adopted policy makes of the golden observations and noise, in pixels (B, 16, 2)."""
    given = policy.task.encode(golden["observations"].flatten(1))
    drawn = golden.get("step_noise")
    context = policy.normalizer.context(given.context)
    planner = policy.generator
    if drawn is None:
        plans = planner.sample(ours(golden["noise"], policy), context)
    else:
        config = planner.config
        plans = sample(
            lambda x, k: planner.denoise(x, k, context), ours(golden["noise"], policy), planner.fixed, planner.schedule,
            solver=config.solver, steps=config.sample_steps, spacing=config.spacing, clip=config.clip,
            noise=ours(drawn, policy),
        )  # fmt: skip
    return policy.normalizer.unnormalize(plans)


def assert_the_librarys_actions(policy, golden):
    context = policy.normalizer.context(golden["observations"].flatten(1))
    with torch.no_grad():
        output = policy.generator.network(ours(golden["noise"], policy), golden["timesteps"] + 1, context)
        torch.testing.assert_close(output, ours(golden["output"], policy), atol=1e-5, rtol=0)
        chunk = chunk_of(policy, golden)
    error = (chunk[:, :8] - golden["chunk"]).abs() / policy.normalizer.std
    assert golden["chunk"].std() > 10  # pixels: nothing that a constant would pass
    assert error.max() < TOLERANCE


def test_the_same_noise_gives_the_librarys_own_actions(path, pusht, tmp_path):
    adopted = adopt(tmp_path, path, pusht)
    assert_the_librarys_actions(adopted.policy, golden_of(path))
    assert_the_librarys_actions(Policy.from_pretrained(tmp_path / "teacher", task="pusht"), golden_of(path))


def test_the_averaged_weights_of_a_checkpoint_are_taken(pusht):
    """The fixture's other weights are one larger, all of them: with these the actions would be others."""
    foreign = read_policy(ORIGINAL)
    worse = replace(foreign, weights={name: value + 1 for name, value in foreign.weights.items()})
    with pytest.raises(AssertionError):
        assert_the_librarys_actions(policy_of(worse, pusht, ORIGINAL, Sampling()), golden_of(ORIGINAL))


@pytest.mark.slow
def test_an_adopted_policy_decides_saves_and_is_not_overwritten(pusht, tmp_path):
    observation = golden_of(DDIM)["observations"][0].flatten().double().numpy()
    adopt(tmp_path, DDIM, pusht)
    policy = Policy.from_pretrained(tmp_path / "teacher")
    actions = policy.predict_action_chunk(observation[None])
    assert actions.shape == (1, 8, 2)
    assert policy.nfe == 10
    assert bool((policy.temperature == 1.0).all())  # its noise is as it was there
    assert policy.generator.method == "dp"
    assert "it was there already" in adopt(tmp_path, DDIM, pusht).notes
    with pytest.raises(CheckpointError, match="another checkpoint, which is not overwritten"):
        adopt(tmp_path, DDPM, pusht)
    adopt(tmp_path, DDPM, pusht, "other", Sampling("ddim", 10))
    assert Policy.from_pretrained(tmp_path / "other").nfe == 10
    with pytest.raises(ValueError, match="expected 1 to the policy's 100 noise levels"):
        adopt(tmp_path, DDPM, pusht, "third", Sampling(steps=101))
    assert not (tmp_path / "third").exists()


def test_rows_before_now_are_the_last_of_a_plan(pusht, tmp_path):
    """The first row of a plan is LeRobot's second: the action of the later of two observations."""
    policy, golden = adopt(tmp_path, DDIM, pusht).policy, golden_of(DDIM)
    assert policy.generator.config.film_unet.past_rows == 1
    with torch.no_grad():
        chunk = chunk_of(policy, golden)
    torch.testing.assert_close(chunk[:, 0], golden["chunk"][:, 0], atol=0.05, rtol=0)
    assert (chunk[:, 1] - golden["chunk"][:, 0]).abs().max() > 1


# ---- normalisation ----


def test_a_column_that_never_changed_stays_what_it_was(pusht, tmp_path):
    """LeRobot divides it by 1e-8; here it is -1 (between limits) or 0 (by its mean), also a pixel beside."""
    for path, still in ((DDPM, -1.0), (DDIM, 0.0)):
        policy = adopt(tmp_path / path.name, path, pusht).policy
        seen = golden_of(path)["observations"].flatten(1).clone()
        for shift in (0.0, 1.0):
            seen[:, [6, 24]] = 256.0 + shift
            context = policy.normalizer.context(seen)
            torch.testing.assert_close(context[:, [6, 24]], torch.full((len(seen), 2), still), atol=2e-6, rtol=0)


def test_an_action_that_never_changed_stays_too(pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    statistics = folder / "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    tensors = load_file(statistics)
    tensors["action.max"][1] = tensors["action.min"][1] = 100.0
    save_file(tensors, statistics)
    adopt(tmp_path / "run", folder, pusht)
    policy = Policy.from_pretrained(tmp_path / "run" / "teacher")
    plans = policy.normalizer.unnormalize(torch.randn(5, 16, 2))
    torch.testing.assert_close(plans[..., 1], torch.full((5, 16), 100.0))
    assert policy.normalizer.plans(plans).isfinite().all()


def test_a_column_that_hardly_changed_is_refused(pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    statistics = folder / "policy_preprocessor_step_3_normalizer_processor.safetensors"
    tensors = load_file(statistics)
    tensors["observation.state.max"][1] = tensors["observation.state.min"][1] + 1e-4
    save_file(tensors, statistics)
    with pytest.raises(CheckpointError, match="column 1 of the observation is divided by 4"):
        adopt(tmp_path / "run", folder, pusht)


@pytest.mark.slow
def test_before_lerobot_04_the_normalisation_is_among_the_weights(pusht, tmp_path):
    """The same policy in the older layout: buffers for statistics, and no processors' files."""
    folder = as_before_04(copied(DDPM, tmp_path))
    assert_the_librarys_actions(adopt(tmp_path / "run", folder, pusht).policy, golden_of(DDPM))


@pytest.mark.slow
def test_a_compiled_networks_names_are_the_same(pusht, tmp_path):
    folder = copied(DDPM, tmp_path)
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("diffusion.unet.", "diffusion.unet._orig_mod."): v for name, v in weights.items()}
    save_file(renamed, folder / "model.safetensors")
    assert_the_librarys_actions(adopt(tmp_path / "run", folder, pusht).policy, golden_of(DDPM))


# ---- the command ----


def test_the_command_adopts_into_a_run_without_data(tmp_path, capsys):
    main(["adopt", str(DDPM), "--task", "pusht", "--run", str(tmp_path / "run"), "--solver", "ddim", "--steps", "10"])
    said = capsys.readouterr().out
    assert "teacher: a policy of LeRobot" in said
    assert "chunks of 16 actions by ddim, 10 network calls each" in said
    assert "the run has no data, which training and evaluating need" in said
    assert Policy.from_pretrained(tmp_path / "run" / "teacher").generator.config.film_unet.down_dims == (8, 16)
    for wrong, message in (
        (["adopt", str(DDPM), "--run", str(tmp_path / "new")], "give --task"),
        (["adopt", str(DDPM), "--as", "../x", "--task", "pusht", "--run", str(tmp_path / "new")], "--as is '../x'"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def write_episodes(path):
    """Three short episodes of PushT's shapes, as arrays."""
    rng = np.random.default_rng(0)
    steps = 90
    np.savez(
        path,
        observations=rng.uniform(30, 480, (steps, 18)),
        actions=rng.uniform(30, 480, (steps, 2)),
        rewards=rng.uniform(size=steps),
        terminals=np.zeros(steps),
        timeouts=np.arange(steps) % 30 == 29,
    )
    return path


@pytest.mark.slow
def test_a_student_of_an_adopted_teacher_normalises_and_plans_as_it_does(tmp_path, capsys):
    """Adopted with its data, then distilled: not by the data's own limits, nor with the task's horizon."""
    folder, run = copied(DDIM, tmp_path), tmp_path / "run"
    edited(folder, lambda said: said.update(horizon=20))
    data = write_episodes(tmp_path / "mine.npz")
    main(["adopt", str(folder), "--data", str(data), "--task", "pusht", "--run", str(run)])
    said = capsys.readouterr().out
    assert "3 episodes, 87 steps" in said
    assert "has no data" not in said
    settings = ["--training.steps", "2", "--training.batch-size", "4", "--training.precision", "32-true"]
    main(["train", "onedp-s", "--preset", "pusht-tiny", "--run", str(run), *settings])
    teacher, student = (Policy.from_pretrained(run / name) for name in ("teacher", "onedp-s-0"))
    assert student.control.horizon == 20
    assert student.nfe == 1
    for name, value in teacher.normalizer.state_dict().items():
        assert torch.equal(student.normalizer.state_dict()[name], value)
    assert student.generator.planner.config == teacher.generator.config
    with pytest.raises(SystemExit):
        main(["train", "teacher", "--preset", "pusht-tiny", "--run", str(run)])  # it would be another one
    assert "not overwritten" in capsys.readouterr().err


@pytest.mark.slow
def test_reading_needs_neither_library():
    code = (
        "import sys; from pathlib import Path; from onestride.adopt.adopting import read_policy;"
        f"[read_policy(Path(p)) for p in ({str(DDPM)!r}, {str(ORIGINAL)!r})];"
        "print({'lerobot', 'diffusers', 'omegaconf', 'dill', 'hydra'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_settings_by_default_are_as_they_were():
    """A teacher of ours neither clips nor begins below its last noise level."""
    config = TeacherConfig()
    assert (config.schedule, config.spacing, config.clip) == ("cosine", "even", None)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON not in os.environ, reason=f"${PYTHON} names no Python with lerobot")
def test_the_libraries_make_the_fixtures_again(pusht, tmp_path):
    """With the libraries themselves: what they save and do today is still what is adopted."""
    script = Path(__file__).parent / "make_fixtures.py"
    subprocess.run([os.environ[PYTHON], script, tmp_path], check=True, env=os.environ | {"PYTHONPATH": ""})
    for name in ("lerobot-ddpm", "lerobot-ddim", "original/latest.ckpt"):
        assert_the_librarys_actions(
            adopt(tmp_path / "run", tmp_path / name, pusht, name[:11]).policy, golden_of(tmp_path / name)
        )
        np.testing.assert_allclose(golden_of(tmp_path / name)["chunk"], golden_of(FIXTURES / name)["chunk"], atol=0.05)
