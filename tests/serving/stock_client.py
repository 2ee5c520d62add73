"""What openpi's own client is made to do, in its own Python: ``python stock_client.py WHAT PORT ARGUMENTS``.

A JSON object on the last line says what it saw. This file imports nothing of onestride.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

sys.path.insert(0, str(Path(__file__).parents[1]))
from malformed import Tally, frames

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
    tally = Tally()
    for frame in frames(client._packer.pack(SEEN), count):
        client._ws.send(frame)
        tally.add(client._ws.recv(timeout=20))
    tally.check(count)
    return {"refused": sum(tally.refused.values()), "after": client.infer(SEEN)["actions"].shape}


def main(what: str, port: str, *arguments: str) -> None:
    client = WebsocketClientPolicy("127.0.0.1", int(port), *arguments[1:])
    sys.stdout.write(json.dumps(globals()[what](client, *map(int, arguments[:1]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
