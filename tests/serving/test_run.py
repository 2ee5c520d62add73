"""``onestride run --server``: the simulated robot is driven by a policy elsewhere."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from onestride.cli import main
from onestride.control import loop
from onestride.control.fallback import FallbackTimeouts
from onestride.serving import client
from onestride.serving.client import RemotePolicy
from served import Told, served


@pytest.mark.slow
def test_a_measured_run_is_driven_by_a_server(make_arm_policy, tmp_path, capsys):
    out, asked = tmp_path / "mine.json", []
    policy = make_arm_policy("student")
    decide = policy.decide
    policy.decide = lambda observation: asked.append(1) or decide(observation)
    words = [
        "run",
        "--run",
        str(tmp_path / "run"),
        "--rate",
        "50",
        "--duration",
        "0.4",
        "--stop",
        "30",
        "--out",
        str(out),
    ]
    with served(policy, name="dnk-0") as url:
        main([*words, "--server", url])
    capsys.readouterr()
    report = json.loads(out.read_text())
    assert report["rows"]["server"]["ticks"]["mean"] == 20
    assert report["config"]["server"] == {"server": url, "policy": "dnk-0"}
    assert len(asked) > 50  # those of the warm-up, and the run's


def test_a_server_of_a_task_without_a_simulated_robot_is_refused(tmp_path, capsys):
    with served(Told()) as url, pytest.raises(SystemExit, match="2"):
        main(["run", "--run", str(tmp_path / "run"), "--duration", "1", "--server", url])
    assert "serves another task: " in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_drives_the_arm_by_a_server(make_arm_policy, capsys, monkeypatch):
    example = Path(__file__).parents[2] / "examples" / "remote.py"
    drive = loop.run_episode
    # Wall time on a core that others use too: answers may take longer than an arm would wait.
    patient = FallbackTimeouts(max_observation_age=5.0, stop=5.0)
    monkeypatch.setattr(
        loop, "run_episode", lambda *given, timeout: drive(*given, timeout=1.0, fallback_timeouts=patient)
    )
    monkeypatch.setattr(client, "RemotePolicy", lambda url, **given: RemotePolicy(url, **given | {"timeout": 5.0}))
    with served(make_arm_policy("student")) as url:
        monkeypatch.setattr(sys, "argv", ["remote.py", url])
        runpy.run_path(str(example))
    (commands,) = re.findall(r"after \d\.\d+ s, (\d+) commands, refused", capsys.readouterr().out)
    assert int(commands) > 0
