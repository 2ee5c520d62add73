"""Real-time chunking: what LeRobot says of the chunk before is committed, and the next goes on from it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.processor import PolicyProcessorPipeline
from lerobot.rollout.inference.rtc import RTCInferenceEngine, supports_rtc_inference
from onestride.engine.engine import Engine

from lerobot_policy_onestride import OneStridePolicy
from lerobot_policy_onestride.committed import committed_actions
from planners import PREFIX

SIZES = {"observation.state": 2, "observation.environment_state": 16}


@pytest.fixture
def policy(pretrained):
    return OneStridePolicy.from_pretrained(pretrained)


def batch(seed, *shape):
    rng = torch.Generator().manual_seed(seed)
    return {name: 512 * torch.rand((1, *shape, size), generator=rng) for name, size in SIZES.items()}


def vector(given):
    return torch.cat(list(given.values()), 2).double().flatten().numpy()


def test_the_actions_that_are_sent_meanwhile_come_back(policy, exported):
    given, left = batch(0, 2), 512 * torch.rand(10, 2, generator=torch.Generator().manual_seed(1))
    chunk = policy.predict_action_chunk(given, inference_delay=2, prev_chunk_left_over=left)
    decision = Engine.from_folder(exported).decide(vector(given), committed=left[:2].double().numpy())
    torch.testing.assert_close(chunk[0, :2], left[:2], rtol=0, atol=0)
    np.testing.assert_array_equal(chunk[0, 2:], decision.plan.clip(0, 512)[2:])
    free = OneStridePolicy.from_pretrained(policy.planner.folder.parent).predict_action_chunk(given)
    assert (free - chunk)[0, 2:].abs().max() > 1e-3  # the rest goes on from them


def test_nothing_is_committed_before_there_is_a_chunk(policy, exported):
    given = batch(0, 2)
    chunk = policy.predict_action_chunk(given, inference_delay=0, prev_chunk_left_over=None)
    np.testing.assert_array_equal(chunk[0], Engine.from_folder(exported).decide(vector(given)).plan.clip(0, 512))


def test_rows_that_lerobot_fills_up_are_not_committed():
    left = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    assert committed_actions(left, 4, 8).tolist() == left[:3].tolist()
    assert committed_actions(left[None], 2, 8).tolist() == left[:2].tolist()
    assert committed_actions(left, 4, 2).tolist() == left[:2].tolist()
    for nothing in (committed_actions(None, 4, 8), committed_actions(left, 0, 8), committed_actions(left[3:], 2, 8)):
        assert nothing is None
    with pytest.raises(ValueError, match="of one robot"):
        committed_actions(torch.ones(2, 5, 2), 1, 8)


def test_a_delay_beyond_the_prefix_is_warned_of_once(policy, caplog):
    for _ in range(2):
        chunk = policy.predict_action_chunk(
            batch(0, 2), inference_delay=5, prev_chunk_left_over=torch.full((9, 2), 7.0)
        )
    assert chunk[0, :PREFIX].eq(7).all()
    assert not chunk[0, PREFIX].eq(7).all()
    assert [record.message for record in caplog.records if "chunks may jump" in record.message] == [
        "a chunk takes 5 periods, and the planner knows 3 of them before: chunks may jump"
    ]


@pytest.mark.slow
def test_a_planner_without_a_prefix_does_not_claim_it(pretrained_image):
    policy = OneStridePolicy.from_pretrained(pretrained_image)
    assert not supports_rtc_inference(policy)
    with pytest.raises(ValueError, match="knows no prefix"):
        policy.predict_action_chunk({}, inference_delay=1, prev_chunk_left_over=torch.ones(4, 2))


def test_earlier_observations_are_those_of_their_time(policy, monkeypatch):
    """Observations come when LeRobot asks; the one before is of one control period ago, 0.1 s, or the oldest."""
    now = 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    given = [batch(seed) for seed in range(4)]
    seen = []
    monkeypatch.setattr(policy, "_chunk", lambda steps, *_: seen.append(steps))
    for now, newest in zip((10.0, 10.05, 10.1, 11.0), given, strict=True):  # noqa: B007
        policy.predict_action_chunk(newest)
    numbers = [[step["observation.state"].tolist() for step in steps] for steps in seen]
    states = [each["observation.state"].tolist() for each in given]
    assert numbers == [[states[0], states[0]], [states[0], states[1]], [states[0], states[2]], [states[3], states[3]]]


def test_entries_of_different_times_are_refused(policy):
    given = batch(0, 2)
    given["observation.state"] = given["observation.state"][:, 1]
    with pytest.raises(ValueError, match="different numbers of observations"):
        policy.predict_action_chunk(given)
    with pytest.raises(ValueError, match=r"shape \(54,\), expected \(36,\)"):
        policy.predict_action_chunk(batch(0, 3))


class Robot:
    """What the loop asks of a robot."""

    robot_type = "point"


def test_lerobots_real_time_loop_runs_it(policy):
    """Its thread makes chunk after chunk, told what the loop takes from them meanwhile."""
    told = []
    plain = policy.predict_action_chunk

    def noting(given, **more):
        told.append(more)
        return plain(given, **more)

    policy.predict_action_chunk = noting
    names = [f"{name}.pos" for name in "xy"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": names},
        "observation.environment_state": {"dtype": "float32", "shape": (16,), "names": [f"c{i}" for i in range(16)]},
    }
    engine = RTCInferenceEngine(
        policy, PolicyProcessorPipeline(steps=[]), PolicyProcessorPipeline(steps=[]), Robot(), RTCConfig(), features,
        "push", fps=10.0, device="cpu",
    )  # fmt: skip
    engine._preprocessor, engine._postprocessor = (lambda given: given), (lambda actions: actions)
    engine.start()
    engine.resume()
    sent, limit = [], time.monotonic() + 60
    try:
        while len(sent) < 5 and not engine.failed and time.monotonic() < limit:
            engine.notify_observation(dict.fromkeys([*names, *(f"c{i}" for i in range(16))], 200.0))
            action = engine.get_action(None)
            if action is not None:
                sent.append(action)
            time.sleep(0.05)
    finally:
        engine.stop()
    assert not engine.failed
    assert len(sent) == 5
    assert all(action.shape == (2,) and action.isfinite().all() for action in sent)
    assert told[0]["prev_chunk_left_over"] is None
    assert any(more["inference_delay"] >= 1 and len(more["prev_chunk_left_over"]) == 10 for more in told[1:])
