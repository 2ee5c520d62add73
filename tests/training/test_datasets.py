"""Datasets by rows: where a row comes from changes nothing of a training; shares of a batch are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.training.datasets import Lazy, Order, Resident, Stratified, as_dataset, streamed
from toy_training import BATCH, Toy, run, same_bits, toy_data

CPU = torch.device("cpu")


def test_lazy_and_streamed_rows_train_to_the_same_bits(tmp_path):
    data = toy_data()
    (tmp_path / "columns").mkdir()
    for name, column in data.items():
        np.save(tmp_path / "columns" / f"{name}.npy", column.numpy())
    lazy = Lazy(len(data["x"]), lambda index: {name: column[index] for name, column in data.items()})
    whole, _ = run(Toy(), tmp_path / "resident")
    for name, dataset in (("lazy", lazy), ("streamed", streamed(tmp_path / "columns"))):
        same_bits(run(Toy(), tmp_path / name, data=dataset)[0], whole)


def test_a_stream_reads_what_it_is_asked_for(tmp_path):
    """Ten gigabytes on disk, of which a batch is read."""
    big = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.uint8, (100_000, 316, 316))  # a sparse file
    big[70_001] = 7
    big.flush()
    batch = streamed(tmp_path).rows(torch.tensor([70_001, 3, 70_001]))["image"]
    assert batch.shape == (3, 316, 316)
    assert [int(image.max()) for image in batch] == [7, 0, 7]


def test_every_batch_has_its_shares_and_every_row_comes_once_an_epoch():
    few, many = Resident({"x": torch.arange(10.0)}), Resident({"x": 100 + torch.arange(90.0)})
    both = Stratified((few, many), (0.25, 0.75))
    order = Order(both, 8, 3, CPU)
    batches = [both.rows(order.rows(step)) for step in range(15)]
    assert all(batch["part"].tolist() == [0, 0] + [1] * 6 for batch in batches)
    assert all(bool(((batch["x"] >= 100) == (batch["part"] == 1)).all()) for batch in batches)
    rare = torch.cat([batch["x"][:2] for batch in batches])
    assert all(rare[i : i + 10].sort().values.tolist() == list(range(10)) for i in (0, 10, 20))
    common = torch.cat([batch["x"][2:] for batch in batches])
    assert common.sort().values.tolist() == [100.0 + i for i in range(90)]


def test_rows_of_parts_come_back_in_the_order_asked_for():
    both = Stratified([Resident({"x": torch.arange(3.0)}), Resident({"x": 10 + torch.arange(3.0)})], (0.5, 0.5))
    assert both.rows(torch.tensor([4, 0, 5, 2]))["x"].tolist() == [11.0, 0.0, 12.0, 2.0]


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="differ in length"):
        as_dataset({"a": torch.zeros(3), "b": torch.zeros(2)})
    with pytest.raises(ValueError, match="as many shares above 0"):
        Stratified([Resident({"x": torch.zeros(3)})], (0.5,))
    with pytest.raises(ValueError, match=r"no row for a share of 0\.01"):
        Stratified([Resident({"x": torch.zeros(30)})] * 2, (0.01, 0.99)).counts(BATCH)
    with pytest.raises(ValueError, match="none at all"):
        streamed(tmp_path)
    with pytest.raises(ValueError, match="3 rows are fewer than one batch of 4"):
        Order(Resident({"x": torch.zeros(3)}), 4, 0, CPU)
