"""Which body every window of a run and of its source is like, and how far from its inverse model: computed once.

<run>/contexts    classifiers and inverse model (``methods/dynamics.py``), and columns.safetensors: of the run's
windows ("data.dynamics", "data.inverse") and the source's
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from onestride.checkpoint import CONFIG, load_config, load_model, save_checkpoint, settings_of
from onestride.files import CheckpointError
from onestride.folders import replace_folder
from onestride.methods.dynamics import SOURCE as FROM_SOURCE
from onestride.methods.dynamics import ContextsConfig, DynamicsModel, unit_range, window_means
from onestride.runs.finished import is_up_to_date, record
from onestride.runs.run import CONTEXTS, DATA, SOURCE, data_identity, material_of, task_of, wants_source
from onestride.tasks import TASKS
from onestride.tensors import load_tensors, save_tensors
from onestride.training.config import TrainConfig
from onestride.training.datasets import Resident, Stratified
from onestride.training.loop import finish, train
from onestride.training.ranks import Ranks, wait_for_all
from onestride.training.windows import WindowSource

COLUMNS = "columns.safetensors"
CHUNK = 65_536  # transitions scored at a time


def train_contexts(run: Path, config: ContextsConfig, training: TrainConfig, preset: str = "") -> Path:
    """Train classifiers and inverse model on the run's own episodes and its source's, and score every window.

    preset: see ``train_method``.

    Raises:
        CheckpointError: there is no source, or the folder holds another training.
        ValueError: there are fewer own episodes than folds.
    """
    folder, task = run / CONTEXTS, task_of(run)
    wants_source(run)
    own, source = (material_of(run, task, of) for of in (DATA, SOURCE))
    identity = {
        "data": data_identity(run), "source": data_identity(run, SOURCE), "contexts": asdict(config),
        "horizon": task.control.horizon,
    }  # fmt: skip
    if is_up_to_date(folder, training, identity):
        return folder
    torch.manual_seed(training.seed)
    model = DynamicsModel(config, task.control.observation_dim, task.control.action_dim)
    parts = [Steps.of(each.window_source, model, config.folds, own is each) for each in (own, source)]
    model.normalizer.fit(torch.cat([part.inputs for part in parts]))
    model.share.fill_(len(parts[0].inputs) / sum(len(part.inputs) for part in parts))
    data = Stratified([Resident({"inputs": part.inputs, "fold": part.fold}) for part in parts], (0.5, 0.5))
    ema, log = train(model, data, training, folder, title=CONTEXTS, identity=identity)
    trained = ema.cpu().eval()
    assert isinstance(trained, DynamicsModel)
    columns = _scored(trained, parts, (own.window_source, source.window_source))

    def write(new: Path) -> None:
        save_tensors(new / COLUMNS, columns)
        said = {"kind": CONTEXTS, "task": task.name, "contexts": asdict(config)}
        save_checkpoint(new, trained, said | {"training": record(training, identity, log, preset)})

    if Ranks.here().first:
        replace_folder(folder, write)
        finish(folder)
    wait_for_all()
    return folder


class Steps:
    """Every transition of some episodes, and the row of the episodes where it begins.

    inputs (M, 2 O + A), fold (M,), rows (M,), of T rows in all.
    """

    def __init__(self, inputs: Tensor, fold: Tensor, rows: Tensor, count: int) -> None:
        self.inputs, self.fold, self.rows, self.count = inputs, fold, rows, count

    @classmethod
    def of(cls, source: WindowSource, model: DynamicsModel, folds: int, target: bool) -> Steps:
        """Return those of a window source's episodes.

        Raises:
            ValueError: the target's episodes are fewer than folds.
        """
        count = len(source.observations)
        ends = torch.zeros(count, dtype=torch.bool)
        ends[source.ends] = True
        if target and int(ends.sum()) < folds:
            raise ValueError(
                f"{int(ends.sum())} episodes of the target are fewer than {folds} folds: collect more, or lower "
                "config.folds"
            )
        rows = (~ends).nonzero().flatten()
        episode = torch.cat((torch.zeros(1, dtype=torch.long), ends.long().cumsum(0)[:-1]))
        fold = episode[rows] % folds if target else torch.full((len(rows),), FROM_SOURCE)
        o, a = source.observations, source.actions
        return cls(model.inputs(o[rows], a[rows], o[rows + 1]), fold, rows, count)

    def spread(self, values: Tensor) -> Tensor:
        """Return values of transitions (M,) at the rows where they begin (T,); zeros elsewhere."""
        return torch.zeros(self.count).index_copy(0, self.rows, values)


@torch.inference_mode()
def _scored(model: DynamicsModel, parts: list[Steps], sources: tuple[WindowSource, WindowSource]) -> dict[str, Tensor]:
    """The columns of all windows."""
    odds = [
        torch.cat([model.log_odds(*each) for each in zip(p.inputs.split(CHUNK), p.fold.split(CHUNK), strict=True)])
        for p in parts
    ]
    model.scale(torch.cat(odds))
    errors = [torch.cat([model.inverse_errors(each) for each in part.inputs.split(CHUNK)]) for part in parts]

    def windows(values: list[Tensor]) -> list[Tensor]:
        return [
            window_means(part.spread(each), source.start, source.last, source.task.control.horizon)
            for part, each, source in zip(parts, values, sources, strict=True)
        ]

    dynamics = windows([model.scores(each) for each in odds])
    made = {"dynamics": dynamics, "inverse": unit_range(windows(errors))}
    return {
        f"{where}.{name}": values
        for name, (own, source) in made.items()
        for where, values in ((DATA, own), (SOURCE, source))
    }


def load_contexts(folder: Path) -> DynamicsModel:
    """Return the classifiers and the inverse model of a contexts' folder.

    Raises:
        CheckpointError: there are none, or they were altered.
    """
    config = load_config(folder)
    if config["kind"] != CONTEXTS:
        raise CheckpointError(f"{folder} holds no contexts but {config['kind']}; make them with `train contexts`")
    settings = settings_of(ContextsConfig, config["contexts"], folder / CONFIG)
    task = TASKS[config["task"]]()
    sizes = task.control.observation_dim, task.control.action_dim
    return load_model(folder, config, lambda: DynamicsModel(settings, *sizes)).eval()


def columns_of(run: Path) -> dict[str, Tensor]:
    """Return the columns of all windows (M,), by "data.dynamics", "source.inverse" and so on."""
    if not (run / CONTEXTS / CONFIG).is_file():
        raise CheckpointError(f"{run} has no contexts; make them with `onestride train contexts --run {run}`")
    return load_tensors(run / CONTEXTS / COLUMNS, advice="delete the folder and train contexts again")[0]


def of_set(columns: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the columns of one set of episodes, "data" or "source", by what they are."""
    return {key.partition(".")[2]: value for key, value in columns.items() if key.partition(".")[0] == name}
