"""What a stage's method sees of a task's cameras: its own encoders, or those of the run's teacher as they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from onestride.files import CheckpointError
from onestride.methods.method import Method
from onestride.methods.sighted import IMAGE, SightedLearner, SightedPlanner, Vision
from onestride.networks.vision import VisionConfig
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.runs.run import TEACHER, checkpoint_id
from onestride.tasks.task import Task
from onestride.training.datasets import Dataset, Resident
from onestride.training.learner import as_learner

CHUNK = 256  # windows whose images are encoded at a time


@dataclass(frozen=True)
class Sight:
    """How cameras are encoded.

    Attributes:
        method: that is trained.
        vision: of the method's encoders.
        teacher: whose encoders are taken as they are; None: the method trains its own.
        identity: what of it decides the result of a training.
    """

    method: Method
    vision: Vision
    teacher: SightedPlanner | None
    identity: dict[str, Any]

    def learner(self, generator: SightedPlanner, teacher: SightedPlanner | None, config: Any) -> SightedLearner:
        """Return the method's learner with cameras; it is given the generators inside."""
        assert self.method.learner is not None
        inside = self.method.learner(generator.planner, None if teacher is None else teacher.planner, config)
        return SightedLearner(generator, as_learner(inside))

    def prepare(self, generator: SightedPlanner) -> None:
        """Give an untrained generator the teacher's encoders, where these are taken."""
        if self.teacher is not None:
            generator.take_encoders(self.teacher)

    def of(self, data: Dataset) -> Dataset:
        """Return windows as the method learns from them: with images, or with the teacher's features of them.

        Features, of images cropped in the middle, are part of the context.
        """
        teacher, parts = self.teacher, list[dict[str, torch.Tensor]]()
        if teacher is None:
            return data
        with track("encoding images", len(data)) as bar, torch.inference_mode():
            for first in range(0, len(data), CHUNK):
                batch = data.rows(torch.arange(first, min(first + CHUNK, len(data))))
                images = {name: batch.pop(name) for name in list(batch) if name.startswith(IMAGE)}
                seen = {name.removeprefix(IMAGE): image for name, image in images.items()}
                parts.append(batch | {"context": teacher.embed(batch["context"], seen)})
                bar.update(min(first + CHUNK, len(data)))
        return Resident({name: torch.cat([part[name] for part in parts]).clone() for name in parts[0]})


def sight_of(run: Path, task: Task, method: Method, vision: VisionConfig | None, teacher: Path | None) -> Sight:
    """Return how a method sees the task's cameras; teacher: the checkpoint that it learns from.

    Raises:
        CheckpointError: it takes its teacher's encoders, and the teacher is not trained, or has none.
        ValueError: it learns from single steps, of which images are not read.
    """
    if method.needs == "transitions":
        raise ValueError(
            f"method '{method.name}' learns from single steps, which have no images; task '{task.name}' has cameras"
        )
    vision = vision or VisionConfig()
    if teacher is None and method.needs != "pairs" and not vision.frozen:
        return Sight(method, vision, None, {"vision": asdict(vision)})
    folder = teacher or run / TEACHER
    identity = {"encoders": checkpoint_id(folder)}
    generator = Policy.from_pretrained(folder, task=task.name).generator
    if not isinstance(generator, SightedPlanner):
        raise CheckpointError(f"{folder} has no encoders of cameras; train it again")
    return Sight(method, replace(generator.vision, draws=vision.draws, frozen=True), generator, identity)
