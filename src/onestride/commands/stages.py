"""From episodes to planners: one command per stage, and one to train whatever can be trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from onestride.commands.base import PRESET, Common, Scalable, task_named
from onestride.runs import presets
from onestride.runs.settings import PairsConfig

if TYPE_CHECKING:
    from onestride.runs.stage import Preset, Stage


@dataclass(frozen=True)
class Collect(Common):
    """Make episodes: by the task's own demonstrator, or by behaviour policies in a benchmark's environment."""

    sized: ClassVar[bool] = False
    doing: ClassVar[str] = "collecting episodes into {run}"

    task: str | None = "kinova"
    amount: int = 0
    """Episodes of the task's own demonstrator; steps of behaviour policies, as many of each."""
    behaviours: tuple[Path, ...] = ()
    """Trained actors: .npz, or Stable-Baselines3 .zip (SAC, TQC, PPO; only numbers are read). One trained behind
    VecNormalize is followed by its vecnormalize.pkl; one of which it is unclear, by the word raw if it was not. Or a
    planner that was trained here, by its folder, such as runs/mine/teacher. Or a demonstrator of yours, FILE.py:NAME or
    MODULE:NAME: a function (observation, rng) -> action. After any of them noise=0.1 adds Gaussian noise of that
    deviation to its actions. The ant mazes' own demonstrator needs one actor, which walks an ant to a waypoint."""
    seed: int = 0

    @classmethod
    def with_preset(cls, name: str) -> Collect:
        """Return the command with a preset's task and amount."""
        preset = presets.load(name)
        return cls(preset=name, task=preset.task, amount=preset.amount, seed=preset.data_seed)

    def __call__(self) -> None:
        from onestride.runs.collecting import behaviour_stage, plan_stage
        from onestride.runs.run import fits

        task, preset = task_named(self.task or ""), presets.load(self.preset)
        if self.amount < 1:
            raise ValueError(f"amount is {self.amount}, expected 1 or more (episodes of the arm, steps of behaviours)")
        made_with = self.preset if fits(task, preset.task) else ""
        planners = task.benchmark is not None and any(path.is_dir() for path in self.behaviours)
        if task.has_demonstrator and not planners:
            report = plan_stage(self.run, task, self.amount, self.seed, self.behaviours, made_with)
        else:
            data = preset.data
            report = behaviour_stage(self.run, task, self.behaviours, self.amount, self.seed, data, made_with)
        rates = f"{report['episodes_per_s']:.0f} episodes/s, {report['steps_per_s']:.0f} steps/s"
        print(f"{self.run / 'data'}: {rates}")
        for name, count in sorted(report["counts"].items()):
            print(f"  {count:7d}  {name}")


@dataclass(frozen=True)
class Import(Common):
    """Bring your own episodes: a D4RL or robomimic .hdf5, a Minari or LeRobot folder, or an .npz of flat arrays."""

    sized: ClassVar[bool] = False
    resumes: ClassVar[bool] = False
    doing: ClassVar[str] = "importing {path} into {run}"

    path: tyro.conf.Positional[Path] = Path()
    task: str | None = "kinova"
    """What they are of, such as halfcheetah-v4 for D4RL's own files, or gym:Reacher-v5."""
    mend: bool = False
    """Cut where episodes run into each other without a mark, and leave out an environment's own reset rows, instead of
    refusing them."""
    filter_key: str = ""
    """Of a robomimic file's demonstrations, such as train, or better; all of them where none is given."""
    resize: Literal["crop", "stretch"] | None = None
    """How the images of a LeRobotDataset become as large as the task's: the middle of them, of the task's ratio of
    height to width, or all of them stretched. A robot's images have to be made so too."""

    @classmethod
    def with_preset(cls, name: str) -> Import:
        """Return the command with a preset's task."""
        return cls(preset=name, task=presets.load(name).task)

    def __call__(self) -> None:
        from onestride.runs.ingest import import_dataset
        from onestride.runs.run import fits

        task = task_named(self.task or "")
        # The data owe nothing to a preset that nobody named.
        named = self.preset if self.preset != PRESET and fits(task, presets.load(self.preset).task) else ""
        made = import_dataset(self.run, task, self.path, self.mend, self.filter_key, self.resize, named)
        print(f"{self.run / 'data'}: {made.episodes} episodes, {made.steps} steps")
        print(
            f"  {made.terminated} episodes ended for good (terminated), {made.episodes - made.terminated} were cut off"
        )
        for note in made.notes:
            print(f"  {note}")


@dataclass(frozen=True)
class Source(Common):
    """Take another run's episodes beside the run's own: plentiful data of another body, to learn from too."""

    sized: ClassVar[bool] = False
    resumes: ClassVar[bool] = False
    doing: ClassVar[str] = "taking the episodes of {of} into {run}"

    of: tyro.conf.Positional[Path] = Path()
    """The other run. Its planner that asks for a return (return-diffuser) comes along."""

    def __call__(self) -> None:
        from onestride.runs.sources import take_source

        made = take_source(self.run, self.of)
        for folder in made:
            print(f"took {folder}")
        if not made:
            print(f"{self.run} has it already")


@dataclass(frozen=True)
class Pairs(Common, Scalable):
    """Let the teacher turn stored noise into plans: what students learn from."""

    doing: ClassVar[str] = "making pairs in {run}"

    pairs: PairsConfig = field(default_factory=PairsConfig)
    device: str = "cpu"

    @classmethod
    def with_preset(cls, name: str) -> Pairs:
        """Return the command with a preset's pairs."""
        return cls(preset=name, pairs=presets.load(name).stage("pairs").config)

    def __call__(self) -> None:
        from onestride.runs.pairs_stage import pairs_stage

        print(f"pairs: {pairs_stage(self.run, self.pairs, self.device)}")


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class Train(Common, Scalable):
    """Train a method or a selector on the run: `onestride train NAME --help` shows its settings.

    NAME is one of the preset's stages, of the methods, of the selectors, or FILE.py:NAME of your own.
    """

    doing: ClassVar[str] = "training {arguments[1]} in {run}"
    of_preset: ClassVar[tuple[str, ...]] = (
        "config", "training", "options", "seeds", "selector", "guidance", "horizon", "prefix", "vision",
    )  # fmt: skip

    devices: int = 1
    """Processes that share every batch (DDP), each with a GPU of its own where there are any."""

    def check(self) -> None:
        """Raise ValueError unless so many processes can train together here."""
        if self.devices < 1:
            raise ValueError(f"--devices is {self.devices}, expected at least 1")
        if self.devices > 1 and self.on != "local":
            raise ValueError(
                f"--devices {self.devices} shares one training and --on {self.on} its seeds: give one of them"
            )
        if self.devices > 1:
            import torch

            training = getattr(self, "training", None)
            asked = training is None or training.accelerator in ("auto", "gpu", "cuda")
            there = torch.cuda.device_count() if asked else 0
            if 0 < there < self.devices:
                raise ValueError(f"--devices is {self.devices}, and this machine has {there} GPU{'s' * (there > 1)}")


def train_command(preset: Preset, preset_name: str, name: str) -> Train:
    """Return the command that trains ``name``, with its settings as fields, as the preset has them.

    Raises:
        UnknownNameError: there is nothing of that name.
    """
    stage = preset.stage(name)
    described = _described(stage)
    fields: list[tuple[str, Any, Any]] = []
    if stage.config is not None:
        fields.append(("config", type(stage.config), field(default=stage.config)))
        fields.append(("training", type(stage.training), field(default=stage.training)))
    if stage.role == "contexts":
        pass  # it is trained once, and nobody ranks it
    elif stage.role == "selector":
        fields.append(("options", type(stage.options), field(default=stage.options)))
    else:
        fields.append(("seeds", tuple[int, ...], field(default=stage.seeds)))
        fields.append(("selector", str | None, field(default=stage.selector)))
        fields.append(("guidance", float, field(default=stage.guidance)))
        fields.append(("horizon", int | None, field(default=stage.horizon)))
        fields.append(("prefix", int | None, field(default=stage.prefix)))
        if stage.vision is not None:
            fields.append(("vision", type(stage.vision), field(default=stage.vision)))
    made = make_dataclass(
        Train.__name__, fields, bases=(Train,), frozen=True,
        namespace={"__doc__": described, "__call__": _train, "stage": stage},
    )  # fmt: skip
    return made(preset=preset_name)


def _train(self: Any) -> None:
    from dataclasses import replace

    from onestride.runs.seeds import run_stages
    from onestride.training.launch import launch
    from onestride.training.ranks import Ranks

    stage: Stage = self.stage
    chosen = {name: getattr(self, name) for name in self.__dataclass_fields__ if hasattr(stage, name)}
    if self.devices > 1 and Ranks.here().alone:
        raise SystemExit(launch([sys.executable, "-m", "onestride", *sys.argv[1:]], self.devices))
    made = replace(stage, **chosen)
    if (made.config, made.training) != (stage.config, stage.training):
        made = replace(made, preset="")  # they are no preset's
    for folder in run_stages(self.run, [made]):
        print(f"{stage.name}: {folder}")


def _described(stage: Stage) -> str:
    from onestride.methods import METHODS
    from onestride.selectors import SELECTORS

    if stage.role == "contexts":
        from onestride.methods import dynamics

        return "Train contexts: which body every window is like.\n\n" + (dynamics.__doc__ or "")
    record: Any = METHODS[stage.what]() if stage.role == "method" else SELECTORS[stage.what]()
    said = (sys.modules[type(record.config or record.options).__module__].__doc__ or "").strip().splitlines()[:1]
    text = f"Train {record.label} ('{stage.name}'). " + "".join(said)
    if stage.role == "method":
        text += (
            "\n\nseeds: of training, one checkpoint each (a teacher is trained once). selector: the run's, which ranks "
            "its candidates. guidance: weight of the return model's gradient at every reverse step. horizon: rows of "
            "its plans, where they are not the task's. prefix: so many of a plan's first commands may be committed "
            "before it is made, for chunks that join without a jump."
        )
    return text
