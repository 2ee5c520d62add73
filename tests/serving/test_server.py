"""The policy server: who may come in, what each gets, and that nobody stops it for others."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlparse

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from onestride.robot.decision import none_finite
from onestride.serving import server
from onestride.serving.address import bind, check_key, is_loopback
from onestride.serving.messages import pack
from onestride.serving.observations import largest
from onestride.serving.server import REFUSED_IN_WORDS, PolicyServer
from served import Told, received, served, spec_of

SEEN = pack({"observation": np.array([4.0, 0.0, 0.0])})


def client(url, **options):
    """A connection that has been greeted."""
    connection = connect(url, compression=None, proxy=None, **options).__enter__()
    return connection, received(connection)


def ask(connection, message=SEEN):
    connection.send(message)
    return received(connection)["actions"]


def get(url, path):
    where = urlparse(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_client_is_told_what_is_served_and_then_answered():
    with served(Told(), name="mine") as url:
        connection, metadata = client(url)
        assert (metadata["policy"], metadata["task"], metadata["n_action_steps"]) == ("mine", "body", 1)
        assert metadata["observation"]["observation"]["shape"] == [3]
        np.testing.assert_array_equal(ask(connection), [[4.0, 1.0]])
        connection.close()


def test_clients_take_turns_and_each_has_its_own_noise():
    with served(Told(before=lambda _: time.sleep(0.002))) as url:
        found = {}

        def drive(name):
            connection, _ = client(url)
            found[name] = [ask(connection)[0, 1] for _ in range(20)]
            connection.close()

        threads = [threading.Thread(target=drive, args=(name,)) for name in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert found == {name: [1.0 + n for n in range(20)] for name in range(5)}


def test_an_error_is_one_text_frame_and_the_connection_goes_on():
    with served(Told()) as url:
        connection, _ = client(url)
        for bad in ("text", b"", b"\xc1", pack({"observation": np.zeros(4)}), pack({"observation": [np.nan, 0, 0]})):
            connection.send(bad)
            said = connection.recv(timeout=10)
            assert isinstance(said, str)
            assert "\n" not in said
            np.testing.assert_array_equal(ask(connection)[0, 0], 4.0)
        connection.close()


def test_no_plan_is_a_text_frame():
    def fails(_):
        raise none_finite(3)

    with served(Told(before=fails)) as url:
        connection, _ = client(url)
        connection.send(SEEN)
        assert connection.recv(timeout=10).startswith("no plan: none of 3 candidates is finite")
        connection.close()


def test_a_bug_ends_that_connection_without_a_traceback_and_no_other():
    broken = threading.Event()

    def fails(_):
        if broken.is_set():
            raise TypeError("line 12 of secret.py")

    with served(Told(before=fails)) as url:
        one, _ = client(url)
        other, _ = client(url)
        broken.set()
        one.send(SEEN)
        assert one.recv(timeout=10) == "the policy failed: TypeError; the server's log says where"
        with pytest.raises(ConnectionClosedError, match="1011"):
            one.recv(timeout=10)
        broken.clear()
        assert ask(other)[0, 0] == 4.0
        other.close()


def test_a_message_that_is_far_too_large_ends_the_connection():
    with served(Told()) as url:
        connection, _ = client(url)
        connection.send(pack({"observation": np.zeros(spec_of().observation_dim + 1000)}))
        assert connection.recv(timeout=10).startswith("observation refused: 'observation' has shape (1003,)")
        connection.send(bytes(largest(spec_of()) + 1))
        assert connection.recv(timeout=10).startswith(f"bad request: the message has {largest(spec_of()) + 1} bytes")
        connection.send(bytes(largest(spec_of()) + REFUSED_IN_WORDS + 1))
        with pytest.raises(ConnectionClosedError, match="1009"):
            connection.recv(timeout=10)
        assert get(url, "/healthz") == (200, b"OK\n")


def test_the_health_check_does_not_wait_for_a_decision():
    begun, go_on = threading.Event(), threading.Event()

    def waits(_):
        begun.set()
        assert go_on.wait(20)

    with served(Told(before=waits), api_key="k") as url:
        connection, _ = client(url, additional_headers={"Authorization": "Api-Key k"})
        connection.send(SEEN)
        assert begun.wait(10)
        assert get(url, "/healthz") == (200, b"OK\n")
        go_on.set()
        assert received(connection)["actions"][0, 0] == 4.0
        connection.close()


@pytest.mark.parametrize(
    "given", [[], ["Api-Key other"], ["Bearer right"], ["Api-Key rightly"], ["Api-Key right", "Api-Key other"], [""]]
)
def test_without_the_key_nobody_comes_in(given):
    headers = [("Authorization", each) for each in given]
    with served(Told(), api_key="right\n") as url:
        with pytest.raises(InvalidStatus) as refused:
            connect(url, proxy=None, additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert refused.value.response.body == b"this policy server wants a key: Authorization: Api-Key ...\n"
        connection, _ = client(url, additional_headers={"Authorization": "Api-Key right"})
        connection.close()


@pytest.mark.parametrize("key", ["", " \n", "ä", "a\nb"])
def test_a_key_that_no_header_holds_is_refused(key):
    with pytest.raises(ValueError, match="printable ASCII"):
        check_key(key)


def test_a_page_in_a_browser_does_not_come_in():
    with served(Told()) as url, pytest.raises(InvalidStatus) as refused:
        connect(url, proxy=None, origin="https://example.org")
    assert refused.value.response.status_code == 403


def test_one_client_more_than_there_may_be_is_told_so():
    with served(Told(), max_clients=2) as url:
        one, _ = client(url)
        other, _ = client(url)
        with pytest.raises(InvalidStatus) as refused:
            client(url)
        assert refused.value.response.status_code == 503
        assert b"2 clients" in refused.value.response.body
        one.close()
        third, _ = client(url)
        np.testing.assert_array_equal(ask(third), [[4.0, 1.0]])
        for connection in (other, third):
            connection.close()


def test_strangers_bytes_and_connections_that_break_disturb_nobody(capfd):
    with served(Told()) as url:
        connection, _ = client(url)
        where = urlparse(url)
        for bytes_ in (b"", b"\x16\x03\x01\x02\x00", b"GET /x HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n", b"\xff" * 9000):
            with socket.create_connection((where.hostname, where.port), timeout=10) as stranger:
                stranger.sendall(bytes_)
        for _ in range(20):  # cut off within a request, as by kill -9
            cut, _ = client(url)
            cut.send(SEEN)
            cut.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            cut.socket.shutdown(socket.SHUT_RDWR)
            assert ask(connection)[0, 0] == 4.0
        connection.close()
    assert "Traceback" not in capfd.readouterr().err


#: A client of its own process, killed while it waits for an answer.
CLIENT = """
import sys
from onestride.serving.client import RemotePolicy
remote = RemotePolicy(sys.argv[1], timeout=60.0)
print("connected", flush=True)
remote.decide([4.0, 0.0, 0.0])
"""


def test_a_client_that_is_killed_gives_its_place_back():
    begun, go_on = threading.Event(), threading.Event()

    def waits(_):
        begun.set()
        assert go_on.wait(20)

    with served(Told(before=waits), max_clients=1) as url:
        with subprocess.Popen([sys.executable, "-c", CLIENT, url], stdout=subprocess.PIPE) as process:
            assert begun.wait(20)
            process.kill()
        go_on.set()
        connection = None
        while connection is None:
            try:
                connection, _ = client(url)
            except InvalidStatus:  # the server has not heard of it yet
                time.sleep(0.01)
        np.testing.assert_array_equal(ask(connection), [[4.0, 1.0]])
        connection.close()


def test_a_decision_that_never_ends_does_not_keep_the_server_from_ending(monkeypatch):
    monkeypatch.setattr(server, "LONGEST_DECISION", 0.1)
    begun, go_on = threading.Event(), threading.Event()

    def waits(_):
        begun.set()
        assert go_on.wait(60)

    with served(Told(before=waits)) as url:
        connection, _ = client(url)
        connection.send(SEEN)
        assert begun.wait(10)
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=10)
    go_on.set()


def test_a_server_that_ends_tells_its_clients():
    with served(Told()) as url:
        connection, _ = client(url)
        assert ask(connection)[0, 0] == 4.0
    with pytest.raises(ConnectionClosedOK, match="1001"):
        connection.recv(timeout=10)


def test_a_port_in_use_is_said_in_a_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} of 127\.0\.0\.1 is in use: stop what listens there"):
            PolicyServer(Told(), port=port)
    with pytest.raises(OSError, match=r"cannot listen on port \d+ of 203\.0\.113\.7"):
        bind("203.0.113.7", 0)
    with pytest.raises(ValueError, match="port is 70000"):
        bind("127.0.0.1", 70_000)


def test_nothing_listens_before_the_policy_is_warm():
    made = PolicyServer(Told(before=lambda _: reached.append(reachable())), port=0)
    reached, port = [], urlparse(made.url).port

    def reachable():
        with socket.socket() as stranger:
            return stranger.connect_ex(("127.0.0.1", port)) == 0

    made.warm_up(calls=2)
    made.close()
    assert reached == [False, False]


def test_a_policy_that_cannot_answer_its_example_is_not_served():
    def fails(_):
        raise none_finite(3)

    made = PolicyServer(Told(before=fails), port=0)
    with pytest.raises(ValueError, match="does not answer for its example observation: no plan: none of 3"):
        made.warm_up()
    made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_what_only_this_machine_reaches(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "robot.local"])
def test_what_others_reach(host):
    assert not is_loopback(host)


def test_sigterm_ends_it():
    """In the main thread, as the program does."""
    made = PolicyServer(Told(), port=0)
    made.serve_forever(ready=lambda: os.kill(os.getpid(), signal.SIGTERM))


def test_ctrl_c_ends_it():
    made = PolicyServer(Told(), port=0)
    with pytest.raises(KeyboardInterrupt):
        made.serve_forever(ready=lambda: os.kill(os.getpid(), signal.SIGINT))
