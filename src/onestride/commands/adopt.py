"""A policy that was trained elsewhere becomes a run's teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from onestride.commands.base import InRun, task_named


@dataclass(frozen=True)
class Adopt(InRun):
    """Make a policy of another library the run's teacher: to evaluate, distil, export and run like one of its own.

    PATH is a folder that LeRobot saved (DiffusionPolicy, with cameras too: config.json, model.safetensors, the
    processors' files), a .ckpt of diffusion_policy (U-Net, with cameras too), or a .pt of CleanDiffuser (ChiUNet1d by
    DDPM). None of the libraries is needed, and nothing in the files is executed.
    """

    resumes: ClassVar[bool] = False
    doing: ClassVar[str] = "adopting {path} as {run}/{name}"

    path: tyro.conf.Positional[Path] = Path()
    name: Annotated[str, tyro.conf.arg(name="as")] = "teacher"
    """What it is called in the run; methods that learn from a teacher look for `teacher`."""
    task: str | None = None
    """What it does, such as pusht. None: the task of the run's data."""
    data: Path | None = None
    """Episodes to distil it on, imported into the run as by `onestride import`; a CleanDiffuser policy is normalised by
    these, or by the run's."""
    resize: Literal["crop", "stretch"] | None = None
    """How the images of these episodes become as large as the task's."""
    solver: Literal["ddpm", "ddim", "dpm++2m"] | None = None
    """How it samples here. None: as it did there."""
    steps: int | None = None
    """Network calls per chunk. None: as there, or with --solver all noise levels."""
    horizon: int | None = None
    """Rows of its chunks, which a file of CleanDiffuser does not say: `horizon` in its configuration."""
    noise_levels: int | None = None
    """Noise levels of its diffusion, which a file of CleanDiffuser does not say: `sample_steps` there."""

    def __call__(self) -> None:
        from onestride.adopt.adopting import Sampling, adopt
        from onestride.adopt.cleandiffuser import Told
        from onestride.runs.ingest import import_dataset
        from onestride.runs.run import task_of

        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise ValueError(f"--as is {self.name!r}, expected the name of a folder in the run, such as teacher")
        there = (self.run / "data").exists()
        if self.task is None and not there:
            raise ValueError(f"{self.run} has no data that says of which task it is: give --task, such as --task pusht")
        task = task_of(self.run) if self.task is None else task_named(self.task)
        if there and task.name != (found := task_of(self.run).name):
            raise ValueError(f"{self.run} is of task '{found}', not of '{task.name}'; choose another --run")
        episodes = self.data or (self.run / "data" if there else None)
        told = Told(task, self.horizon, self.noise_levels, episodes)
        adopted = adopt(self.run, self.path, task, self.name, Sampling(self.solver, self.steps), told)
        if self.data is not None:
            made = import_dataset(self.run, task, self.data, resize=self.resize)
            print(f"{self.run / 'data'}: {made.episodes} episodes, {made.steps} steps")
        generator, foreign = adopted.policy.generator, adopted.foreign
        cameras = [f"{camera.name} ({camera.size[0]} x {camera.size[1]} px)" for camera in foreign.cameras]
        features = " + ".join([*(f"{name} ({size})" for name, size in foreign.features), *cameras])
        print(f"{self.run / self.name}: a policy of {foreign.library}")
        parameters, times = sum(p.numel() for p in generator.parameters()), task.control.n_obs_steps
        print(f"  {parameters:,} parameters, {features}, {times} times")
        print(f"  chunks of {foreign.horizon} actions by {generator.config.solver}, {generator.nfe} network calls each")
        for note in adopted.notes:
            print(f"  {note}")
        if not (self.run / "data").exists():
            print("  the run has no data, which training and evaluating need: give --data, or `onestride import` it")
