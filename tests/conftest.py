"""For several test files: one thread, a point in the plane as a small task, policies nobody trained, and a tiny run."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kinds import METHOD_OF
from made_once import made_once
from onestride.control.signals import ENDING
from onestride.data.episode import Episode
from onestride.evaluation import returns
from onestride.evaluation.evaluate import evaluate
from onestride.networks.normalizer import Normalizer
from onestride.plans.given import Given
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.robot.control_spec import ControlSpec
from onestride.robot.limits import Limits
from onestride.runs import presets
from onestride.tasks import TASKS, collect_actors
from onestride.tasks.kinova.task import first_observation
from onestride.tasks.task import Task
from onestride.training.windows import make_windows
from tiny_run import CHUNK, CONFIG, PRESET, stage, write_behaviour

#: Files that take longest. They come first, so that no worker begins one when the others are done; see the Makefile.
LONGEST = (
    "test_own_task.py", "test_returns.py", "test_quickstart.py", "test_pipeline.py", "test_joining.py", "test_bench.py",
    "test_native.py", "test_stopping.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _interrupted_by_ctrl_c():
    """As in a terminal: a shell starts background jobs that ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _process_as_before():
    """No test leaves signal handlers or real-time scheduling to those that come after it."""
    before = _handlers_and_policy()
    yield
    left = _handlers_and_policy()
    for number, handler in before[0].items():
        signal.signal(number, handler)
    assert left == before


def _handlers_and_policy():
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    return {number: signal.getsignal(number) for number in ENDING}, policy


# ---- a small task: observation [position 2, goal 2], plans [position 2 | displacement 2] of 4 rows ----


def _check_point(observation):
    if np.shape(observation) != (4,) or not np.isfinite(observation).all():
        raise ValueError(f"expected four finite numbers, got {observation}")


def _score_point(plans, observation, frame):
    return -(plans[..., -1, :2] - observation[:, None, 2:]).square().sum(-1)


def make_point_task() -> Task:
    return Task(
        control=ControlSpec(
            name="point",
            observation_dim=4,
            state_dim=2,
            action_dim=2,
            horizon=4,
            control_dt=0.1,
            validate_observation=_check_point,
            goal_reached=lambda observation: bool(np.abs(observation[:2] - observation[2:]).max() < 0.01),
            limits=Limits(np.full(2, -10.0), np.full(2, 10.0), max_step=10.0),
        ),
        context_dim=2,
        encode=lambda observation: Given(observation[:, :2], observation[:, 2:], None),
        plan_window=lambda o, a: (torch.cat((o[..., :2], a), -1), o[:, 0, 2:]),
        command=lambda plans, frame: plans[:, 0, 2:],
        score=_score_point,
        paths=lambda plans, frame: nn.functional.pad(plans[..., :2], (0, 1)),
        scenes=lambda count, seed: [],
        environment=lambda scene, clock: None,
        first_observation=lambda scene: np.zeros(4),
        measure=lambda robot, scene: {},
    )


@pytest.fixture
def point(monkeypatch) -> Task:
    """The small task; checkpoints of it load while the test runs."""
    monkeypatch.setitem(TASKS, "point", make_point_task)
    return make_point_task()


def random_episode(task, steps, seed=0) -> Episode:
    """Smooth random numbers in the task's shapes."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(steps + 1, task.control.observation_dim)).cumsum(0)
    actions = rng.normal(size=(steps, task.control.action_dim))
    return Episode(
        observations.astype(np.float32), actions.astype(np.float32), rng.normal(size=steps).astype(np.float32), True
    )


@pytest.fixture
def make_episode():
    return random_episode


# ---- the arm, untrained ----


def straight_episodes(scenes) -> list[Episode]:
    """The tip goes straight from start to goal in steps of 2 cm."""
    episodes = []
    for scene in scenes:
        steps = max(2, int(np.linalg.norm(scene.goal - scene.start) / 0.02))
        positions = np.linspace(scene.start, scene.goal, steps + 1)
        observations = np.tile(first_observation(scene), (steps + 1, 1))
        observations[:, :3] = positions
        observations[1:, 3:6] = np.diff(positions, axis=0) / 0.05
        episodes.append(
            Episode(
                observations.astype(np.float32), positions[1:].astype(np.float32), np.zeros(steps, np.float32), True
            )
        )
    return episodes


@pytest.fixture(scope="session")
def arm_scenes():
    """Starts and goals in the arm's room, one ball out of the way of both."""
    from onestride.tasks.kinova.scene import MAX_OBSTACLES, WORKSPACE_HIGH, WORKSPACE_LOW, Scene
    from onestride.tasks.obstacles import OBSTACLE_DIM, SPHERE

    rng = np.random.default_rng(0)
    obstacles = np.zeros((MAX_OBSTACLES, OBSTACLE_DIM))
    obstacles[0] = [SPHERE, 0.42, 0.0, 0.5, 0.03, 0, 0, 0]
    low, high = WORKSPACE_LOW + 0.02, WORKSPACE_HIGH - 0.02
    return [Scene(rng.uniform(low, high), rng.uniform(low, high), obstacles) for _ in range(8)]


@pytest.fixture(scope="session")
def observation(arm_scenes) -> np.ndarray:
    """What the arm reads at the start of a scene (41,)."""
    return first_observation(arm_scenes[0])


@pytest.fixture(scope="session")
def make_arm_policy(arm_scenes):
    """kind, generator's settings -> an arm policy with random weights and a normaliser fitted to straight ways."""
    task = TASKS["kinova"]()
    windows = make_windows(straight_episodes(arm_scenes), task)
    sizes = {
        "teacher": {"width": 32, "blocks": 1, "n_steps": 4},
        "student": {"latent_dim": 16, "hidden": 16, "gain_hidden": 8},
    }

    def make(kind="teacher", *, candidates=8, seed=0, **settings):
        torch.manual_seed(seed)
        generator = make_generator(task, METHOD_OF.get(kind, kind), sizes[kind] | settings)
        with torch.no_grad():  # past the zeros that some layers start with
            for parameter in generator.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        normalizer = Normalizer.fit(windows.plans, windows.context)
        return Policy(task, generator, normalizer, candidates=candidates)

    return make


@pytest.fixture
def policy(make_arm_policy) -> Policy:
    """The arm's teacher, tiny and untrained."""
    return make_arm_policy()


# ---- Table I on a preset of which nothing is learnt ----


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Every stage of the preset, one command each."""

    def make(base):
        folder = base / "run"
        behaviours = [write_behaviour(base / "calm.npz", 0.02, seed=0), write_behaviour(base / "wild.npz", 0.1, seed=1)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collect_actors, "CHUNK", CHUNK)
            stage(folder, "collect", "--amount", str(2 * CHUNK), "--behaviours", *behaviours)
        for each in presets.load(PRESET).stages:
            stage(folder, each.name)

    return made_once(tmp_path_factory, "locomotion", make) / "run"


@pytest.fixture(scope="session", autouse=True)
def _few_warm_ups():
    patch = pytest.MonkeyPatch()
    patch.setattr(returns, "WARM_UP", 1)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def evaluated(run, tmp_path_factory):
    """The run, and the folder of its evaluation."""

    def make(base):
        evaluate(run, CONFIG, "onestride evaluate").rename(base / "evaluation")

    made = made_once(tmp_path_factory, "evaluated", make) / "evaluation"
    return run, Path(shutil.copytree(made, run / "evaluation"))


@pytest.fixture
def again(evaluated, tmp_path):
    """A copy of the evaluated run, to do harm to."""
    shutil.copytree(evaluated[0], tmp_path / "run")
    return tmp_path / "run"
