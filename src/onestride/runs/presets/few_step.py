"""What else plans in one call or a few, beside a task's own preset: Consistency Policy, MIP and MeanFlow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onestride.methods.edm import EDMConfig
from onestride.runs.presets.kdp import sized
from onestride.runs.stage import TEACHER, Preset, Stage
from onestride.tasks import TASKS

#: In order: the second learns from the first.
FEW_STEP = ("edm", "cp", "mip", "meanflow")
#: sigma_data of plans that lie within -1 ... 1, as in Consistency Policy; those that are standardised have 1.
WITHIN_LIMITS = 0.5


def few_step_stages(preset: Preset) -> tuple[Stage, ...]:
    """Return the stages of these methods that a task's preset has not, in its teacher's size and training.

    A student of the EDM teacher has the size and the scale of the preset's own ``edm`` where there is one. How many
    calls ``cp`` makes changes nothing in its training: ``--config.steps 3``.
    """
    teacher = preset.stage(TEACHER)
    edm = next((stage for stage in preset.stages if stage.name == "edm"), None)
    limits = preset.task in TASKS and "limits" in vars(TASKS[preset.task]().scaling).values()
    sigma_data = edm.complete().config.sigma_data if edm else WITHIN_LIMITS if limits else EDMConfig.sigma_data
    like = edm.complete().config if edm else teacher.config
    made = []
    for name in FEW_STEP:
        if any(stage.name == name for stage in preset.stages):
            continue
        stage = preset.stage(name)
        config: Any = sized(stage.config, like if name == "cp" else teacher.config)
        if name in ("edm", "cp"):
            config = replace(config, sigma_data=sigma_data)
        weight = teacher.config.first_action_weight
        config = replace(config, first_action_weight=weight)
        horizon = edm.horizon if edm and name == "cp" else None
        made.append(replace(stage, config=config, training=teacher.training, horizon=horizon))
    return tuple(made)
