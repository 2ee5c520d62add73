"""A measured run: everything is accounted for, written once, and what is wrong is said before anything moves."""

import json
import signal
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from onestride.control.fallback import FallbackTimeouts
from onestride.control.log import EpisodeLog
from onestride.control.signals import ENDING
from onestride.latency import soak
from onestride.latency.fault_injection import Fault
from onestride.latency.soak import LoadedPolicy, Record, SoakConfig, run_soak
from onestride.reports.table import UNDEFINED, cells
from onestride.robot.decision import Decision
from onestride.seals import read_result
from onestride.studies import realtime
from onestride.studies.realtime import memory_growth, summary, targets, write
from onestride.tasks import TASKS
from onestride.tensors import load_tensors


class Still:
    """Decides for the point of conftest: stay."""

    def decide(self, observation: np.ndarray) -> Decision:
        return Decision(observation[:2], np.zeros((4, 4), np.float32), np.zeros((1, 4, 4)), np.zeros(1), {})


class Point:
    """Never arrives; breaks after ``life`` reads."""

    def __init__(self, clock, life) -> None:
        self.life = life

    def read(self):
        self.life -= 1
        return np.array([0.0, 0.0, 1.0, 1.0])

    def write(self, command):
        pass

    def stop(self):
        pass

    def fault(self):
        return "worn out" if self.life <= 0 else None


@pytest.fixture
def loaded(point, monkeypatch) -> LoadedPolicy:
    monkeypatch.setattr(soak, "WARM_UP", 2)
    task = replace(
        point,
        environment=lambda scene, clock: Point(clock, scene),
        first_observation=lambda scene: np.array([0.0, 0.0, 1.0, 1.0]),
    )
    return LoadedPolicy(Still(), task, {"kind": "student"})


def config(**kwargs) -> SoakConfig:
    timeouts = FallbackTimeouts(5.0, 0.1, 5.0)  # a test machine may stand still
    return SoakConfig(**{"duration": 0.3, "rate": 100.0, "fallback_timeouts": timeouts, **kwargs})


def test_scenes_follow_one_another_until_every_tick_was_there(loaded):
    lives = [11, 1, 8]  # the second ends before its first tick
    record = run_soak(loaded, lives, config(first_scene=1))
    row = {name: value["mean"] for name, value in summary(record, config()).items()}
    assert row["ticks"] == 30
    assert row["control_s"] == pytest.approx(0.3)
    assert record.outcomes["worn out"] >= 1
    assert row["scenes"] == sum(record.outcomes.values()) >= 2
    assert row["executed_steps"] + row["starved_ticks"] + record.filled == 30
    assert row["overruns"] == 30 - row["executed_steps"]
    assert row["decisions"] == record.decision_times.count >= row["executed_steps"]
    assert row["stalls"] == 0
    assert row["scenes ended: worn out"] == record.outcomes["worn out"]
    whens = record.tick_jitter.rows[:, 0]
    assert (np.diff(whens) > 0).all()  # over the scenes, since the run began


@pytest.mark.slow
def test_results_plot_and_ticks_are_written_once(loaded, tmp_path):
    settings = config(fault=Fault("busy", 0.1, 0.002))
    record = run_soak(loaded, [1000], settings)
    assert len(record.stalls) >= 1
    out = tmp_path / "deep" / "run.json"
    report = write(out, record, loaded, settings, "dnk-0", "onestride run")
    assert read_result(out) == json.loads(json.dumps(report))
    assert report["schema"] == 2
    assert report["experiment"] == "realtime-point"
    assert report["config"]["run"]["stall"] == {"kind": "busy", "every": 0.1, "length": 0.002}
    assert report["config"]["granted"]["scheduler"] == "normal"
    assert set(report["rows"]["dnk-0"]["jitter_ms_p99"]) == {"mean", "std", "n", "per_seed"}
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    tensors, _ = load_tensors(out.with_suffix(".safetensors"))
    took = 1e3 * tensors["decided"][:, 1].double().numpy()
    assert np.percentile(took, 99) == pytest.approx(report["rows"]["dnk-0"]["decision_ms_p99"]["mean"], rel=1e-5)
    with pytest.raises(FileExistsError, match=r"holds run.json, run.png, run.safetensors already"):
        targets(out)


@pytest.mark.slow
def test_a_report_that_cannot_be_written_leaves_nothing_to_refuse_the_next(loaded, tmp_path, monkeypatch):
    record = run_soak(loaded, [1000], config())

    def full(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(realtime, "save", full)
        with pytest.raises(OSError, match="disk is full"):
            write(tmp_path / "run.json", record, loaded, config(), "dnk-0", "onestride run")
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "run.json", record, loaded, config(), "dnk-0", "onestride run")


def test_a_task_without_a_simulated_robot_is_refused(loaded):
    for scenes, task in (([], loaded.task), ([1], replace(loaded.task, environment=lambda scene, clock: None))):
        with pytest.raises(ValueError, match="no simulated robot"):
            run_soak(replace(loaded, task=task), scenes, config())


def test_scenes_that_end_before_they_begin_end_the_run(loaded):
    with pytest.raises(ValueError, match="the last one ended: worn out"):
        run_soak(loaded, [1, 1], config())


@pytest.mark.parametrize("ends", [True, False])
def test_signals_have_their_earlier_handlers_when_it_is_over(loaded, ends):
    before = [signal.getsignal(number) for number in ENDING]
    with nullcontext() if ends else pytest.raises(ValueError, match="worn out"):
        run_soak(loaded, [11 if ends else 1], config(duration=0.05))
    assert [signal.getsignal(number) for number in ENDING] == before


@pytest.mark.slow
def test_what_ends_a_run_early_takes_nothing_of_what_was_measured(loaded, tmp_path):
    class Stopped(Point):
        def read(self):
            if self.life == 1:
                raise KeyboardInterrupt
            return super().read()

    task, settings = replace(loaded.task, environment=lambda scene, clock: Stopped(clock, scene)), config()
    record = Record(settings)
    with pytest.raises(KeyboardInterrupt):
        run_soak(replace(loaded, task=task), [12], settings, record)
    assert 5 <= record.ticks < 30  # a late tick reads twice
    assert record.outcomes == {"ended by KeyboardInterrupt": 1}
    assert 0.05 <= record.wall_s < 5
    report = write(tmp_path / "run.json", record, loaded, settings, "dnk-0", "onestride run")
    assert report["notes"][0] == f"Ended by KeyboardInterrupt, {record.ticks} of 30 ticks were driven."
    assert report["rows"]["dnk-0"]["ticks"]["mean"] == record.ticks


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": -5.0}, "rate is -5"),
        ({"duration": 0.0}, "duration is 0"),
        ({"duration": float("nan")}, "duration is nan"),
        ({"timeout": -1.0}, "timeout is -1"),
        ({"first_scene": -1}, "scene is -1"),
        ({"fallback_timeouts": FallbackTimeouts(0.005, 0.1, 0.5)}, "allow at least one period"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        config(**wrong)


def test_percentiles_and_counts_in_closed_form():
    settings = config(duration=1.0)
    record, log = Record(settings), EpisodeLog(100)
    for k in range(100):
        log.tick_jitter.add(0.01 * k, 1e-3 * k * (-1) ** k)
        log.decision_times.add(0.01 * k, 2e-3)
    log.ticks, log.executed, log.overruns, log.filled, log.dropped = 100, 90, 10, 7, 2
    for k in range(97):
        log.mark_sent(0.01 * k + 0.004, 0.01)
    log.late.update({"plan": 5, "hold": 2})
    log.refused.update({"no plan": 1})
    record.add(log)
    row = {name: value["mean"] for name, value in summary(record, settings).items()}
    assert row["control_hz"] == pytest.approx(90.0)
    assert (row["overrun_ratio"], row["starved_ticks"], row["dropped_decisions"]) == (0.1, 3, 2)
    assert (row["late_plan"], row["late_hold"], row["late_stop"]) == (5, 2, 0)
    assert row["held: no plan"] == row["held_commands"] == 1
    assert row["jitter_ms_p50"] == pytest.approx(49.5)
    assert row["jitter_ms_max"] == pytest.approx(99.0)
    assert row["headroom_p99"] == pytest.approx(0.8)
    assert row["rss_growth_percent"] is None


def test_memory_growth_is_between_the_two_ends():
    mb = np.concatenate((np.full(10, 100.0), [500.0], np.full(180, 150.0), np.full(10, 101.0)))
    assert memory_growth(mb) == (100.0, 101.0, pytest.approx(1.0))
    assert memory_growth(np.array([1.0, 2.0])) == (None, None, None)
    assert memory_growth(np.full(50, np.nan)) == (None, None, None)


def test_memory_taken_for_a_run_does_not_grow_with_its_ticks(loaded):
    settings = config()
    record = Record(settings)
    shapes = [
        ring._rows.shape for ring in (record.decision_times, record.tick_jitter, record.command_age, record.memory)
    ]
    for _ in range(100):
        log = EpisodeLog(50)
        log.tick_jitter.extend(np.zeros((50, 2)))
        record.add(log)
    assert [
        ring._rows.shape for ring in (record.decision_times, record.tick_jitter, record.command_age, record.memory)
    ] == shapes


def test_the_simulated_cheetah_keeps_its_own_time(monkeypatch):
    """Decided at 100 Hz, the body still takes a step every 50 ms."""
    monkeypatch.setattr(soak, "WARM_UP", 2)

    class Zero:
        def decide(self, observation: np.ndarray) -> Decision:
            return Decision(np.zeros(6), np.zeros((4, 23), np.float32), np.zeros((1, 4, 23)), np.zeros(1), {})

    robots = []
    task = TASKS["halfcheetah-v5"]()
    made = task.environment

    def environment(scene, clock):
        robots.append(made(scene, clock))
        return robots[-1]

    loaded = LoadedPolicy(Zero(), replace(task, environment=environment), {})
    record = run_soak(loaded, task.scenes(2, 0), config(duration=0.25))
    assert record.ticks == 25
    assert robots[-1].steps <= 5


def test_reports_are_shown_a_line_each_and_what_was_not_measured_is_a_dash():
    row = {column.metric: {"mean": 2.0} for column in realtime.COLUMNS} | {"rss_growth_percent": {"mean": None}}
    row |= {f"{realtime.ENDED}{outcome}": {"mean": count} for outcome, count in (("arrived", 7), ("timeout", 1))}
    decider = {"engine": "onnx, 1 thread: p90 1 ms at the start"}
    report = {"rows": {"dnk-0": row}, "config": {"dnk-0": decider, "run": {"rate": 20.0}}}
    header, line = cells(realtime.table({"cheetah": report}))
    assert len(header) == len(line) == len(realtime.COLUMNS) + 1
    assert line[:5] == ["cheetah", "onnx, 1 thread", "20", "7 arrived, 1 timeout", "2"]
    assert line[-1] == UNDEFINED
