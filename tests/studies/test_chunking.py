"""Plans joined under injected latency: the study's jerk, its idle ticks, and a whole tiny measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.reports.table import cells
from onestride.robot.clock import ChargedClock
from onestride.studies import chunking
from onestride.studies.chunking import Sent, jerk, measure, table
from onestride.tasks import TASKS


def test_jerk_is_the_third_derivative():
    t = 0.1 * np.arange(20)
    sent = np.stack((2.0 * t**3, t**2), 1)
    assert jerk(sent, 0.1) == pytest.approx(12.0)
    assert jerk(sent[:3], 0.1) is None


def test_a_period_without_a_command_has_the_last_one():
    class Robot:
        read = stop = fault = None

        def write(self, command):
            pass

    clock = ChargedClock()
    robot = Sent(Robot(), clock, 0.1)
    for at, value in ((0.2, 1.0), (0.3, 2.0), (0.6, 3.0)):
        clock.sleep_until(at)
        robot.write(np.array([value]))
    assert np.concatenate(robot.commands).tolist() == [1.0, 2.0, 2.0, 2.0, 3.0]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two tiny planners of the arm, untrained; the second knows a prefix of two rows."""
    made = []
    for prefix in (0, 2):
        task = replace(TASKS["kinova"](), prefix=prefix)
        torch.manual_seed(0)
        generator = make_generator(task, "dnk", {"latent_dim": 8, "hidden": 8, "gain_hidden": 4})
        normalizer = Normalizer.empty(task.control.transition_dim, task.context_dim)
        policy = Policy(task, generator, normalizer, selector=unselected, candidates=2)
        policy.save(tmp_path / str(prefix), {})
        made.append(tmp_path / str(prefix))
    return made


@pytest.mark.slow
def test_every_execution_is_measured_at_every_latency(folders):
    record = measure(*folders, scenes=1, latencies=(0, 2), timeout=0.4)
    assert list(record["rows"]) == [
        f"{latency} rows, {name}" for latency in (0, 2) for name in chunking.EXECUTIONS
    ]  # fmt: skip
    assert record["config"]["longest_prefix"] == 2
    rows = record["rows"]
    assert rows["2 rows, synchronous"]["idle"]["mean"] > 0.1
    assert {row["success"]["mean"] for row in rows.values()} <= {0.0, 1.0}
    assert rows["2 rows, switching"]["jerk_of_switching"]["mean"] == 1.0
    assert len(cells(table(record))) >= 8


def test_a_planner_without_so_long_a_prefix_is_refused_before_any_work(folders):
    with pytest.raises(ValueError, match=r"has learnt a prefix of 2 rows, and latencies go to 3: train it"):
        measure(*folders, scenes=1, latencies=(3,))
