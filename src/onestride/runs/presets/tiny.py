"""What tiny presets share: everything that can be trained takes seconds, and nothing is learnt."""

from __future__ import annotations

from onestride.runs.settings import PairsConfig
from onestride.runs.stage import Defaults
from onestride.training.config import TrainConfig

TRAINING = TrainConfig(steps=20, batch_size=64, precision="32-true", checkpoint_every=1.0)
PAIRS = PairsConfig(count=2_048, shards=2)
UNNAMED = Defaults(training=TRAINING, contexts=TRAINING, pairs=PAIRS)
