"""What the studies of keyed drifting train: a task's own preset, and what the paper's tables compare."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from onestride.methods import METHODS
from onestride.runs.presets.baselines import FAMILIES, baselines
from onestride.runs.stage import TEACHER, TRAINING, Preset, Stage

#: Learnt from data alone, beside the task's own preset; those of the second need a critic.
FROM_DATA, FROM_CRITIC = ("kdp", "kdp-paper", "bc"), ("iql-policy", "fql")
#: In a tiny preset's few episodes no window is near another: neighbours from farther away.
TINY_TEMPERATURE = 1.0
#: Learnt from the teacher's pairs.
FROM_PAIRS = ("kdm", "mlp")
#: Settings that say how large a network is: where a method has one that the teacher has too, it is the teacher's.
SIZES = ("network", "width", "blocks", "unet_width", "unet_multipliers")
#: So many times the teacher's steps: a drift that is normalised does not vanish, and only a long decay quiets it.
LONGER = 2
#: Of the hours of a task's own preset that all of these add.
MORE_HOURS = 1.0


def kdp_stages(preset: Preset, dataset: str = "") -> tuple[Stage, ...]:
    """Return the stages that a task's preset has not: every method in the teacher's or the student's size and training.

    A method that is not there is left out. BC, the IQL policy and FQL are set as for the data set's family.
    """
    teacher, student = preset.stage(TEACHER), preset.stage("dnk")
    there = {stage.name for stage in preset.stages}
    family = FAMILIES.get(dataset, FAMILIES.get(dataset.split("-")[0], FAMILIES["locomotion"]))
    set_already = {
        stage.name: stage
        for stage in baselines(teacher.training or TRAINING, family, seeds=student.seeds, ranked_by=preset.ranked_by)
    }
    made = []
    for name in (*FROM_DATA, *(FROM_CRITIC if "iql" in there else ()), *FROM_PAIRS):
        if name in there or name not in METHODS:
            continue
        if name in set_already:
            made.append(set_already[name])
            continue
        of_pairs = name in FROM_PAIRS
        like, stage = student if of_pairs else teacher, preset.stage(name)
        config = replace(like.config, operator=name) if of_pairs else sized(stage.config, like.config)
        training = like.training
        samples = METHODS[name]().samples(config)
        if samples > 1 and training is not None:  # as many samples as a teacher's batch
            batch = max(training.batch_size // samples, 1)
            training = replace(training, batch_size=batch, steps=LONGER * training.steps)
        made.append(replace(stage, config=config, training=training, seeds=student.seeds))
    return tuple(made)


def sized(config: Any, like: Any) -> Any:
    """Return settings with the size of another network's, as far as both have it.

    Where the other one is Diffusion Policy's U-Net, which these methods have not, it is Diffuser's.
    """
    known = {field.name for field in fields(config)} & {field.name for field in fields(like)}
    sizes = {name: getattr(like, name) for name in SIZES if name in known}
    if sizes.get("network") == "film-unet":
        sizes["network"] = "unet"
    return replace(config, **sizes)


def with_kdp(preset: Preset, dataset: str = "", *, tiny: bool = False) -> Preset:
    """Return a task's preset with ``kdp_stages``."""
    stages = (*preset.stages, *kdp_stages(preset, dataset))
    if tiny:
        near = {s.name: replace(s.config, key_temperature=TINY_TEMPERATURE) for s in stages if s.name == "kdp"}
        stages = tuple(replace(s, config=near.get(s.name, s.config)) for s in stages)
    return replace(preset, stages=stages, hours=(1 + MORE_HOURS) * preset.hours)
