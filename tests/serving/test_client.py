"""Our client: decides as what is served does, and says soon where there is no answer."""

from __future__ import annotations

import threading
from dataclasses import replace
from urllib.parse import urlparse

import numpy as np
import pytest
from websockets.sync.server import serve

from onestride.engine.engine import Engine
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import NoPlanError, none_finite
from onestride.serving.client import NoAnswerError, RemotePolicy
from onestride.serving.messages import pack
from onestride.serving.metadata import metadata_of
from onestride.tasks import CONTROL_SPECS
from served import Told, served, served_alone, spec_of

SEEN = np.array([4.0, 0.0, 0.0])


def test_it_decides_as_the_engine_that_is_served(make_arm_policy, observation):
    policy = make_arm_policy("student")
    engine, here = (Engine.from_policy(policy, "torch", plan=True) for _ in range(2))
    with served(engine) as url, RemotePolicy(url, timeout=10.0) as remote:
        assert remote.control.name == "kinova"
        for _ in range(3):
            expected, found = here.decide(observation), remote.decide(observation)
            for name in ("action", "plan", "plans", "scores"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            assert 0 < found.timings["generate"] < found.timings["total"]
        here.reset(9)
        remote.reset(9)
        np.testing.assert_array_equal(remote.decide(observation).action, here.decide(observation).action)


def test_images_travel_as_bytes():
    spec = CONTROL_SPECS["pusht-image"]()
    seen = []
    policy = Told(spec, before=lambda observation: seen.append(observation))
    vector = np.random.default_rng(0).integers(0, 256, spec.observation_dim).astype(float)
    with served(policy) as url, RemotePolicy(url, timeout=10.0) as remote:
        assert remote.decide(vector).plan.shape == (16, 2)
        assert remote.infer({"agent": np.zeros(2), "top": np.zeros((96, 96, 3), np.uint8)})["actions"].shape == (8, 2)
    np.testing.assert_array_equal(seen[0], vector)
    assert len(seen[1]) == spec.observation_dim


def test_errors_are_those_of_a_policy_here():
    def fails(observation):
        if observation[0] == 1.0:
            raise none_finite(5)
        if observation[0] == 2.0:
            raise KeyError

    with served(Told(before=fails)) as url, RemotePolicy(url, timeout=10.0) as remote:
        with pytest.raises(ObservationError, match="is nan"):
            remote.decide(SEEN * np.nan)  # before anything is sent
        with pytest.raises(ObservationError, match=r"^'observation' has shape"):
            remote.infer({"state": np.zeros(2)})
        with pytest.raises(NoPlanError, match=r"^none of 5 candidates"):
            remote.decide(np.array([1.0, 0, 0]))
        with pytest.raises(NoAnswerError, match=r"^bad request: this policy observes no 'arm'"):
            remote.infer({"arm": 1})
        with pytest.raises(NoAnswerError, match=r"^the policy failed: KeyError"):
            remote.decide(np.array([2.0, 0, 0]))
        with pytest.raises(NoAnswerError, match=r"is lost .*1011"):  # as a server that failed leaves
            remote.decide(SEEN)
        assert remote.decide(SEEN).action[0] == 4.0  # it has connected again


def test_a_late_answer_is_none_and_is_not_taken_for_the_next():
    go_on = threading.Event()

    def waits(observation):
        if observation[0] == 1.0:
            assert go_on.wait(10)

    with served(Told(before=waits)) as url, RemotePolicy(url, timeout=0.2) as remote:
        for _ in range(2):  # the second is not even sent
            with pytest.raises(NoAnswerError, match=r"within 0\.2 s"):
                remote.decide(np.array([1.0, 0, 0]))
        go_on.set()
        remote.timeout = 10.0
        decision = remote.decide(SEEN)
        np.testing.assert_array_equal(decision.action, [4.0, 2.0])  # one decision was made meanwhile


def test_one_thread_at_a_time_asks():
    begun, go_on = threading.Event(), threading.Event()

    def waits(_):
        begun.set()
        assert go_on.wait(10)

    with served(Told(before=waits)) as url, RemotePolicy(url, timeout=10.0) as remote:
        thread = threading.Thread(target=remote.decide, args=(SEEN,))
        thread.start()
        assert begun.wait(10)
        with pytest.raises(RuntimeError, match="two threads ask by one RemotePolicy"):
            remote.decide(SEEN)
        go_on.set()
        thread.join(10)
        assert remote.decide(SEEN).action[1] == 2.0


def failure(remote):
    with pytest.raises((NoAnswerError, ConnectionError)) as raised:
        remote.decide(SEEN)
    return raised.value


def test_patience_ends_in_an_error_that_ends_an_episode():
    with served_alone() as (process, url):
        remote = RemotePolicy(url, timeout=0.2, patience=0.3)
        assert remote.decide(SEEN).action[0] == 4.0
        process.kill()
        process.wait()
        with pytest.raises(NoAnswerError, match="is lost"):
            remote.decide(SEEN)
        said = []
        while isinstance(raised := failure(remote), NoAnswerError):
            said.append(str(raised))
        assert all("cannot be reached" in each for each in said)
        assert isinstance(raised, ConnectionError)
        assert str(raised).startswith(f"no answer from {url} for 0.3 s: it cannot be reached")


def test_without_patience_nothing_connects_again():
    with served_alone() as (process, url):
        remote = RemotePolicy(url, timeout=1.0, patience=0.0)
        process.kill()
        process.wait()
        with pytest.raises(ConnectionError, match=r"^no answer from ws://"):
            remote.decide(SEEN)


@pytest.mark.slow
def test_it_connects_again_to_the_same_policy_alone():
    with served_alone() as (process, url):
        port = urlparse(url).port or 0
        remote = RemotePolicy(url, timeout=5.0, patience=60.0)
        process.kill()
        process.wait()
        with pytest.raises(NoAnswerError, match="is lost"):
            remote.decide(SEEN)
        with served_alone(port):
            np.testing.assert_array_equal(remote.decide(SEEN).action, [4.0, 1.0])
        with pytest.raises(NoAnswerError, match="is lost"):
            remote.decide(SEEN)
    with (
        served(Told(spec_of(horizon=5)), port=port),
        pytest.raises(ConnectionError, match="another policy than before"),
    ):
        remote.decide(SEEN)


def test_what_refuses_it_is_said():
    with served(Told(), api_key="k") as url:
        with pytest.raises(ConnectionError, match=r"no policy server at ws://.*: it refused with HTTP 401: th"):
            RemotePolicy(url)
        with RemotePolicy(url, api_key="k", timeout=10.0) as remote:
            assert remote.decide(SEEN).action[0] == 4.0
    with pytest.raises(ConnectionError, match="it cannot be reached"):
        RemotePolicy(url)
    with pytest.raises(ValueError, match="'nowhere' is no address of a policy server, such as"):
        RemotePolicy("nowhere")
    with pytest.raises(ValueError, match="timeout is 0 s and patience 2 s"):
        RemotePolicy(url, timeout=0.0)


def test_the_specification_is_built_in_or_plain_or_given():
    own = replace(spec_of(), plain=False)
    with served(Told(own)) as url:
        with pytest.raises(ValueError, match="of task 'body', which is not known here: give control="):
            RemotePolicy(url)
        with pytest.raises(ValueError, match=r"it has horizon 4 \(here 5\)"):
            RemotePolicy(url, control=spec_of(horizon=5))
        with RemotePolicy(url, control=own, timeout=10.0) as remote:
            assert remote.control is own
            assert remote.decide(SEEN).action[0] == 4.0


def decision(action):
    return pack({"action": action, "plan": [], "scores": [], "policy_timing": {"infer_ms": 1.0}})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\xc1", "cannot be read"),
        (pack({"actions": [1.0]}), "is no decision"),
        (decision("up"), "is no decision"),
        (decision([0.0, np.nan]), "expected 2 finite numbers"),
        (decision([0.0]), "expected 2 finite numbers"),
        ("nonsense", "^nonsense$"),
    ],
)
def test_an_answer_that_is_no_decision_is_never_one(answer, said):
    def handler(connection):
        connection.send(pack(metadata_of(spec_of())))
        for _ in connection:
            connection.send(answer)

    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        try:
            with RemotePolicy(url, timeout=10.0) as remote, pytest.raises(NoAnswerError, match=said):
                remote.decide(SEEN)
        finally:
            server.shutdown()
            thread.join(10)
