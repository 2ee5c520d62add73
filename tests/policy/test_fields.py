"""Observations of named fields with a history: packed and back, decided on, embedded once, driven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from onestride.control.loop import run_episode
from onestride.engine.engine import Engine
from onestride.networks.normalizer import Normalizer, Scaling
from onestride.plans.given import Given
from onestride.policy.policy import Policy, unselected
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import ObservationError, check_numbers
from onestride.robot.fields import Field, pack, unpack
from onestride.tasks import TASKS

FIELDS = (Field("joints", (2,), "rad"), Field("image", (3, 4, 3)))
STEP, STEPS, H = 2 + 36, 2, 4


def seen(seed=0):
    rng = np.random.default_rng(seed)
    return {"joints": rng.normal(size=2), "image": rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)}


class Sees(nn.Module):
    """A generator whose encoder counts how often, and of how many, it is asked."""

    nfe = 1

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head, self.rows = nn.Linear(STEPS * STEP, 5), nn.Linear(5 + H * 2, H * 2), []

    def embed(self, context):
        self.rows.append(len(context))
        return self.encoder(context)

    def sample(self, prior, context, *, generator=None):
        assert context.shape[1] == 5
        return self.head(torch.cat((prior.flatten(1), context.expand(len(prior), -1)), 1)).view_as(prior)


@pytest.fixture
def task():
    base = TASKS["halfcheetah-v5"]()
    seeing = base.with_control(
        name="eyes", observation_dim=STEPS * STEP, n_obs_steps=STEPS, fields=FIELDS, state_dim=0, action_dim=2,
        horizon=H, limits=replace(base.control.limits, low=-np.ones(2), high=np.ones(2)),
        validate_observation=lambda o: check_numbers(o, STEPS * STEP, ""), frozen_after=np.inf,
        commands=lambda plan, _o: plan.clip(-1, 1), rest=np.zeros(2),
    )  # fmt: skip
    return replace(
        seeing, known=(), context_dim=STEPS * STEP, encode=lambda o: Given(o[:, :0], o, None),
        command=lambda plans, _frame: plans[:, 0].clamp(-1, 1), scaling=Scaling("none", "none"),
    )  # fmt: skip


@pytest.fixture
def policy(task):
    return Policy(task, Sees(), Normalizer.empty(2, STEPS * STEP), selector=unselected, candidates=8)


def test_fields_come_back_as_they_were_packed():
    steps = [seen(i) for i in range(STEPS)]
    vector = np.concatenate([pack(FIELDS, step) for step in steps])
    for vectors in (vector[None], torch.from_numpy(vector)[None]):
        found = unpack(FIELDS, vectors, STEPS)
        assert found["image"].shape == (1, STEPS, 3, 4, 3)
        for i, step in enumerate(steps):
            for name, value in step.items():
                np.testing.assert_array_equal(np.asarray(found[name][0, i]), value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"joints": None}, "lacks the fields \\['joints'\\]"),
        ({"gripper": np.zeros(1)}, "has \\['gripper'\\]"),
        ({"image": np.zeros((4, 3, 3))}, "field 'image' has shape \\(4, 3, 3\\), expected \\(3, 4, 3\\)"),
        ({"joints": np.array([0.0, np.nan])}, "observation\\[1\\] is nan"),
    ],
)
def test_what_is_no_such_observation_is_refused_by_its_field(change, said):
    observation = {name: value for name, value in (seen() | change).items() if value is not None}
    with pytest.raises(ObservationError, match=said):
        pack(FIELDS, observation)


def test_a_mapping_is_decided_on_as_its_vector_and_embedded_once_for_all_candidates(policy):
    steps = [seen(i) for i in range(STEPS)]
    history = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    vector = np.concatenate([pack(FIELDS, step) for step in steps])
    by_mapping = policy.decide(history)
    policy.reset(0)
    np.testing.assert_array_equal(by_mapping.action, policy.decide(vector).action)
    assert policy.generator.rows == [1, 1]
    policy.predict_action_chunk(np.stack([vector] * 3))
    assert policy.generator.rows[-1] == 3
    engine = Engine.from_policy(policy, "torch", draws=2, seed=0)
    np.testing.assert_allclose(engine.decide(history).action, by_mapping.action, atol=1e-6)


def test_a_robot_that_gives_mappings_is_driven(policy, task):
    class Robot:
        told, number = [], 0

        def read(self):
            self.number += 1
            return seen(self.number) if self.number != 3 else {"joints": np.zeros(2)}  # once the camera is missing

        def write(self, command):
            self.told.append(command)

        def stop(self):
            pass

        def fault(self):
            return None

    clock, robot = ChargedClock(), Robot()
    clock.charge = lambda seconds: None
    log = run_episode(robot, clock, policy, task.control, timeout=6 * task.control.control_dt)
    assert (log.executed, log.filled, len(robot.told)) == (5, 1, 6)  # braked while it saw nothing
    assert sum(log.refused.values()) == 1


def test_fields_that_do_not_add_up_are_refused(task):
    with pytest.raises(ValueError, match=r"the fields have 2 numbers, expected 38"):
        task.with_control(fields=FIELDS[:1])
