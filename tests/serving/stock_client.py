"""What openpi's own client is made to do, in its own Python: ``python stock_client.py WHAT PORT ARGUMENTS``.

A JSON object on the last line says what it saw. This file imports nothing of onestride.
"""

from __future__ import annotations

import json
import sys

import msgpack
import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

#: What is msgpack, and no request.
ODD = [
    {"state": None},
    {"state": {}},
    {"state": [[1], [2, 3]]},
    {"state": np.zeros((3, 3))},
    {"arm": 1},
    {"endpoint": "x"},
    {"state": {b"__ndarray__": True, b"dtype": "|O", b"data": b"", b"shape": [0]}},
    [],
    7,
]
SEEN = {"observation/state": np.array([4.0, 0.0, 0.0]), "prompt": "go there"}


def refused(client, observation) -> str:
    try:
        client.infer(observation)
    except RuntimeError as error:
        return str(error)
    raise AssertionError("it was answered")


def infer(client) -> dict:
    answers = [client.infer(SEEN) for _ in range(3)]
    client.reset()  # which sends nothing
    said = refused(client, {"observation/state": np.full(3, np.nan)})
    again = client.infer(SEEN)["actions"].tolist()
    reset = client.infer({"endpoint": "reset"})
    return {
        "metadata": client.get_server_metadata(),
        "actions": [answer["actions"].tolist() for answer in answers],
        "keys": sorted(answers[-1]),
        "timing": sorted(answers[-1]["server_timing"]),
        "refused": said,
        "again": again,
        "reset": reset,
        "after": client.infer(SEEN)["actions"].tolist(),
    }


def broker(client) -> dict:
    """Four steps by chunks of three; a reset in a chunk asks anew."""
    policy = ActionChunkBroker(client, 3)
    steps = [policy.infer(SEEN) for _ in range(4)]
    policy.reset()
    steps.append(policy.infer(SEEN))
    return {"actions": [step["actions"].tolist() for step in steps], "keys": sorted(steps[0])}


def images(client) -> dict:
    rng = np.random.default_rng(0)
    seen = {
        "observation/agent": rng.uniform(0, 512, (2, 2)).astype(np.float32),
        "observation/top": rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8),
        "prompt": np.array(["push it"])[0],
    }
    actions = client.infer(seen)["actions"].tolist()
    sizes = [(2, 224, 224, 3), (2, 480, 640, 3)]
    return {
        "actions": actions,
        "refused": [refused(client, {**seen, "observation/top": np.zeros(size, np.uint8)}) for size in sizes],
    }


def requests(client, count: int) -> dict:
    """Requests with numbers of their own, each answered by its own."""
    for n in range(count):
        actions = client.infer({"state": np.array([n, 0, 0], np.float32)})["actions"]
        assert actions.tolist() == [[n, n + 1]], (n, actions)
    return {"answered": count}


def malformed(client, count: int) -> dict:
    """Frames that are no request. Each is one text frame of one line, and the connection goes on."""
    rng, whole = np.random.default_rng(0), client._packer.pack(SEEN)
    kinds: dict[str, int] = {}
    longest = answered = 0
    for n in range(count):
        frame = bytearray(whole)
        if n % 4 == 0:
            frame = bytearray(rng.bytes(rng.integers(0, 200)))
        elif n % 4 == 1:
            frame = frame[: rng.integers(0, len(frame))]
        elif n % 4 == 2:
            for at in rng.integers(0, len(frame), 3):
                frame[at] = rng.integers(0, 256)
        else:
            frame = bytearray(client._packer.pack(ODD[n // 4 % len(ODD)]))
        client._ws.send(bytes(frame) if n % 50 else "text")
        said = client._ws.recv(timeout=20)
        if isinstance(said, bytes):  # a few altered numbers are numbers still
            assert "actions" in msgpack.unpackb(said)
            answered += 1
            continue
        assert "\n" not in said, said
        assert "Traceback" not in said, said
        kinds[said.split(":")[0]] = kinds.get(said.split(":")[0], 0) + 1
        longest = max(longest, len(said))
    return {"refused": kinds, "answered": answered, "longest": longest, "after": client.infer(SEEN)["actions"].shape}


def main(what: str, port: str, *arguments: str) -> None:
    client = WebsocketClientPolicy("127.0.0.1", int(port), *arguments[1:])
    sys.stdout.write(json.dumps(globals()[what](client, *map(int, arguments[:1]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
