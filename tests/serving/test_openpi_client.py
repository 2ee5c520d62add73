"""openpi's own client, in a Python of its own (numpy < 2): ``ONESTRIDE_OPENPI_PYTHON`` names it.

python -m venv openpi && openpi/bin/pip install openpi-client typing_extensions
ONESTRIDE_OPENPI_PYTHON=openpi/bin/python pytest tests/serving/test_openpi_client.py -m ""
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest

from onestride.tasks import CONTROL_SPECS
from served import Told, served, served_alone, spec_of

PYTHON = os.environ.get("ONESTRIDE_OPENPI_PYTHON")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="ONESTRIDE_OPENPI_PYTHON names no Python with openpi-client")


def stock(what, url, *arguments):
    """What openpi's client saw."""
    command = [str(PYTHON), Path(__file__).with_name("stock_client.py"), what, str(urlparse(url).port), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_infers_is_refused_and_goes_on():
    with served(Told(), name="mine") as url:
        seen = stock("infer", url)
    assert seen["metadata"]["policy"] == "mine"
    assert seen["metadata"]["action_low"] == [-1e6, -1e6]
    assert seen["actions"] == [[[4.0, 1.0]], [[4.0, 2.0]], [[4.0, 3.0]]]
    assert seen["keys"] == ["actions", "policy_timing", "server_timing"]
    assert seen["timing"] == ["infer_ms", "prev_total_ms", "queue_ms"]
    said = (
        "Error in inference server:\nobservation refused: observation[0] is nan; check the sensor that fills this entry"
    )
    assert seen["refused"] == said
    assert seen["again"] == [[4.0, 4.0]]
    assert seen["reset"] == {"status": "reset"}
    assert seen["after"] == [[4.0, 1.0]]


def test_its_broker_hands_out_a_chunk():
    with served(Told(replace(spec_of(), n_action_steps=3))) as url:
        seen = stock("broker", url)
    assert seen["actions"] == [[4.0, 1.0], [5.0, 1.0], [6.0, 1.0], [4.0, 2.0], [4.0, 3.0]]
    assert seen["keys"] == ["actions", "policy_timing", "server_timing"]


def test_it_sends_images():
    found = []
    with served(Told(CONTROL_SPECS["pusht-image"](), before=found.append)) as url:
        seen = stock("images", url)
    assert np.shape(seen["actions"]) == (8, 2)
    rng = np.random.default_rng(0)
    agent = rng.uniform(0, 512, (2, 2)).astype(np.float32)
    top = rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(found[0], np.concatenate([agent[0], top[0].ravel(), agent[1], top[1].ravel()]))
    nearly, large = seen["refused"]
    assert "image 'top' is uint8 (2, 224, 224, 3), expected uint8 (96, 96, 3): resize or crop" in nearly
    assert "the message has 1843363 bytes, expected at most 1103908" in large


def test_it_sends_its_key():
    with served(Told(), api_key="right") as url:
        assert stock("requests", url, "3", "right") == {"answered": 3}
        with pytest.raises(AssertionError, match="HTTP 401"):
            stock("requests", url, "3", "wrong")


@pytest.mark.slow
def test_ten_thousand_requests_and_ten_thousand_malformed_frames(capfd):
    with served_alone() as (process, url):
        assert stock("requests", url, "10000") == {"answered": 10_000}
        seen = stock("malformed", url, "10000")
        assert process.poll() is None
        assert stock("requests", url, "100") == {"answered": 100}
    assert seen["refused"] > 9500
    assert seen["after"] == [1, 2]
    assert "Traceback" not in capfd.readouterr().err
