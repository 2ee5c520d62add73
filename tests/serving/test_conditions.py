"""What a client asks for is its own: of each request, within what was learnt, and never another client's."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from websockets.sync.client import connect

from asked_policy import asked_policy
from onestride.engine.engine import Engine
from onestride.serving.client import RemotePolicy
from onestride.serving.messages import pack, unpack
from onestride.serving.metadata import asking_of, metadata_of
from onestride.serving.session import Session
from served import Told, received, served, spec_of

USUAL = {"return": 0.5}
ASKED = ({"return": 1.0}, {"place": [0.25, 0.75]}, {})
OBSERVATION = np.random.default_rng(0).normal(size=17)
SEEN = {"state": OBSERVATION}


@pytest.fixture
def policy():
    """A student of random weights whose plans may be asked for."""
    return asked_policy(candidates=2, conditions=USUAL)


@pytest.fixture(params=["policy", "engine"])
def decider(request, policy):
    return policy if request.param == "policy" else Engine.from_policy(policy, "torch", draws=4, seed=5)


def alone(decider, count, **conditions):
    """Actions of a decider that is asked for this from the beginning."""
    decider.ask(**conditions)
    decider.reset(0)
    actions = [decider.decide(OBSERVATION).action for _ in range(count)]
    decider.ask(**USUAL)
    return np.array(actions)


def answered(session, **conditions):
    answer = session.answer(pack(SEEN | conditions))
    assert isinstance(answer.data, bytes), answer.data
    return unpack(answer.data)["actions"][0]


def test_a_request_is_asked_for_what_it_says_and_the_next_for_what_it_says(decider):
    expected = [alone(decider, 5, **asked) for asked in (*ASKED, USUAL)]
    assert len({tuple(actions[0].round(5)) for actions in expected}) == 4
    session, other = Session(decider), Session(decider)
    for i, asked in enumerate(ASKED):
        np.testing.assert_array_equal(answered(session, conditions=asked), expected[i][i])
    np.testing.assert_array_equal(answered(session), expected[3][3])  # nothing said: as it was trained
    np.testing.assert_array_equal(answered(session, conditions=ASKED[0]), expected[0][4])
    np.testing.assert_array_equal(answered(other), expected[3][0])  # whatever others ask for
    np.testing.assert_array_equal(answered(other, conditions=None), expected[3][1])


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"dynamics": 1.0}, "condition 'dynamics' of 1 numbers was not learnt; learnt: return (1), place (2)"),
        ({"place": 0.5}, "condition 'place' of 1 numbers was not learnt"),
        ({"return": 1.5}, "condition 'return' is 1.5, expected -1 to 1; leave it away to ask for nothing"),
        ({"place": np.array([0.5, np.nan])}, "condition 'place' is 0.5, nan, expected 0, 0 to 1, 1"),
        ({"return": "high"}, "condition 'return' is high, expected numbers"),
        ({"return": True}, "condition 'return' is True, expected numbers"),
        ({"place": [[0.1], [0.2, 0.3]]}, ""),
        ({"return": {"low": 1}}, "condition 'return' is {'low': 1}, expected numbers"),
        ([1.0], "conditions is [1.0], expected a map of names to numbers"),
        ("return", "conditions is return, expected a map"),
    ],
)
def test_what_was_not_learnt_is_one_line_and_changes_nothing(policy, conditions, said):
    expected = alone(policy, 1, **USUAL)
    session = Session(policy)
    answer = session.answer(pack(SEEN | {"conditions": conditions}))
    assert isinstance(answer.data, str)
    assert not answer.broken
    assert answer.data.startswith(f"bad request: {said}")
    assert "\n" not in answer.data
    np.testing.assert_array_equal(answered(session), expected[0])


def test_a_policy_without_conditions_is_asked_for_none():
    session = Session(Told())
    seen = {"state": np.array([4.0, 0.0, 0.0])}
    assert isinstance(session.answer(pack(seen | {"conditions": {}})).data, bytes)
    refused = session.answer(pack(seen | {"conditions": {"dynamics": 1.0}})).data
    assert refused == "bad request: condition 'dynamics' of 1 numbers was not learnt; learnt: nothing"
    metadata = metadata_of(spec_of())
    assert metadata["conditions"] == {}
    for said in (metadata, {}):  # a server that knows of none
        assert asking_of(said).names == ()


def test_clients_at_once_get_their_own_plans_and_never_each_others(decider):
    count, expected = 30, {}
    wanted = {"high": {"return": 1.0}, "low": {"return": -1.0, "place": [1.0, 0.0]}, "stock": None}
    for name, asked in wanted.items():
        expected[name] = alone(decider, count, **(USUAL if asked is None else asked))
    got: dict[str, list] = {name: [] for name in wanted}
    with served(decider) as url:
        together = threading.Barrier(len(wanted))

        def client(name):
            with RemotePolicy(url, timeout=20.0) as remote:
                if wanted[name] is not None:
                    remote.ask(**wanted[name])
                together.wait(20)
                got[name].extend(remote.decide(OBSERVATION).action for _ in range(count))

        threads = [threading.Thread(target=client, args=(name,)) for name in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for name in wanted:
        np.testing.assert_array_equal(got[name], expected[name])
    assert not np.array_equal(expected["high"], expected["low"])
    assert not np.array_equal(expected["high"], expected["stock"])


def test_the_metadata_says_names_and_ranges_and_a_client_checks_them_before_anything_is_sent(policy):
    expected = alone(policy, 3, **{"return": -1.0})
    with served(policy) as url:
        with connect(url, compression=None, proxy=None) as connection:
            assert received(connection)["conditions"] == {
                "return": {"low": [-1.0], "high": [1.0], "usual": [0.5]},
                "place": {"low": [0.0, 0.0], "high": [1.0, 1.0], "usual": None},
            }
        with RemotePolicy(url, timeout=20.0) as remote:
            assert remote.asking.names == ("return", "place")
            for bad, said in (({"dynamics": 1.0}, "was not learnt"), ({"return": 2.0}, "expected -1 to 1")):
                with pytest.raises(ValueError, match=said):
                    remote.ask(**bad)
            remote.ask(**{"return": -1.0})
            np.testing.assert_array_equal(remote.decide(OBSERVATION).action, expected[0])
            remote.close()  # the connection is lost, and made again
            np.testing.assert_array_equal(remote.decide(OBSERVATION).action, expected[0])
            np.testing.assert_array_equal(remote.infer(SEEN)["actions"][0], expected[1])
            remote.reset()
            np.testing.assert_array_equal(remote.decide(OBSERVATION).action, expected[0])


def test_conditions_that_cannot_be_read_are_refused():
    for said in ({"return": 1.0}, {"return": {"low": "x", "high": [1.0]}}, {"a": {"low": [], "high": [1.0]}}):
        with pytest.raises(ValueError, match="describes its conditions in a way that cannot be read"):
            asking_of({"conditions": said})
