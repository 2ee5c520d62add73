"""``lerobot-onestride EXPORTED OUT``: a folder that ``onestride export`` wrote, as LeRobot loads it."""

from __future__ import annotations

import argparse
from pathlib import Path

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION
from onestride.engine.folder import control_spec_of, load_contract
from onestride.errors import report_user_errors
from onestride.files import ensure_absent
from onestride.folders import replace_folder

from lerobot_policy_onestride.configuration_onestride import OneStrideConfig
from lerobot_policy_onestride.modeling_onestride import OneStridePolicy
from lerobot_policy_onestride.processor_onestride import make_onestride_pre_post_processors


def write_pretrained(exported: Path, out: Path) -> OneStridePolicy:
    """Write a folder that ``--policy.path`` of LeRobot's programs takes, whole or not at all, and return the policy.

    Its input features are left open: LeRobot fills in what the environment or data set has, and sizes are compared.

    Raises:
        CheckpointError: ``exported`` holds no exported planner, or one that was altered.
        FileExistsError: ``out`` is there already.
    """
    ensure_absent(out)
    spec = control_spec_of(load_contract(exported))
    config = OneStrideConfig(
        exported=str(exported),
        n_obs_steps=spec.n_obs_steps,
        n_action_steps=spec.n_action_steps,
        horizon=spec.horizon,
        fps=1 / spec.control_dt,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_dim,))},
        push_to_hub=False,
    )
    policy = OneStridePolicy(config)
    parts = (policy, *make_onestride_pre_post_processors(config))
    replace_folder(out, lambda new: [part.save_pretrained(new) for part in parts])
    return policy


def main() -> None:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="lerobot-onestride", description=__doc__)
    parser.add_argument("exported", type=Path, help="folder that `onestride export` wrote")
    parser.add_argument("out", type=Path, help="folder to write, for --policy.path of LeRobot's programs")
    given = parser.parse_args()
    with report_user_errors():
        chunking = "with" if write_pretrained(given.exported, given.out).supports_rtc() else "without"
        print(f"{given.out}: for --policy.path of LeRobot's programs, {chunking} real-time chunking")  # noqa: T201


if __name__ == "__main__":
    main()
