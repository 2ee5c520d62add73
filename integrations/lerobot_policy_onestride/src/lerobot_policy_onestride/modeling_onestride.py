"""The policy: an exported planner that acts, or one that LeRobot trains, behind LeRobot's interface."""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import snapshot_download
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from onestride.control.history import Samples
from torch import Tensor

from lerobot_policy_onestride.committed import committed_actions
from lerobot_policy_onestride.configuration_onestride import OneStrideConfig
from lerobot_policy_onestride.exported_planner import ExportedPlanner
from lerobot_policy_onestride.learned_planner import LearnedPlanner
from lerobot_policy_onestride.observations import entries_of, observed, with_time

#: The exported planner's folder, in the folder of a saved policy.
EXPORTED = "exported"

log = logging.getLogger(__name__)


class OneStridePolicy(PreTrainedPolicy):
    """A policy of LeRobot whose chunks take one network call, or a few.

    Args:
        config: which planner.
        folder: of the exported planner; None: as the configuration says.
        dataset_meta: of the data set that it is trained on, whose rate is kept.
        _more: what LeRobot gives beside, which is not used.

    Raises:
        CheckpointError: there is no such exported planner.
        ValueError: features are not those of the planner, or a setting is out of range.
    """

    config_class = OneStrideConfig
    name = "onestride"

    def __init__(
        self, config: OneStrideConfig, *, folder: Path | None = None, dataset_meta: Any = None, **_more: Any
    ) -> None:
        super().__init__(config)
        config.validate_features()
        if config.exported is not None:
            self.planner: ExportedPlanner | LearnedPlanner = ExportedPlanner(folder or Path(config.exported))
            self.planner.check(config.input_features or {}, config.output_features or {})
        else:
            if config.fps is None and dataset_meta is not None:
                config.fps = float(dataset_meta.fps)
            self.planner = LearnedPlanner(config)
        self.n_action_steps = config.n_action_steps or self.planner.n_action_steps
        if not 1 <= self.n_action_steps <= self.planner.horizon:
            raise ValueError(f"n_action_steps is {self.n_action_steps}, expected 1 to {self.planner.horizon}")
        self._warned = False
        self.reset()

    def reset(self) -> None:
        """Forget observations and actions: an episode begins. Noise goes on."""
        n_obs_steps, control_dt = self.planner.n_obs_steps, self.planner.control_dt
        self._steps: deque[dict[str, Tensor]] = deque(maxlen=n_obs_steps)  # of select_action, one per control period
        self._actions: deque[Tensor] = deque()
        # of predict_action_chunk, whenever it is called; without a control period the newest stands for all
        self._samples: Samples[dict[str, Tensor]] = Samples(n_obs_steps, control_dt or 0.0)

    # ------------------------------------------------------------ acting

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None, **_more: Any) -> Tensor:
        """Return the action (B, A) of this control period; every ``n_action_steps`` a chunk is made.

        Args:
            batch: the observation of this period, (B, ...) each.
            noise: see ``predict_action_chunk``.
            _more: is not used.
        """
        self._steps.append(entries_of(batch))
        if not self._actions:
            missing = self.planner.n_obs_steps - len(self._steps)
            chunk = self._chunk([self._steps[0]] * missing + list(self._steps), None, noise)
            self._actions.extend(chunk[:, : self.n_action_steps].unbind(1))
        return self._actions.popleft()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Tensor],
        *,
        noise: Tensor | None = None,
        inference_delay: int | None = 0,
        prev_chunk_left_over: Tensor | None = None,
        **_more: Any,
    ) -> Tensor:
        """Return the actions (B, horizon, A) from this control period on.

        Of an exported planner they are in the robot's units, of one that LeRobot trained normalised.

        Args:
            batch: the last ``n_obs_steps`` observations (B, n_obs_steps, ...), or the newest (B, ...); the earlier ones
                are then those of the calls before, by the time between them.
            noise: that plans are made of (B, horizon, A), of a planner that LeRobot trained.
            inference_delay: how many actions of the chunk before are sent while this one is made.
            prev_chunk_left_over: what is left of the chunk before (T, A), as this gave it. The first
                ``inference_delay`` rows come back, and the others go on from them.
            _more: of real-time chunking, not used.

        Raises:
            ValueError: shapes are others, or the planner knows no prefix.
        """
        longest, delay = self.planner.longest_prefix, inference_delay or 0
        if prev_chunk_left_over is not None and delay > 0 and not longest:
            raise ValueError("this planner knows no prefix: train it with one, or let LeRobot wait for it (type sync)")
        if delay > longest > 0 and not self._warned:
            self._warned = True
            log.warning(
                "a chunk takes %d periods, and the planner knows %d of them before: chunks may jump", delay, longest
            )
        return self._chunk(self._last(batch), committed_actions(prev_chunk_left_over, delay, longest), noise)

    def supports_rtc(self) -> bool:
        """Return whether the planner has learnt a prefix, which LeRobot's real-time chunking commits."""
        return self.planner.longest_prefix > 0

    def _last(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The last observations by a batch of them, or of the newest alone."""
        entries, n_obs_steps = with_time(entries_of(batch)), self.planner.n_obs_steps
        given = next((value.shape[1] for value in entries.values()), 1)
        if given != 1 or n_obs_steps == 1:
            return [{key: value[:, i] for key, value in entries.items()} for i in range(given)]
        now, newest = time.monotonic(), {key: value[:, 0] for key, value in entries.items()}
        self._samples.clear_after_pause(now)
        return self._samples.add(now, newest)

    def _chunk(self, steps: list[dict[str, Tensor]], committed: Tensor | None, noise: Tensor | None) -> Tensor:
        """The actions (B, horizon, A) for observations, the oldest first."""
        return self.planner.chunk(observed(stacked(steps)), committed, noise)

    # ------------------------------------------------------------ learning

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the method's loss on a batch, and what else it says of the step.

        Args:
            batch: observations (B, n_obs_steps, ...), or (B, ...) where that is 1, and "action" (B, horizon, A), all
                as LeRobot's processors normalise them.
        """
        said = self._learned().loss(observed(with_time(entries_of(batch))), batch[ACTION])
        return said["loss"], {name: float(value.detach()) for name, value in said.items() if name != "loss"}

    def update(self) -> None:
        """Take one more training step into the average of the weights; LeRobot calls it after each."""
        self._learned().average()

    def get_optim_params(self) -> list[torch.nn.Parameter]:
        """Return the parameters that are trained."""
        return [each for each in self._learned().generator.parameters() if each.requires_grad]

    def _learned(self) -> LearnedPlanner:
        if isinstance(self.planner, ExportedPlanner):
            raise ValueError(
                f"{self.planner.folder} was exported and is not trained any more; train with --policy.type=onestride "
                "and without --policy.exported"
            )
        return self.planner

    # ------------------------------------------------------------ on disk

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        strict: bool = True,
        **more: Any,
    ) -> Self:
        """Load a policy from a folder, or from the Hub.

        Args:
            pretrained_name_or_path: the folder, or the Hub's name of it.
            config: in place of the folder's own.
            revision: of the Hub.
            strict: is not used: weights have to be all there.
            more: see LeRobot's ``PreTrainedPolicy.from_pretrained``.

        Raises:
            CheckpointError: the exported planner is not there, or was altered.
            ValueError: the configuration names a folder elsewhere.
        """
        del strict
        if config is None:
            config = PreTrainedConfig.from_pretrained(pretrained_name_or_path, revision=revision)
        assert isinstance(config, OneStrideConfig)
        if config.exported is None:
            return super().from_pretrained(
                pretrained_name_or_path, config=config, revision=revision, strict=True, **more
            )
        if config.exported != Path(config.exported).name:
            raise ValueError(f"'exported' is {config.exported!r}, expected the name of a folder beside config.json")
        here = Path(pretrained_name_or_path)
        if not here.is_dir():
            here = Path(snapshot_download(str(pretrained_name_or_path), revision=revision))
        return cls(config, folder=here / config.exported).eval()

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write the configuration, and the weights or the exported planner."""
        if isinstance(self.planner, LearnedPlanner):
            super()._save_pretrained(save_directory, state_dict)
            return
        replace(self.config, exported=EXPORTED)._save_pretrained(save_directory)
        if self.planner.folder.resolve() != (save_directory / EXPORTED).resolve():
            shutil.copytree(self.planner.folder, save_directory / EXPORTED, dirs_exist_ok=True)


def stacked(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return observations of several times, (B, ...) each, as one (B, T, ...)."""
    return {key: torch.stack([step[key] for step in steps], 1) for key in steps[-1]}
