"""The ``onestride`` program: one command per stage, and ``quickstart`` for all of them.

Every command works on one run folder and may be repeated: what is finished is left alone, what was killed
goes on. ``--preset`` fills in everything else; every single value can be given on top.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Union

import tyro

from onestride import presets
from onestride.diffusion.planner import TeacherConfig
from onestride.presets import EvaluateConfig, Preset
from onestride.students.koopman import KoopmanConfig
from onestride.students.pairs import PairsConfig
from onestride.training import TrainConfig

RUN = Path("runs/demo")


@dataclass(frozen=True)
class Common:
    """What every stage takes."""

    run: Path = RUN
    """Folder of this run: data, checkpoints and results live below it."""
    preset: str = "demo"
    """Where the other defaults come from: tiny, demo, full or paper."""
    dry_run: bool = False
    """Print the resolved settings and stop."""


@dataclass(frozen=True)
class Collect(Common):
    """Make planner episodes: random scenes, every open side of the obstacles, as a Minari dataset."""

    episodes: int = 0
    seed: int = 0

    def __call__(self) -> None:
        from onestride.pipeline import collect_stage

        report = collect_stage(self.run, self.episodes, self.seed)
        print(f"{self.run / 'data'}: {report['episodes']} episodes at {report['episodes_per_s']:.0f}/s")
        for name, count in sorted(report["counts"].items()):
            print(f"  {count:7d}  {name}")


@dataclass(frozen=True)
class Teacher(Common):
    """Train the diffusion teacher on the run's episodes."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.pipeline import teacher_stage

        print(f"teacher: {teacher_stage(self.run, self.teacher, self.training)}")


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
    """Train a one-step student on the run's pairs; ``--student.operator`` chooses dnk, kdm or kdm-f."""

    student: KoopmanConfig = field(default_factory=KoopmanConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.pipeline import distill_stage

        print(f"student: {distill_stage(self.run, self.student, self.training)}")


@dataclass(frozen=True)
class Evaluate(Common):
    """Compare the run's teacher with its students on the same scenes; write results, figures and report."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    device: str = "cpu"
    pictures: bool = True
    """Also make figures and film."""
    publish: Path | None = None
    """Also put results, records and pictures here, such as results/kinova; what is there is not overwritten."""

    def __call__(self) -> None:
        folder = _evaluate(self.run, self.evaluate, self.device, self.pictures)
        if self.publish is not None:
            _publish(folder, self.publish)


@dataclass(frozen=True)
class Run(Common):
    """Drive the simulated arm with a checkpoint, in real time, and say what happened."""

    checkpoint: Path | None = None
    """A trained policy's folder; default: the run's dnk-0."""
    scene: int = 0
    """Which of the evaluation scenes."""
    clock: Literal["real", "charged"] = "real"
    """real: wall time; charged: simulated time pays for each decision."""
    timeout: float = 60.0
    device: str = "cpu"

    def __call__(self) -> None:
        from onestride.control.policy import Policy
        from onestride.evaluation.rollouts import run_trial

        folder = self.checkpoint or self.run / "dnk-0"
        policy = Policy.from_pretrained(folder, device=self.device)
        scene = policy.task.scenes(self.scene + 1, 0)[self.scene]
        policy.warm_up(policy.task.first_observation(scene))
        record, _ = run_trial(policy, scene, self.scene, timeout=self.timeout, real_clock=self.clock == "real")
        del record["decision_ms"]
        print(json.dumps(record, indent=2))


@dataclass(frozen=True)
class Quickstart(Common):
    """Everything from nothing: collect, teacher, pairs, distill, evaluate; ends with the table and a report."""

    device: str = "cpu"
    pictures: bool = True

    def __call__(self) -> None:
        from onestride.pipeline import collect_stage, distill_stage, pairs_stage, teacher_stage
        from onestride.progress import console

        began = time.monotonic()
        preset = presets.load(self.preset)
        console.print(f"[bold]{self.preset}[/bold]: {preset.about}")
        console.print(f"Everything goes to {self.run}; stop it and repeat the command as you like.", highlight=False)
        collect_stage(self.run, preset.episodes, preset.data_seed)
        teacher_stage(self.run, preset.teacher, preset.teacher_training)
        pairs_stage(self.run, preset.pairs, self.device)
        for operator in preset.operators:
            for seed in preset.seeds:
                distill_stage(self.run, *presets.student_of(preset, operator, seed))
        _evaluate(self.run, preset.evaluate, self.device, self.pictures)
        minutes = (time.monotonic() - began) / 60
        print(f"\nDone in {minutes:.1f} minutes. What to try next:")
        print(f"  open {self.run / 'report.html'}")
        print(f"  onestride run --run {self.run} --scene 3            the student drives the arm in real time")
        print(f"  onestride distill --run {self.run} --student.operator kdm   an ablation is one flag; then evaluate")
        print("  onestride quickstart --preset full --run runs/full   the committed results")


def _evaluate(run: Path, config: EvaluateConfig, device: str, pictures: bool) -> Path:
    from onestride.evaluation import page, report
    from onestride.pipeline import evaluate_stage
    from onestride.progress import console

    folder = evaluate_stage(run, config, "onestride " + " ".join(sys.argv[1:]), device)
    comparison = json.loads((folder / "comparison.json").read_text())
    written = page.write(folder, pictures=pictures, page=run / "report.html")
    console.print(report.terminal_table(comparison))
    print(f"results: {folder / 'comparison.json'}\nreport:  {written}")
    return folder


PUBLISHED = ("comparison.json", "episodes.jsonl", "candidates.png", "pca.png", "latency.png", "frames.png", "arms.gif")


def _publish(folder: Path, to: Path) -> None:
    """Copy what others should see; refuse, before anything is copied, to replace a single file."""
    there = [name for name in PUBLISHED if (to / name).exists()]
    if there:
        raise FileExistsError(f"{to} holds {', '.join(there)} already; name another folder, or remove them first")
    to.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        if (folder / name).exists():
            shutil.copy2(folder / name, to / name)
    print(f"published: {to}")


def _commands(preset: Preset, name: str) -> dict[str, Common]:
    """Every command with the preset's values as defaults."""
    return {
        "collect": Collect(preset=name, episodes=preset.episodes, seed=preset.data_seed),
        "teacher": Teacher(preset=name, teacher=preset.teacher, training=preset.teacher_training),
        "pairs": Pairs(preset=name, pairs=preset.pairs),
        "distill": Distill(preset=name, student=preset.student, training=preset.student_training),
        "evaluate": Evaluate(preset=name, evaluate=preset.evaluate),
        "run": Run(preset=name),
        "quickstart": Quickstart(preset=name),
    }


def _preset_asked_for(arguments: list[str]) -> str:
    """The value of ``--preset``, wherever it stands: it decides the other defaults."""
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--preset="):
            return argument.split("=", 1)[1]
    return "demo"


def _parse(defaults: dict[str, Common], arguments: list[str]) -> Common:
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
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"onestride: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nonestride: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
