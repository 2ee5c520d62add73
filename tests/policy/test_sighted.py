"""Policies with cameras: trained by the stages, kept and read, distilled, decided on by an engine and by a folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from onestride.data.episode import Episode
from onestride.data.minari import read_dataset, write_dataset
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.methods import METHODS
from onestride.methods.cloning import CloningConfig
from onestride.methods.consistency import ConsistencyConfig
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.edm import EDMConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.methods.sighted import SightedPlanner, with_cameras
from onestride.networks.vision import VisionConfig
from onestride.plans.spec import PlanSpec
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.robot.control_spec import ObservationError
from onestride.runs.collecting import behaviour_stage
from onestride.runs.ingest import action_space
from onestride.runs.pairs import make_block
from onestride.runs.settings import PairsConfig
from onestride.runs.stages import pairs_stage, train_method, train_selector
from onestride.tasks import TASKS
from onestride.training.config import TrainConfig

VISION = VisionConfig(keypoints=4, features=6, draws=2)
TRAINING = TrainConfig(steps=3, batch_size=8, precision="32-true", accelerator="cpu", warmup=1)
SIZES = {"width": 16, "blocks": 1}


@pytest.fixture(scope="module")
def task():
    return TASKS["pusht-image"]()


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    """Two episodes of a bright square, towards which one moves."""
    run, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    episodes = []
    for _ in range(2):
        images, goal = np.zeros((21, 96, 96, 3), np.uint8), rng.integers(16, 80, 2)
        images[:, goal[1] - 6 : goal[1] + 6, goal[0] - 6 : goal[0] + 6] = 255
        agent = np.linspace(rng.uniform(0, 512, 2), goal * 512 / 96, 21).astype(np.float32)
        episodes.append(Episode(agent, agent[1:].copy(), np.zeros(20, np.float32), True, False, {"top": images}))
    write_dataset(run / "data", episodes, 2, {"task": task.name, "seed": 0, "episodes": 2}, action_space(task))
    train_selector(run, "medoid", None, TRAINING)
    teacher = TeacherConfig(n_steps=4, first_action_weight=1.0, **SIZES)
    train_method(run, METHODS["diffuser"](), teacher, TRAINING, selector="medoid", vision=VISION)
    return run


def seen(seed=0):
    rng = np.random.default_rng(seed)
    return {"agent": rng.uniform(0, 512, (2, 2)), "top": rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)}


def test_a_policy_that_was_trained_decides_on_what_it_sees(run):
    policy = Policy.from_pretrained(run / "teacher")
    assert isinstance(policy.generator, SightedPlanner)
    assert policy.generator.vision == VISION
    first = policy.decide(seen())
    policy.reset(0)
    other = policy.decide(seen() | {"top": np.full((2, 96, 96, 3), 200, np.uint8)})
    assert not np.allclose(first.action, other.action)
    policy.reset(0)
    np.testing.assert_array_equal(policy.decide(seen()).action, first.action)


def test_encoders_are_trained_by_the_methods_loss(task):
    torch.manual_seed(0)
    made = make_generator(task, "bc", asdict(CloningConfig(hidden=8)), vision=asdict(VISION))
    images = torch.randint(0, 256, (3, 2, 96, 96, 3), dtype=torch.uint8)
    batch = {"plans": torch.randn(3, 16, 2), "context": torch.randn(3, 4), "image.top": images}
    rng = torch.Generator().manual_seed(0)
    made.training_step(batch, rng)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.encoders["top"].network.parameters())
    rows = made.seen(batch, rng)
    assert rows["plans"].shape == (6, 16, 2)
    assert rows["context"].shape == (6, 4 + 2 * VISION.features)
    assert torch.equal(rows["context"][0], rows["context"][1])  # one image serves two draws of noise
    assert torch.equal(rows["context"][::2, :4], batch["context"])


def test_two_cameras_have_encoders_of_their_own():
    spec = PlanSpec(horizon=4, state_dim=0, action_dim=2, context_dim=3, known=())
    sizes = {"top": (16, 16), "wrist": (12, 20)}
    made = with_cameras(METHODS["bc"]().build, CloningConfig(hidden=8), spec, sizes, 2, VISION)
    images = {name: torch.randint(0, 256, (5, 2, *size, 3), dtype=torch.uint8) for name, size in sizes.items()}
    context = made.embed(torch.zeros(5, 3), images)
    other = made.embed(torch.zeros(5, 3), images | {"wrist": 255 - images["wrist"]})
    assert context.shape == (5, 3 + 2 * 2 * VISION.features)
    changed = (context != other).any(0)
    assert changed[-2 * VISION.features :].all()
    assert not changed[: -2 * VISION.features].any()
    assert made.sample(torch.zeros(5, 4, 2), context).shape == (5, 4, 2)


def test_the_last_images_alone_are_looked_at_where_that_is_asked_for():
    spec, sizes = PlanSpec(horizon=4, state_dim=0, action_dim=2, context_dim=3, known=()), {"top": (16, 16)}
    build, config, vision = METHODS["bc"]().build, CloningConfig(hidden=8), replace(VISION, images=1)
    made = with_cameras(build, config, spec, sizes, 2, vision)
    images = torch.randint(0, 256, (5, 2, 16, 16, 3), dtype=torch.uint8)
    context = made.embed(torch.zeros(5, 3), {"top": images})
    assert context.shape == (5, 3 + VISION.features)
    earlier = torch.cat((255 - images[:, :1], images[:, 1:]), 1)
    assert torch.equal(made.embed(torch.zeros(5, 3), {"top": earlier}), context)
    with pytest.raises(ValueError, match=r"vision.images is 3, and a decision sees 2"):
        with_cameras(build, config, spec, sizes, 2, replace(vision, images=3))


def test_an_image_is_looked_at_once_for_all_candidates(run):
    policy, looked = Policy.from_pretrained(run / "teacher"), []
    policy.generator.encoders["top"].register_forward_hook(lambda _m, given, _out: looked.append(len(given[0])))
    policy.decide(seen())
    assert looked == [1]
    vectors = np.zeros((3, policy.control.observation_dim))
    assert policy.predict_action_chunk(vectors).shape == (3, 8, 2)
    assert looked == [1, 3]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["dnk", "cd", "kdp"])
def test_students_take_their_teachers_encoders_as_they_are(run, wanted, monkeypatch):
    monkeypatch.setattr(make_block, "__defaults__", (16,))  # rows of pairs that are made at a time
    configs = {
        "dnk": KoopmanConfig(latent_dim=4, hidden=8, gain_hidden=4, weighted=False),
        "cd": ConsistencyConfig(method="cd", **SIZES),
        "kdp": METHODS["kdp"]().with_config(width=16, blocks=1, neighbours=0).config,
    }
    vision = replace(VISION, frozen=True)
    if wanted == "dnk":
        pairs = PairsConfig(count=16, shards=1, temperatures=(1.0,), probabilities=(1.0,))
        pairs_stage(run, pairs)
    if wanted == "cd":
        train_method(run, METHODS["edm"](), EDMConfig(steps=4, **SIZES), TRAINING, vision=VISION)
    folder = train_method(run, METHODS[wanted](), configs[wanted], TRAINING, selector="medoid", vision=vision)
    student = Policy.from_pretrained(folder)
    teacher = Policy.from_pretrained(run / ("edm" if wanted == "cd" else "teacher"))
    for mine, theirs in zip(
        student.generator.encoders.parameters(), teacher.generator.encoders.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert np.isfinite(student.decide(seen()).action).all()


@pytest.mark.slow
def test_an_engine_and_a_folder_decide_as_the_policy(run, tmp_path):
    policy = Policy.from_pretrained(run / "teacher", candidates=32)
    agreement = export(policy, tmp_path / "out", draws=4, seed=0, checkpoint=run / "teacher")
    assert agreement.whole
    said = json.loads((tmp_path / "out" / "contract.json").read_text())["inputs"]["observation"]
    assert said["fields"] == [
        {"name": "agent", "shape": [2], "unit": "px"},
        {"name": "top", "shape": [96, 96, 3], "unit": "RGB, 0 to 255"},
    ]
    assert (said["shape"], said["n_obs_steps"]) == ([55_300], 2)
    policy.reset(0)
    wanted = policy.decide(seen())
    for engine in (Engine.from_folder(tmp_path / "out"), Engine.from_policy(policy, "torch", draws=4, seed=0)):
        decision = engine.decide(seen())
        np.testing.assert_allclose(decision.action, wanted.action, atol=1e-4 * 256)
        np.testing.assert_allclose(decision.scores, wanted.scores, rtol=1e-4)
        with pytest.raises(ObservationError, match="image 'top' is float64"):
            engine.decide(seen() | {"top": np.zeros((2, 96, 96, 3))})
        with pytest.raises(ObservationError, match=r"lacks the fields \['top'\]"):
            engine.decide({"agent": np.zeros((2, 2))})


@pytest.mark.slow
def test_what_a_policy_sees_becomes_data_with_images(run, task, tmp_path, monkeypatch):
    pytest.importorskip("gym_pusht")
    monkeypatch.setattr("onestride.tasks.collect_actors.WIDTH", 1)
    behaviour_stage(tmp_path, task, [run / "teacher"], 20, 0)
    (episode,) = read_dataset(tmp_path / "data")
    assert episode.observations.shape == (21, 2)
    images = episode.images["top"]
    assert images.shape == (21, 96, 96, 3)
    assert (images == images[0]).mean() > 0.9  # the same field, in which the agent
    assert (images[-1] != images[0]).any()  # has moved


def test_what_looks_at_no_image_is_refused(run, task):
    states = TASKS["pusht"]()
    blind = make_generator(states, "bc", asdict(CloningConfig(hidden=8)))
    normalizer = Policy.from_pretrained(run / "teacher").normalizer
    with pytest.raises(ValueError, match="has cameras, and this Cloning looks at no image"):
        Policy(task, blind, normalizer, selector=unselected)
    with pytest.raises(ValueError, match="selector 'iql' looks at no image"):
        train_selector(run, "iql", None, TRAINING)
    with pytest.raises(ValueError, match="'fql' learns from single steps"):
        train_method(run, METHODS["fql"](), METHODS["fql"]().config, TRAINING)
