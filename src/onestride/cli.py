"""The ``onestride`` program: one command per stage, and ``quickstart`` for all of them.

Every command works on one run folder and may be repeated: what is finished is left alone, what was killed
goes on. ``--preset`` fills in everything else; every single value can be given on top.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Union

import tyro

from onestride import presets
from onestride.control.ladder import Patience
from onestride.control.stall import Stall
from onestride.diffusion.edm import EDMConfig
from onestride.diffusion.planner import TeacherConfig
from onestride.diffusion.returns import ReturnConfig
from onestride.engine.engine import Backend
from onestride.presets import BenchConfig, EvaluateConfig, Preset, ReturnsConfig
from onestride.selectors.iql import IQLConfig
from onestride.students.consistency import ConsistencyConfig
from onestride.students.koopman import KoopmanConfig
from onestride.students.pairs import PairsConfig
from onestride.training import TrainConfig

if TYPE_CHECKING:
    from onestride.experiment import Outcome

RUN = Path("runs/demo")


@dataclass(frozen=True)
class Common:
    """What every stage takes."""

    run: Path = RUN
    """Folder of this run: data, checkpoints and results live below it."""
    preset: str = "demo"
    """Where the other defaults come from: tiny, demo, full or paper (the arm); halfcheetah-small and others."""
    dry_run: bool = False
    """Print the resolved settings and stop."""


@dataclass(frozen=True)
class Collect(Common):
    """Make episodes: the arm's planner in random scenes, or behaviour policies in a benchmark's environment."""

    task: str = "kinova"
    amount: int = 0
    """Episodes of the arm's planner; steps of behaviour policies, as many of each."""
    behaviours: tuple[Path, ...] = ()
    """Trained actors: .npz, or Stable-Baselines3 .zip (SAC, TQC, PPO; only numbers are read)."""
    seed: int = 0

    def __call__(self) -> None:
        from onestride import pipeline
        from onestride.experiment import task_named

        task = task_named(self.task)
        if task.benchmark is None:
            report = pipeline.plan_stage(self.run, self.amount, self.seed)
        else:
            report = pipeline.behaviour_stage(self.run, task, self.behaviours, self.amount, self.seed)
        rates = f"{report['episodes_per_s']:.0f} episodes/s, {report['steps_per_s']:.0f} steps/s"
        print(f"{self.run / 'data'}: {rates}")
        for name, count in sorted(report["counts"].items()):
            print(f"  {count:7d}  {name}")


@dataclass(frozen=True)
class Import(Common):
    """Bring your own episodes: a D4RL .hdf5, a Minari or LeRobot v3 dataset's folder, or an .npz of flat arrays."""

    path: tyro.conf.Positional[Path] = Path()
    task: str = "kinova"
    """What they are of, such as halfcheetah-v4 for D4RL's own files."""

    def __call__(self) -> None:
        from onestride.experiment import task_named
        from onestride.pipeline import bring_stage

        report = bring_stage(self.run, task_named(self.task), self.path)
        print(f"{self.run / 'data'}: {report['total_episodes']} episodes, {report['total_steps']} steps")


@dataclass(frozen=True)
class Returns(Common):
    """Train the return model, which ranks plans and guides the teacher (tasks whose selector is learnt)."""

    returns: ReturnConfig = field(default_factory=ReturnConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.pipeline import returns_stage

        print(f"return model: {returns_stage(self.run, self.returns, self.training)}")


@dataclass(frozen=True)
class Critic(Common):
    """Train the IQL critic, which ranks plans by their first action (tasks whose selector is learnt)."""

    iql: IQLConfig = field(default_factory=IQLConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.pipeline import critic_stage

        print(f"critic: {critic_stage(self.run, self.iql, self.training)}")


@dataclass(frozen=True)
class Teacher(Common):
    """Train the diffusion teacher on the run's episodes."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    guidance: float = 0.0
    """Weight of the return model's gradient at every reverse step, where the run has one."""

    def __call__(self) -> None:
        from onestride.pipeline import teacher_stage

        print(f"teacher: {teacher_stage(self.run, self.teacher, self.training, self.guidance)}")


@dataclass(frozen=True)
class Pairs(Common):
    """Let the teacher turn stored noise into plans: what students learn from."""

    pairs: PairsConfig = field(default_factory=PairsConfig)
    device: str = "cpu"

    def __call__(self) -> None:
        from onestride.pipeline import pairs_stage

        print(f"pairs: {pairs_stage(self.run, self.pairs, self.device)}")


@dataclass(frozen=True)
class Distill(Common):
    """Train one student on the run's pairs; ``--student.operator`` chooses dnk, kdm, kdm-f or mlp."""

    student: KoopmanConfig = field(default_factory=KoopmanConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.pipeline import distill_stage

        print(f"student: {distill_stage(self.run, self.student, self.training)}")


@dataclass(frozen=True)
class Edm(Common):
    """Train the EDM-preconditioned teacher that CD learns from."""

    edm: EDMConfig = field(default_factory=EDMConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    horizon: int = 1
    """Rows of a plan; 1 is an action-level policy, as in the paper's table."""

    def __call__(self) -> None:
        from onestride.pipeline import edm_stage

        print(f"EDM teacher: {edm_stage(self.run, self.edm, self.training, self.horizon)}")


@dataclass(frozen=True)
class Consistent(Common):
    """Train a consistency student: ``--student.method ct`` from data, ``cd`` from the EDM teacher."""

    student: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    horizon: int = 1
    """Rows of a plan; 1 is an action-level policy, as in the paper's table."""

    def __call__(self) -> None:
        from onestride.pipeline import consistency_stage

        print(f"student: {consistency_stage(self.run, self.student, self.training, self.horizon)}")


@dataclass(frozen=True)
class Evaluate(Common):
    """Compare the run's teacher with its students on the same problems; write results, figures and report."""

    evaluate: tyro.conf.AvoidSubcommands[EvaluateConfig | ReturnsConfig] = field(default_factory=EvaluateConfig)
    device: str = "cpu"
    pictures: bool = True
    """Also make figures and film."""
    publish: Path | None = None
    """Also put results, records and pictures here, such as results/kinova; what is there is not overwritten."""

    def __call__(self) -> None:
        from onestride import experiment

        files = experiment.published(self.publish, self._dataset()) if self.publish is not None else {}
        outcome = experiment.evaluate(self.run, self.evaluate, _command(), self.device, self.pictures)
        _say(outcome)
        experiment.publish(outcome.folder, files)

    def _dataset(self) -> str | None:
        """What a benchmark's results are called: the folder of the run."""
        return self.run.name if isinstance(self.evaluate, ReturnsConfig) else None


@dataclass(frozen=True)
class Run(Common):
    """Drive the task's simulated robot with a checkpoint, in real time, and say what happened.

    One scene:       onestride run --run runs/demo --scene 3
    Ten minutes:     onestride run --run runs/demo --rate 100 --duration 600
    ... disturbed:   add --stall busy:2:0.05, gil:2:0.05 or pause:2:0.3

    With --duration the loop is measured: scenes follow one another, decisions are made beside the loop, and when one
    is late the robot gets the rest of the last plan, then slows down and holds, then is stopped for good. Commands
    that are stale or out of limits are never sent; everything is counted. A report (.json), a plot (.png) and every
    tick's times (.safetensors) are written at the end. Ctrl-C stops the robot; then nothing is written.
    """

    checkpoint: Path | None = None
    """The folder of a trained policy, or of an exported engine; default: the run's dnk-0."""
    engine: Backend | None = None
    """Run a policy as one graph: auto measures what is fastest here; onnx, onnx-int8, torch, compile, cuda-graph."""
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
    """Decisions per second [Hz], with --duration; default: the task's own rate."""
    expiry: float = Patience.expiry
    """Nothing computed from an observation older than this is sent [s]; at least one period, 1 / rate."""
    fade: float = Patience.fade
    """After the last plan has expired, slow down to hold in so long [s]."""
    stop: float = Patience.stop
    """Without a fresh decision for so long, stop the robot for good [s]; the next scene follows."""
    stall: str | None = None
    """Disturb on purpose, KIND:EVERY:LENGTH [s]: busy (the deciding thread burns a core), gil (another thread blocks
    Python) or pause (the process is stopped and continued; an interactive shell takes that for Ctrl-Z, so put
    `setsid -w` before the command)."""
    realtime: bool = False
    """Ask for real-time scheduling (SCHED_FIFO) and switch the garbage collector off while the robot moves. Needs
    root or CAP_SYS_NICE; the report says what was granted."""
    out: Path | None = None
    """The report's file; default: realtime/<checkpoint>-<rate>hz-<time>.json in the run. Nothing is overwritten."""

    def __call__(self) -> None:
        if self.duration is not None:
            self._endure(self.duration)
            return
        for name in ("rate", "stall", "realtime", "out"):
            if getattr(self, name) is not None and getattr(self, name) is not False:
                raise ValueError(f"--{name} belongs to a measured run; give --duration with it, in seconds")
        from onestride.evaluation.endurance import load_decider
        from onestride.evaluation.rollouts import run_trial
        from onestride.progress import console

        loaded = load_decider(self.checkpoint or self.run / "dnk-0", self.device, self.engine)
        policy = loaded.decider
        if "engine" in loaded.about:
            console.print(f"engine: {loaded.about['engine']}", highlight=False)
        scene = policy.task.scenes(self.scene + 1, 0)[self.scene]
        policy.warm_up(policy.task.first_observation(scene))
        record, _ = run_trial(policy, scene, self.scene, timeout=self.timeout, real_clock=self.clock == "real")
        del record["decision_ms"]
        print(json.dumps(record, indent=2))

    def _endure(self, duration: float) -> None:
        """Everything that can be wrong is said before anything moves."""
        from onestride.control.realtime import ADVICE
        from onestride.evaluation import endurance
        from onestride.progress import console

        if self.clock != "real":
            raise ValueError("--duration measures wall time; leave --clock charged away")
        stall = Stall.parse(self.stall) if self.stall is not None else None
        patience = Patience(self.expiry, self.fade, self.stop)
        if self.rate is not None:  # before a checkpoint is loaded
            endurance.EnduranceConfig(duration, self.rate, self.timeout, self.scene, patience, stall, self.realtime)
        folder = self.checkpoint or self.run / "dnk-0"
        loaded = endurance.load_decider(folder, self.device, self.engine)
        if "engine" in loaded.about:
            console.print(f"engine: {loaded.about['engine']}", highlight=False)
        rate = 1 / loaded.task.control_dt if self.rate is None else self.rate
        config = endurance.EnduranceConfig(duration, rate, self.timeout, self.scene, patience, stall, self.realtime)
        name = f"{folder.name}-{rate:g}hz-{time.strftime('%Y%m%d-%H%M%S')}.json"
        out = self.out or folder.parent / "realtime" / name
        endurance.targets(out)
        scenes = loaded.task.scenes(max(endurance.SCENES, self.scene + 1), 0)
        record = endurance.endure(loaded, scenes, config)
        report = endurance.write(out, record, loaded, config, folder.name, _command())
        metrics = {name: value["mean"] for name, value in report["rows"][folder.name].items()}
        print(json.dumps(metrics, indent=2))
        console.print(f"scheduling: {record.granted['scheduler']}. {ADVICE}", highlight=False)
        print(f"results: {out.with_suffix('.json')}\nplot:    {out.with_suffix('.png')}")


@dataclass(frozen=True)
class Export:
    """Write a student's whole decision as one graph that ONNX Runtime runs without this library."""

    checkpoint: tyro.conf.Positional[Path] = Path()
    """A trained student's folder, such as runs/demo/dnk-0."""
    out: Path = Path("exported")
    """Where to; what is there is not overwritten."""
    format: Literal["onnx"] = "onnx"
    selector: Path | None = None
    """Another learned selector than the checkpoint's own, such as runs/mine/iql."""
    int8: bool = False
    """Large products in 8 bits: faster, and not quite the same actions; how far off is measured and written down."""
    candidates: int | None = None
    """Candidates per decision; default: the checkpoint's."""
    plan: bool = True
    """Also give the winner's whole plan, which a control loop may follow while the next decision is late."""
    draws: int = 64
    """For how many decisions there is noise of its own before it comes round again."""
    seed: int = 0
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.control.policy import Policy
        from onestride.engine.export import export

        policy = Policy.from_pretrained(self.checkpoint, selector=self.selector, candidates=self.candidates)
        found = export(
            policy,
            self.out,
            int8=self.int8,
            draws=self.draws,
            seed=self.seed,
            checkpoint=self.checkpoint,
            plan=self.plan,
        )
        print(f"{self.out}: {found.same_winner} of {found.decisions} decisions have the policy's winner", end="")
        print(f" ({found.ties} others are ties); action error p50 {found.action_error_p50:.1e}, ", end="")
        print(f"max {found.action_error_max:.1e} (1: half the limits' range)")
        print(f"  python {self.out / 'example.py'}")


@dataclass(frozen=True)
class Bench:
    """Measure what a decision costs: teacher, student and engine in turns, beside the machine's ceilings."""

    run: Path | None = None
    """Trained policies; default: untrained ones of the preset's sizes."""
    preset: str = "demo"
    bench: BenchConfig = field(default_factory=BenchConfig)
    out: Path | None = None
    """Where to write the record, such as results/bench/mine.json; what is there is not overwritten."""
    dry_run: bool = False
    """Print the resolved settings and stop."""

    def __call__(self) -> None:
        from onestride.evaluation.bench import bench, lines

        record = bench(self.run, presets.load(self.preset), self.bench, _command(), self.out)
        print("\n".join([*lines(record), *record["notes"]]))


@dataclass(frozen=True)
class Quickstart(Common):
    """Everything from nothing: data, selectors, teacher, pairs, students, evaluation; ends with table and report."""

    behaviours: tuple[Path, ...] = ()
    """Behaviour policies to collect with, where the preset's task is a benchmark (see `onestride collect`)."""
    device: str = "cpu"
    pictures: bool = True

    def __call__(self) -> None:
        from onestride import experiment
        from onestride.progress import console

        began = time.monotonic()
        preset = presets.load(self.preset)
        console.print(f"[bold]{self.preset}[/bold]: {preset.about}")
        console.print(f"Everything goes to {self.run}; stop it and repeat the command as you like.", highlight=False)
        experiment.make(self.run, preset, self.behaviours, self.device)
        _say(experiment.evaluate(self.run, preset.evaluate, _command(), self.device, self.pictures))
        minutes = (time.monotonic() - began) / 60
        print(f"\nDone in {minutes:.1f} minutes. What to try next:")
        if preset.selectors is not None:  # a benchmark of returns
            print(f"  open {self.run / 'report.html'}")
            print(f"  onestride run --run {self.run}            the student drives the body in real time")
            print("  onestride reproduce ablations --help           what each piece of DNK adds")
            return
        print(f"  open {self.run / 'report.html'}")
        print(f"  onestride run --run {self.run} --scene 3            the student drives the arm in real time")
        print(f"  onestride distill --run {self.run} --student.operator kdm   an ablation is one flag; then evaluate")
        print("  onestride quickstart --preset full --run runs/full   the committed results")


@dataclass(frozen=True)
class Reproduce(Common):
    """A paper's table from nothing: data, training, evaluation, figures, films and page in one command."""

    what: tyro.conf.Positional[Literal["table1", "ablations"]] = "table1"
    """table1: DNK's Table I. ablations: DNK with one piece taken away at a time, after table1 of the same run."""
    run: Path = Path("runs/table1")
    task: str = "halfcheetah-medium-expert"
    """The dataset: halfcheetah, walker2d or hopper, then -medium-expert or whatever your data is."""
    budget: Literal["small", "full"] = "small"
    """small: two CPU cores. full: the paper's sizes and 5 x 500 episodes, a GPU's work."""
    behaviours: tuple[Path, ...] = ()
    """Behaviour policies to collect with, as many steps of each (see `onestride collect`)."""
    data: Path | None = None
    """Or data that is there already (see `onestride import`), recorded in the v5 environment."""
    publish: Path | None = None
    """Also put the results here, such as results/locomotion; what is there is not overwritten."""
    device: str = "cpu"
    pictures: bool = True

    def __call__(self) -> None:
        from onestride import experiment
        from onestride.pipeline import bring_stage
        from onestride.progress import console

        began = time.monotonic()
        preset = presets.load(f"{self.task.split('-')[0]}-{self.budget}")
        run = self.run / f"{self.task}-{self.budget}"
        name = self.task if self.what == "table1" else f"{self.task}-ablations"
        files = experiment.published(self.publish, name) if self.publish is not None else {}
        hours = preset.hours if self.what == "table1" else preset.ablation_hours
        console.print(f"[bold]{self.what}[/bold] on {self.task}: {preset.about}", highlight=False)
        console.print(f"It takes about {hours:g} hours there and goes to {run}; stop it and repeat it as you like.")
        if not (run / "data").exists():
            if self.data is not None:
                bring_stage(run, experiment.task_named(preset.task), self.data)
            elif not self.behaviours:
                raise ValueError(
                    f"{run} has no data yet: give --behaviours EXPERT MEDIUM (.npz, or .zip of RL-Zoo agents), or "
                    "--data with a file recorded in the v5 environment"
                )
        if self.what == "table1":
            experiment.make(run, preset, self.behaviours, self.device)
            outcome = experiment.evaluate(run, preset.evaluate, _command(), self.device, self.pictures)
        else:
            outcome = experiment.ablations(run, preset, _command(), self.device)
        _say(outcome)
        experiment.publish(outcome.folder, files)
        print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes.")


Command = Common | Export | Bench


def _command() -> str:
    """What was typed, for the record."""
    return "onestride " + " ".join(sys.argv[1:])


def _say(outcome: Outcome) -> None:
    from onestride.progress import console

    console.print(outcome.table)
    print(f"results: {outcome.folder / 'comparison.json'}")
    if outcome.page is not None:
        print(f"report:  {outcome.page}")


def _commands(preset: Preset, name: str) -> dict[str, Command]:
    """Every command with the preset's values as defaults."""
    return {
        "collect": Collect(preset=name, task=preset.task, amount=preset.amount, seed=preset.data_seed),
        "import": Import(preset=name, task=preset.task),
        **_learned(preset, name),
        "pairs": Pairs(preset=name, pairs=preset.pairs),
        "distill": Distill(preset=name, student=preset.student, training=preset.student_training),
        "evaluate": Evaluate(preset=name, evaluate=preset.evaluate),
        "run": Run(preset=name),
        "export": Export(),
        "bench": Bench(preset=name),
        "quickstart": Quickstart(preset=name),
        "reproduce": Reproduce(preset=name),
    }


def _learned(preset: Preset, name: str) -> dict[str, Common]:
    """The training commands, with what only some tasks have where the preset has it."""
    teacher = Teacher(preset=name, teacher=preset.teacher, training=preset.teacher_training)
    made: dict[str, Common] = {}
    if (s := preset.selectors) is not None:
        made["returns"] = Returns(preset=name, returns=s.returns, training=s.returns_training)
        made["critic"] = Critic(preset=name, iql=s.critic, training=s.critic_training)
        teacher = replace(teacher, guidance=s.guidance)
    made["teacher"] = teacher
    if (c := preset.consistency) is not None:
        made["edm"] = Edm(preset=name, edm=c.edm, training=c.edm_training, horizon=c.horizon)
        made["consistency"] = Consistent(preset=name, student=c.student, training=c.student_training, horizon=c.horizon)
    return made


def _preset_asked_for(arguments: list[str]) -> str:
    """The value of ``--preset``, wherever it stands: it decides the other defaults."""
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--preset="):
            return argument.split("=", 1)[1]
    return "demo"


def _parse(defaults: dict[str, Command], arguments: list[str]) -> Command:
    choices = tuple(
        Annotated[type(default), tyro.conf.subcommand(name, default=default, description=type(default).__doc__)]
        for name, default in defaults.items()
    )
    return tyro.cli(Union[choices], args=arguments, prog="onestride", description=__doc__)  # type: ignore[arg-type] # noqa: UP007


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Errors a user can mend are one message on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        name = _preset_asked_for(arguments)
        preset = presets.load(name)
        command = _parse(_commands(preset, name), arguments)
        if command.dry_run:
            print(json.dumps({"command": type(command).__name__.lower(), **asdict(command)}, indent=2, default=str))
            return
        command()  # type: ignore[operator]
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        print(f"onestride: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nonestride: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
