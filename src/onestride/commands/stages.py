"""From episodes to students, one command per stage of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from onestride.commands.base import Common
from onestride.methods.consistency import ConsistencyConfig
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.methods.edm import EDMConfig
from onestride.methods.koopman import KoopmanConfig
from onestride.runs.pairs import PairsConfig
from onestride.selectors.iql import IQLConfig
from onestride.selectors.returns import ReturnConfig
from onestride.selectors.sampling import Sampling
from onestride.training.loop import TrainConfig


@dataclass(frozen=True)
class Collect(Common):
    """Make episodes: the arm's planner in random scenes, or behaviour policies in a benchmark's environment."""

    sized: ClassVar[bool] = False

    task: str | None = "kinova"
    amount: int = 0
    """Episodes of the arm's planner; steps of behaviour policies, as many of each."""
    behaviours: tuple[Path, ...] = ()
    """Trained actors: .npz, or Stable-Baselines3 .zip (SAC, TQC, PPO; only numbers are read). One trained behind
    VecNormalize is followed by its vecnormalize.pkl; one of which it is unclear, by the word raw if it was not."""
    seed: int = 0

    def __call__(self) -> None:
        from onestride.experiment import task_named
        from onestride.runs import pipeline

        task = task_named(self.task or "")
        if self.amount < 1:
            raise ValueError(f"amount is {self.amount}, expected 1 or more (episodes of the arm, steps of behaviours)")
        if task.benchmark is None and self.behaviours:
            raise ValueError(
                f"task '{task.name}' has a planner of its own, and --behaviours are of a benchmark's body: choose it "
                "by --preset or --task, such as --preset halfcheetah-small"
            )
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

    sized: ClassVar[bool] = False
    resumes: ClassVar[bool] = False

    path: tyro.conf.Positional[Path] = Path()
    task: str | None = "kinova"
    """What they are of, such as halfcheetah-v4 for D4RL's own files, or gym:Reacher-v5."""
    mend: bool = False
    """Cut where episodes run into each other without a mark, and leave out an environment's own reset rows, instead of
    refusing them."""

    def __call__(self) -> None:
        from onestride.experiment import task_named
        from onestride.runs.ingest import import_dataset

        made = import_dataset(self.run, task_named(self.task or ""), self.path, self.mend)
        print(f"{self.run / 'data'}: {made.episodes} episodes, {made.steps} steps")
        print(
            f"  {made.terminated} episodes ended for good (terminated), {made.episodes - made.terminated} were cut off"
        )
        for note in made.notes:
            print(f"  {note}")


@dataclass(frozen=True)
class Returns(Common):
    """Train the return model, which ranks plans and guides the teacher (tasks whose selector is learnt)."""

    returns: ReturnConfig = field(default_factory=ReturnConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.runs.pipeline import returns_stage

        print(f"return model: {returns_stage(self.run, self.returns, self.training)}")


@dataclass(frozen=True)
class Critic(Common):
    """Train the IQL critic, which ranks plans by what they do first (tasks whose selector is learnt)."""

    iql: IQLConfig = field(default_factory=IQLConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    rows: int = 1
    """How much of a plan it judges; 1: the first action, as in the paper. Another number needs no other training."""
    temperatures: tuple[float, ...] = ()
    """How the noise of plans is scaled that it ranks; none: as in the students' training. These and what follows need
    no training either."""
    shares: tuple[float, ...] = ()
    """Of each temperature; none: all alike."""
    margin: float = 0.0
    """What a plan must be worth more per unit of temperature above --cool. The critic counts in thousandths of the
    range of the episodes' returns."""
    cool: float = 0.5
    """Temperatures up to here compete without a margin."""

    def __post_init__(self) -> None:
        self.sampling()  # what cannot be is said before any work

    def sampling(self) -> Sampling | None:
        """How candidates are drawn; None: as in training."""
        if not self.temperatures:
            if self.shares or self.margin:
                raise ValueError("--shares and --margin are of --temperatures, of which there are none")
            return None
        shares = self.shares or (1 / len(self.temperatures),) * len(self.temperatures)
        return Sampling(self.temperatures, shares, self.margin, self.cool)

    def __call__(self) -> None:
        from onestride.runs.pipeline import critic_stage

        print(f"critic: {critic_stage(self.run, self.iql, self.training, self.rows, self.sampling())}")


@dataclass(frozen=True)
class Teacher(Common):
    """Train the diffusion teacher on the run's episodes."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    guidance: float = 0.0
    """Weight of the return model's gradient at every reverse step, where the run has one."""

    def __call__(self) -> None:
        from onestride.runs.pipeline import teacher_stage

        print(f"teacher: {teacher_stage(self.run, self.teacher, self.training, self.guidance)}")


@dataclass(frozen=True)
class Pairs(Common):
    """Let the teacher turn stored noise into plans: what students learn from."""

    pairs: PairsConfig = field(default_factory=PairsConfig)
    device: str = "cpu"

    def __call__(self) -> None:
        from onestride.runs.pipeline import pairs_stage

        print(f"pairs: {pairs_stage(self.run, self.pairs, self.device)}")


@dataclass(frozen=True)
class Distill(Common):
    """Train one student on the run's pairs; ``--student.operator`` chooses dnk, kdm, kdm-f or mlp."""

    student: KoopmanConfig = field(default_factory=KoopmanConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __call__(self) -> None:
        from onestride.runs.pipeline import distill_stage

        print(f"student: {distill_stage(self.run, self.student, self.training)}")


@dataclass(frozen=True)
class Edm(Common):
    """Train the EDM-preconditioned teacher that CD learns from."""

    edm: EDMConfig = field(default_factory=EDMConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    horizon: int = 1
    """Rows of a plan; 1 is an action-level policy, as in the paper's table."""

    def __call__(self) -> None:
        from onestride.runs.pipeline import edm_stage

        print(f"EDM teacher: {edm_stage(self.run, self.edm, self.training, self.horizon)}")


@dataclass(frozen=True)
class Consistent(Common):
    """Train a consistency student: ``--student.method ct`` from data, ``cd`` from the EDM teacher."""

    student: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    horizon: int = 1
    """Rows of a plan; 1 is an action-level policy, as in the paper's table."""

    def __call__(self) -> None:
        from onestride.runs.pipeline import consistency_stage

        print(f"student: {consistency_stage(self.run, self.student, self.training, self.horizon)}")
