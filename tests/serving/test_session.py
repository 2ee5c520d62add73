"""One client's messages and their answers: history, noise, and errors in a line."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

import msgpack
import numpy as np
import pytest
import torch

from onestride.control.history import PAUSE
from onestride.engine.engine import Engine
from onestride.methods.cloning import CloningConfig
from onestride.networks.normalizer import Normalizer
from onestride.networks.vision import VisionConfig
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.robot.decision import Decision, chunk_of, none_finite
from onestride.serving.messages import pack, unpack
from onestride.serving.observations import request_of
from onestride.serving.session import LONGEST_LINE, Session
from onestride.tasks import TASKS
from served import Told, spec_of

SEEN = {"state": np.array([4.0, 0.0, 0.0])}
#: A decision is about two observations.
TWO = replace(spec_of(), observation_dim=6, n_obs_steps=2, validate_observation=lambda observation: None)


def asked(session, request):
    answer = session.answer(pack(request))
    assert isinstance(answer.data, bytes), answer.data
    return unpack(answer.data)


def refused(session, request):
    answer = session.answer(request if isinstance(request, bytes | str) else pack(request))
    assert isinstance(answer.data, str)
    assert "\n" not in answer.data
    assert not answer.broken
    return answer.data


def test_an_answer_has_actions_and_times():
    session = Session(Told())
    first, second = asked(session, SEEN), asked(session, SEEN)
    np.testing.assert_array_equal(first["actions"], [[4.0, 1.0]])
    np.testing.assert_array_equal(second["actions"], [[4.0, 2.0]])
    assert set(first) == {"actions", "policy_timing", "server_timing"}
    assert set(first["server_timing"]) == {"infer_ms", "queue_ms"}
    assert second["server_timing"]["prev_total_ms"] >= first["server_timing"]["infer_ms"]
    assert first["policy_timing"]["infer_ms"] <= first["server_timing"]["infer_ms"]


def test_a_chunk_is_as_long_as_the_policy_carries_out():
    spec = replace(spec_of(horizon=5), n_action_steps=3)
    actions = asked(Session(Told(spec)), SEEN)["actions"]
    np.testing.assert_array_equal(actions, [[4.0, 1.0], [5.0, 1.0], [6.0, 1.0]])
    whole = asked(Session(Told(spec)), SEEN | {"endpoint": "infer_plan"})
    assert whole["plan"].shape == (5, 5)
    np.testing.assert_array_equal(whole["action"], actions[0])


def test_every_client_has_its_own_noise_and_resets_it_alone():
    policy = Told()
    one, other = Session(policy), Session(policy, seed=7)

    def noise(session):
        return asked(session, SEEN)["actions"][0, 1]

    assert [noise(one), noise(one), noise(other), noise(one), noise(other)] == [1.0, 2.0, 701.0, 3.0, 702.0]
    assert asked(one, {"endpoint": "reset"}) == {"status": "reset"}
    assert [noise(one), noise(one)] == [1.0, 2.0]
    asked(one, {"endpoint": "reset", "seed": 3})
    assert noise(one) == 301.0
    assert noise(other) == 703.0


def test_of_several_observations_the_client_sends_all_or_the_server_remembers():
    seen, spec = [], TWO
    session = Session(Told(spec, before=lambda observation: seen.append(observation.tolist())))
    dt = spec.control_dt
    a, b, c, d = ([float(n)] * 3 for n in range(1, 5))
    asked(session, {"state": np.array([a, b])})
    asked(session, {"state": a, "time": 0.0})
    asked(session, {"state": b, "time": dt})
    asked(session, {"state": c, "time": dt * (1 + 0.98 * PAUSE)})
    asked(session, {"state": d, "time": dt * 50})
    asked(session, {"endpoint": "reset"})
    asked(session, {"state": a, "time": dt * 51})
    assert seen == [a + b, a + a, a + b, b + c, d + d, a + a]
    assert refused(session, {"state": a, "time": "now"}) == "bad request: time is now, expected seconds"


def test_without_times_observations_count_from_when_they_came():
    spec = replace(TWO, control_dt=1e-6)
    seen = []
    session = Session(Told(spec, before=lambda observation: seen.append(observation.tolist())))
    for n in (1.0, 2.0):
        asked(session, {"state": [n] * 3})
    assert seen == [[1.0] * 6, [2.0] * 6]  # far longer than a control period apart


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("text", "bad request: the message is text, expected a binary one (msgpack)"),
        (b"\xc1", "bad request: the message of 1 bytes is no msgpack map (FormatError)"),
        ({}, "bad request: the observation lacks 'observation'; it has no field"),
        ({"endpoint": "shutdown"}, "bad request: endpoint is 'shutdown', expected one of infer, infer_plan, reset"),
        ({"endpoint": ["reset"]}, """bad request: endpoint is "['reset']", expected one of infer, infer_plan, reset"""),
        ({"endpoint": "reset", "seed": -1}, "bad request: seed is -1, expected a whole number from 0 on"),
        ({"endpoint": "reset", "seed": True}, "bad request: seed is True, expected a whole number from 0 on"),
        ({"state": [0.0, np.nan, 0]}, "observation refused: observation[1] is nan; check the sensor that fills this"),
    ],
)
def test_what_cannot_be_answered_is_one_line_and_the_next_is_answered(request_, said):
    session = Session(Told())
    assert refused(session, request_).startswith(said)
    np.testing.assert_array_equal(asked(session, SEEN)["actions"][0, 0], 4.0)
    assert (session.answered, session.refused) == (1, 1)


def test_no_plan_is_an_error_and_never_an_action():
    def fails(_):
        raise none_finite(64)

    assert refused(Session(Told(before=fails)), SEEN).startswith("no plan: none of 64 candidates is finite")

    class Blind(Told):
        def decide(self, observation):
            return Decision(np.array([0.0, np.nan]), np.zeros((4, 5)), np.zeros((1, 4, 5)), np.zeros(1), {})

    assert refused(Session(Blind()), SEEN) == "no plan: a command is not finite"
    chunks = Blind(replace(spec_of(), n_action_steps=2))
    chunks.decide = lambda observation: Decision(np.zeros(2), np.zeros((0, 5)), np.zeros((0, 0, 5)), np.zeros(1), {})
    assert refused(Session(chunks), SEEN).startswith("no plan: the plan gives 0 of 2 commands")


def test_a_bug_shows_where_it_is_in_the_log_alone(caplog):
    def fails(_):
        raise KeyError("secret\npath")

    with caplog.at_level(logging.ERROR, "onestride.serving"):
        answer = Session(Told(before=fails)).answer(pack(SEEN))
    assert answer.broken
    assert answer.data == "the policy failed: KeyError; the server's log says where"
    assert "secret" in caplog.text
    assert "Traceback" in caplog.text


def something(rng, depth=0):
    """A value of some kind."""
    kind = rng.integers(0, 9 if depth < 3 else 7)
    if kind < 7:
        values = (
            None,
            bool(rng.integers(2)),
            int(rng.integers(-9, 2**62)),
            float(rng.normal()),
            "infer",
            b"\0",
            rng.normal(size=3),
        )
        return values[kind]
    inside = [something(rng, depth + 1) for _ in range(rng.integers(0, 4))]
    return inside if kind == 7 else {str(rng.choice(KEYS)): each for each in inside}


KEYS = ["state", "observation", "observation/state", "endpoint", "seed", "time", "prompt", "arm", "", "state/state"]


def test_whatever_a_request_holds_the_policy_does_not_fail():
    rng, session, answered = np.random.default_rng(0), Session(Told(TWO)), 0
    for _ in range(3000):
        keys = rng.choice(KEYS, rng.integers(0, 4))
        answer = session.answer(pack({str(key): something(rng) for key in keys}))
        assert not answer.broken, answer
        answered += isinstance(answer.data, bytes)
    assert 30 < answered < 1500


def test_nothing_that_a_message_holds_makes_an_error_long():
    session = Session(Told())
    for request in ({"x" * 5000: 1}, {"endpoint": "y" * 60_000}, {"state": "z" * 60_000}, {"state": [[0] * 400] * 400}):
        assert len(refused(session, request)) <= LONGEST_LINE
    assert (
        len(refused(session, msgpack.packb({"state": {b"__ndarray__": True, b"dtype": "q" * 60_000}}))) <= LONGEST_LINE
    )
    assert "no '?[2J???'" in refused(session, {"\x1b[2J\x00\x07\u202e": 1})


# ---------------------------------------------------------------- policies and engines


def test_clients_of_an_engine_get_what_each_would_get_alone(make_arm_policy, observation):
    policy = make_arm_policy("student")
    engine = Engine.from_policy(policy, "torch", plan=True)
    engine.reset()
    alone = [engine.decide(observation).action for _ in range(3)]
    one, other = Session(engine), Session(engine, seed=40)
    for expected in alone:
        np.testing.assert_array_equal(asked(one, request_of(engine.control, observation))["actions"][0], expected)
        asked(other, {"state": observation})


def test_clients_of_a_policy_get_what_each_would_get_alone(make_arm_policy, observation):
    policy = make_arm_policy("student")
    policy.reset(5)
    alone = [policy.decide(observation).action for _ in range(3)]
    one, other = Session(policy, seed=5), Session(policy, seed=6)
    for expected in alone:
        np.testing.assert_array_equal(asked(one, {"state": observation})["actions"][0], expected)
        asked(other, {"state": observation})
    assert not np.array_equal(alone[0], alone[1])


def test_chunks_and_images_of_a_policy():
    task, rng = TASKS["pusht-image"](), np.random.default_rng(0)
    torch.manual_seed(0)
    vision = VisionConfig(keypoints=4, features=6)
    generator = make_generator(task, "bc", asdict(CloningConfig(hidden=8)), vision=asdict(vision))
    policy = Policy(task, generator, Normalizer.empty(2, task.context_dim), candidates=1)
    seen = {
        "agent": rng.uniform(0, 512, (2, 2)),
        "observation/top": rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8),
    }
    policy.reset(0)
    vector = np.concatenate([np.concatenate((seen["agent"][i], seen["observation/top"][i].ravel())) for i in range(2)])
    expected = chunk_of(task.control, policy.decide(vector).plan, vector)
    actions = asked(Session(policy), seen)["actions"]
    assert actions.shape == (8, 2)
    np.testing.assert_array_equal(actions, expected)
