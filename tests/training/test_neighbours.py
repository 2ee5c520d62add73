"""Neighbours in key space: parity with a loop, nobody of the own episode, one of each other, kept once."""

from __future__ import annotations

import pytest
import torch

from onestride.files import CheckpointError
from onestride.plans.spec import Block, PlanSpec
from onestride.training.datasets import Resident
from onestride.training.neighbours import Neighbours, keys_of, nearest, with_neighbours

SPEC = PlanSpec(horizon=3, state_dim=2, action_dim=1, context_dim=1, known=(Block(0, 0, 2), Block(-1, 0, 1)))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def data():
    return Resident({"plans": normal(60, 3, 3), "context": normal(60, 1, seed=1)})


@pytest.fixture
def episode():
    return torch.arange(60) // 6


def found_by_looking_at_all(keys, episode, count):
    distance = (keys[:, None].double() - keys.double()).norm(dim=-1)
    index = []
    for i in range(len(keys)):
        of, best = {int(episode[i])}, []
        for j in distance[i].argsort().tolist():
            if int(episode[j]) not in of:
                of.add(int(episode[j]))
                best.append(j)
        index.append(best[:count])
    return torch.tensor(index), distance


def test_neighbours_are_those_that_a_look_at_all_finds(data, episode):
    keys = keys_of(data, torch.arange(60), SPEC)
    assert torch.equal(keys, torch.cat((data.columns["plans"].flatten(1)[:, [0, 1, 6]], data.columns["context"]), 1))
    found = nearest(keys, episode, 4, slack=0.0)
    index, distance = found_by_looking_at_all(keys, episode, 4)
    assert torch.equal(found.index.long(), index)
    torch.testing.assert_close(found.distance, distance.gather(1, index).float())
    assert found.scale == pytest.approx(float(torch.pdist(keys).mean()), rel=1e-5)


def test_keys_of_many_columns_are_sought_without_a_tree_and_found_the_same(episode):
    keys = normal(60, 33, seed=2)
    found = nearest(keys, episode, 4)
    index, distance = found_by_looking_at_all(keys, episode, 4)
    assert torch.equal(found.index.long(), index)
    torch.testing.assert_close(found.distance, distance.gather(1, index).float())


def test_where_there_are_too_few_the_window_itself_is_infinitely_far(data):
    keys = keys_of(data, torch.arange(60), SPEC)
    found = nearest(keys, torch.arange(60) // 30, 3, slack=0.0)  # two episodes: one other
    assert torch.isfinite(found.distance[:, 0]).all()
    assert torch.isinf(found.distance[:, 1:]).all()
    assert torch.equal(found.index[:, 1:].long(), torch.arange(60)[:, None].expand(-1, 2))


def test_rows_bring_their_neighbours(data, episode, tmp_path):
    made = with_neighbours(data, SPEC, torch.arange(60), episode, 2, 10.0, tmp_path)
    assert isinstance(made, Neighbours)
    batch = made.to(torch.device("cpu")).rows(torch.tensor([3, 50]))
    near = made.nearest.index[[3, 50]].long()
    assert torch.equal(batch["neighbours"], data.columns["plans"][near])
    assert torch.equal(batch["plans"], data.columns["plans"][[3, 50]])
    torch.testing.assert_close(batch["neighbour_distance"], made.nearest.distance[[3, 50]] / made.nearest.scale)


def test_windows_that_are_there_several_times_are_looked_for_once(data, episode, tmp_path):
    times = torch.arange(60).repeat_interleave(torch.where(torch.arange(60) < 10, 3, 1))
    more = Resident({name: column[times] for name, column in data.columns.items()})
    once = with_neighbours(data, SPEC, torch.arange(60), episode, 2, 10.0, tmp_path / "once").rows(torch.arange(60))
    again = with_neighbours(more, SPEC, times, episode[times], 2, 10.0, tmp_path / "again").rows(torch.arange(80))
    for name, column in once.items():
        assert torch.equal(again[name], column[times]), name


def test_they_are_found_once_and_what_was_altered_is_refused(data, episode, tmp_path, monkeypatch):
    args = data, SPEC, torch.arange(60), episode, 2, 10.0, tmp_path
    first = with_neighbours(*args).rows(torch.arange(60))
    monkeypatch.setattr("onestride.training.neighbours.nearest", lambda *_: pytest.fail("looked for again"))
    for name, column in with_neighbours(*args).rows(torch.arange(60)).items():
        assert torch.equal(first[name], column), name
    (kept,) = tmp_path.glob("neighbours-*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="delete it, and it is made again"):
        with_neighbours(*args)


def test_data_without_a_neighbour_within_reach_are_refused_in_one_line(data, episode, tmp_path):
    with pytest.raises(ValueError, match=r"no window has a neighbour .* less than 1e-06") as raised:
        with_neighbours(data, SPEC, torch.arange(60), episode, 2, 1e-6, tmp_path)
    assert "\n" not in str(raised.value)
    assert with_neighbours(data, SPEC, torch.arange(60), episode, 0, 1e-6, tmp_path) is data
