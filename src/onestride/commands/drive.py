"""A checkpoint on its way to the robot: driving, exporting, timing."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from onestride.commands.base import PRESET, Common
from onestride.control.fallback import FallbackTimeouts
from onestride.control.signals import Signals
from onestride.engine.folder import Backend, Format
from onestride.engine.native import Precision
from onestride.errors import command_line
from onestride.robot.control_spec import no_goal
from onestride.runs import presets
from onestride.runs.settings import BenchConfig
from onestride.runs.trained import trained_folder
from onestride.serving.address import KEY

if TYPE_CHECKING:
    from onestride.latency.soak import LoadedPolicy, SoakConfig
    from onestride.tasks.task import Task

#: A scene's number is below this: those before it are made too.
SCENES = 10_000
#: A start farther from the data than so many of their own distances is worth a warning.
FAR = 3.0
#: What drives where nothing is named: a folder of the run.
USUAL = "dnk-0"
#: How an episode ends that nothing ended: the loop's word, and a Gymnasium environment's.
TIME_IS_UP = ("timeout", "time is up")


@dataclass(frozen=True)
class Run(Common):
    """Drive the task's simulated robot with a checkpoint, in real time, and say what happened.

    One scene:       onestride run --run runs/demo --scene 3
    Ten minutes:     onestride run --run runs/demo --rate 100 --duration 600

    With --duration the loop is measured: scenes follow one another, inference is asynchronous, and when a decision
    is late the robot gets the rest of the last plan, then slows down and holds, then is stopped for good. Commands
    that are stale or out of limits are never sent; everything is counted. A report (.json), a plot (.png) and every
    tick's times (.safetensors) are written at the end. Ctrl-C stops the robot; what was driven is written.
    """

    resumes: ClassVar[bool] = False
    sized: ClassVar[bool] = False
    doing: ClassVar[str] = "loading what drives the robot"

    method: str | None = None
    """Which of the run's policies drives: a method, for the first of its seeds, or a folder such as dnk-1. None:
    dnk-0."""
    checkpoint: Path | None = None
    """The folder of a trained policy, or of an exported engine, instead of one of the run's."""
    server: str | None = None
    """With --duration: drive by a policy server instead (`onestride serve`), such as ws://127.0.0.1:8000.
    $ONESTRIDE_API_KEY is its key."""
    engine: Backend | None = None
    """Run a policy as one graph: auto measures what is fastest here; native and native-int8 (built by this machine's
    C compiler), onnx, onnx-int8, openvino, torch, compile; with --device cuda: cuda-graph, cuda-graph-tf32,
    cuda-graph-bf16, and compile as a graph too."""
    scene: int = 0
    """Which of the evaluation scenes; with --duration, the first of them."""
    clock: Literal["real", "charged"] = "real"
    """real: wall time; charged: simulated time pays for each decision (one scene only)."""
    timeout: float = 60.0
    """A scene is given up after so long [s]."""
    device: str = "cpu"
    duration: float | None = None
    """Measure the loop for so long [s]; 600 for the ten-minute proof."""
    rate: float | None = None
    """Decisions per second [Hz], with --duration. None: the task's own rate."""
    max_observation_age: float | None = None
    """Nothing computed from an observation older than this is sent [s]; at least one period, 1 / rate. None: 0.1, or
    3.5 periods if that is longer."""
    deceleration_time: float | None = None
    """After the last plan has expired, slow down to hold in so long [s]. None: 0.1, or 2 periods."""
    stop: float | None = None
    """Without a fresh decision for so long, stop the robot for good [s]; the next scene follows. None: 0.5, or 5
    periods."""
    realtime: bool = False
    """Ask for real-time scheduling (SCHED_FIFO) and switch the garbage collector off while the robot moves. Needs
    root or CAP_SYS_NICE; the report says what was granted."""
    out: Path | None = None
    """The report's file. None: realtime/<checkpoint>-<rate>hz-<time>.json beside the checkpoint. Nothing is
    overwritten."""

    def __call__(self) -> None:
        if not 0 <= self.scene < SCENES:
            raise ValueError(f"scene is {self.scene}, expected 0 to {SCENES - 1}")
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout:g}, expected a positive number of seconds")
        if self.duration is not None:
            self._soak(self.duration)
            return
        for name in ("server", "rate", "max_observation_age", "deceleration_time", "stop", "realtime", "out"):
            if getattr(self, name) is not None and getattr(self, name) is not False:
                raise ValueError(
                    f"--{name.replace('_', '-')} belongs to a measured run; give --duration with it, in seconds"
                )
        from onestride.evaluation.rollouts import run_trial
        from onestride.latency.soak import load_policy_or_engine
        from onestride.policy.policy import Policy
        from onestride.progress import console

        loaded = load_policy_or_engine(self._folder(), self.device, self.engine)
        policy, task = loaded.decider, loaded.task
        if "engine" in loaded.about:
            console.print(f"engine: {loaded.about['engine']}", highlight=False)
        scene = task.scenes(self.scene + 1, 0)[self.scene]
        first = task.first_observation(scene)
        far = policy.unfamiliarity(first) if isinstance(policy, Policy) else None
        if far is not None and far > FAR:
            console.print(
                f"this start is unlike the data: its nearest there is {far:.1f} times as far away as theirs are from "
                "one another (in key space: what a plan is told). The plan may be anything",
                highlight=False,
            )
        policy.warm_up(first)
        record, _ = run_trial(policy, task, scene, self.scene, timeout=self.timeout, real_clock=self.clock == "real")
        print(json.dumps(_said_of(record, task), indent=2))

    def _folder(self) -> Path:
        """Return the folder of what drives."""
        if self.method is None:
            return self.checkpoint or self.run / USUAL
        if self.checkpoint is not None:
            raise ValueError("--checkpoint says what drives; leave --method away")
        return trained_folder(self.run, self.method)

    @contextmanager
    def _loaded(self) -> Iterator[tuple[Path, LoadedPolicy[Any]]]:
        """What decides in a measured run, and the folder that the run is called after."""
        from onestride.latency import soak

        if self.server is None:
            folder = self._folder()
            yield folder, soak.load_policy_or_engine(folder, self.device, self.engine)
            return
        if self.method or self.checkpoint is not None or self.engine is not None or self.device != "cpu":
            raise ValueError("--server says what decides; leave --checkpoint, --engine, --device and --method away")
        loaded = soak.connect_to(self.server, os.environ.get(KEY))
        with loaded.decider:
            yield self.run / "server", loaded

    def _soak(self, duration: float) -> None:
        """Everything that can be wrong is said before anything moves."""
        if self.clock != "real":
            raise ValueError("--duration measures wall time; leave --clock charged away")
        if self.rate is not None:  # before a checkpoint is loaded
            self._config(duration, self.rate)
        with self._loaded() as (folder, loaded):
            self._measure(duration, folder, loaded)

    def _config(self, duration: float, rate: float) -> SoakConfig:
        from onestride.latency.soak import SoakConfig

        period = 1 / rate if rate > 0 else 0.0
        timeouts = FallbackTimeouts.at(period, self.max_observation_age, self.deceleration_time, self.stop)
        return SoakConfig(duration, rate, timeouts, self.timeout, self.scene, realtime=self.realtime)

    def _measure(self, duration: float, folder: Path, loaded: LoadedPolicy[Any]) -> None:
        from onestride.control.realtime import ADVICE
        from onestride.latency import soak
        from onestride.progress import console
        from onestride.studies import realtime

        if "engine" in loaded.about:
            console.print(f"engine: {loaded.about['engine']}", highlight=False)
        learnt = 1 / loaded.task.control.control_dt
        config = self._config(duration, learnt if self.rate is None else self.rate)
        if not math.isclose(config.rate, learnt):
            console.print(
                f"{loaded.task.name}'s plans have learnt {learnt:g} Hz: at {config.rate:g} Hz this measures time, not "
                "how well the robot does",
                highlight=False,
            )
        name = f"{folder.name}-{config.rate:g}hz-{time.strftime('%Y%m%d-%H%M%S')}.json"
        out = self.out or folder.parent / "realtime" / name
        realtime.targets(out)
        scenes = loaded.task.scenes(max(soak.SCENES, self.scene + 1), 0)
        record, closing = soak.Record(config), Signals()
        try:
            soak.run_soak(loaded, scenes, config, record, closing)
        finally:  # what ended it early, Ctrl-C or the robot's driver, takes nothing of what was measured
            closing.watch()
            closing.wait()  # an impatient second signal neither
            try:
                if record.ticks:
                    metrics = {name: value["mean"] for name, value in realtime.summary(record, config).items()}
                    print(json.dumps(metrics, indent=2))  # first: a disk may be full
                    realtime.write(out, record, loaded, config, folder.name, command_line())
                    console.print(f"scheduling: {record.granted['scheduler']}. {ADVICE}", highlight=False)
                    print(f"results: {out.with_suffix('.json')}\nplot:    {out.with_suffix('.png')}")
            finally:
                closing.leave()


def _said_of(record: dict[str, Any], task: Task) -> dict[str, Any]:
    """Return what of a trial is printed.

    Not success, the time to it or a normalised return, of a task that has no such thing.
    """
    hidden = {"decision_ms"}
    if task.benchmark is not None and not task.benchmark.referenced:
        hidden |= {"return_normalised"}
    if task.control.goal_reached is no_goal:
        hidden |= {"completion_time_s"}
        hidden |= set() if any(metric.name == "success" for metric in task.metrics) else {"success"}
        hidden |= {"outcome"} if record["outcome"] in TIME_IS_UP else set()
    return {name: value for name, value in record.items() if name not in hidden}


@dataclass(frozen=True)
class Export:
    """Write a student's whole decision as one folder that runs without this library.

    onnx:    one graph, for ONNX Runtime.
    native:  a program and the C files that run it, for a C compiler alone; the fastest on a CPU.
    """

    doing: ClassVar[str] = "exporting {checkpoint} to {out}"

    checkpoint: tyro.conf.Positional[Path] = Path()
    """A trained student's folder, such as runs/demo/dnk-0."""
    out: Path = Path("exported")
    """Where to; what is there is not overwritten."""
    task: str | None = None
    """The checkpoint's task, where it comes from FILE.py:NAME or MODULE:NAME."""
    format: Format = "onnx"
    selector: Path | None = None
    """Another learned selector than the checkpoint's own, such as runs/mine/iql."""
    precision: Precision = "float32"
    """int8: large products in 8 bits: faster, and not quite the same actions; how far off is measured and written
    down."""
    candidates: int | None = None
    """Candidates per decision. None: the checkpoint's."""
    plan: bool = True
    """Also give the winner's whole plan, which a control loop may follow while the next decision is late."""
    draws: int = 64
    """For how many decisions there is noise of its own before it comes round again."""
    seed: int = 0
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.checkpoint import load_config
        from onestride.engine.export import export
        from onestride.hub.card import results_of
        from onestride.policy.policy import Policy

        policy = Policy.from_pretrained(self.checkpoint, selector=self.selector, candidates=self.candidates)
        found = export(
            policy,
            self.out,
            form=self.format,
            precision=self.precision,
            draws=self.draws,
            seed=self.seed,
            checkpoint=self.checkpoint,
            plan=self.plan,
            results=results_of(self.checkpoint.resolve().parent, load_config(self.checkpoint)),
        )
        print(f"{self.out}: {found.same_winner} of {found.decisions} decisions have the policy's winner", end="")
        print(f" ({found.ties} others are ties); action error p50 {found.action_error_p50:.1e}, ", end="")
        print(f"max {found.action_error_max:.1e} (1: half the limits' range)")
        print(f"  python {self.out / 'example.py'}")


@dataclass(frozen=True)
class Bench:
    """Measure what a decision costs: teacher, student and engine in turns, beside the machine's ceilings."""

    doing: ClassVar[str] = "timing decisions; untrained policies have the sizes of preset {preset}"

    run: Path | None = None
    """Trained policies. None: untrained ones of the preset's sizes."""
    preset: str = PRESET
    device: str = "cpu"
    """cuda: everything decides on the GPU, the engine as a CUDA graph."""
    bench: BenchConfig = field(default_factory=BenchConfig)
    out: Path | None = None
    """Where to write the record, such as results/bench/mine.json; what is there is not overwritten."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.latency.bench import bench
        from onestride.studies.bench import lines

        def show(record: dict[str, Any]) -> None:
            print("\n".join([*lines(record), *record["notes"]]), flush=True)

        bench(self.run, presets.load(self.preset), self.bench, command_line(), self.out, self.device, show)
