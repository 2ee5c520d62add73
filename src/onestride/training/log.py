"""The curves of a training: the loss and every named term of it, kept and written where other programs read them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

#: Term -> [step, mean since the last look] of every look.
History = dict[str, list[list[float]]]


class Log:
    """``<folder>/metrics.csv``, by Fabric's logger; also for TensorBoard where that is asked for.

    Args:
        folder: made anew, with what ``history`` has already.
        history: of the steps before a kill.
        tensorboard: whether to write for it too.
        written: whether to write at all; of processes that train together one does.

    Raises:
        ModuleNotFoundError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, history: History, tensorboard: bool, *, written: bool = True) -> None:
        from lightning_fabric.loggers.csv_logs import CSVLogger

        self.history: History = {}
        self.loggers: list[Any] = []
        if written:
            shutil.rmtree(folder, ignore_errors=True)
            self.loggers.append(CSVLogger(folder.parent, name=folder.name, version=""))
        if written and tensorboard:
            from lightning_fabric.loggers.tensorboard import TensorBoardLogger

            self.loggers.append(TensorBoardLogger(folder.parent, name=folder.name, version="tensorboard"))
        means: dict[int, dict[str, float]] = {}
        for name, curve in history.items():
            for step, mean in curve:
                means.setdefault(int(step), {})[name] = mean
        for step in sorted(means):
            self.add(step, means[step])

    def add(self, step: int, means: dict[str, float]) -> None:
        """Note the means since the last look."""
        for name, mean in means.items():
            self.history.setdefault(name, []).append([step, mean])
        for logger in self.loggers:
            logger.log_metrics(means, step)

    def flush(self) -> None:
        """Write down what was noted."""
        for logger in self.loggers:
            logger.save()
