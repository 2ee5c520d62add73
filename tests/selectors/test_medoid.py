"""The medoid of the largest cluster: in closed form, and guarded where there is no cluster."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.engine.engine import Engine
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.selectors import SELECTORS
from onestride.selectors.medoid import MedoidOptions, MedoidSelector
from onestride.tasks import TASKS


def chosen(candidates, **options):
    """Index of the best of candidates (N,), plans of one row and one column."""
    plans = torch.tensor(candidates)[None, :, None, None].float()
    selector = MedoidSelector(Normalizer.empty(1, 0), MedoidOptions(**options))
    return int(selector(plans, torch.zeros(1, 1), None).argmax())


def test_the_middle_of_the_larger_of_two_modes():
    assert chosen([5.0, -1.1, -1.0, -0.85, 5.1]) == 2
    assert chosen([5.0, 5.1, 5.25, -1.0, -0.9]) == 1


def test_neighbours_of_neighbours_are_of_one_cluster():
    chain = [0.0, 0.15, 0.3, 0.45, 0.6]  # longer than the radius
    assert chosen([9.0, 9.05, 9.1, *chain]) == 5  # its middle, though three are nearer together


def test_where_there_is_no_cluster_the_first_wins():
    assert chosen([3.0, 0.0, 1.0, 2.0]) == 0
    assert chosen([7.0]) == 0


def test_steps_and_normalisation_count():
    plans = torch.zeros(1, 3, 2, 1)
    plans[0, :, 0, 0] = torch.tensor([0.0, 1.0, 1.1])
    plans[0, :, 1, 0] = torch.tensor([0.0, 0.0, 9.0])  # later rows are not looked at
    normalizer = Normalizer(torch.zeros(1), torch.full((1,), 10.0), torch.zeros(0), torch.ones(0))
    near = MedoidSelector(normalizer, MedoidOptions(radius=0.02, steps=1))(plans, torch.zeros(1, 1), None)
    assert int(near.argmax()) in (1, 2)
    assert near[0, 0] < near[0, 1:].min()
    everything = MedoidSelector(normalizer, MedoidOptions(radius=0.2, steps=1))(plans, torch.zeros(1, 1), None)
    assert int(everything.argmax()) == 1  # the middle of all three


def test_batches_are_rows_of_their_own():
    torch.manual_seed(0)
    plans, selector = torch.randn(5, 7, 4, 3), MedoidSelector(Normalizer.empty(3, 0), MedoidOptions(radius=1.2))
    together = selector(plans, torch.zeros(5, 1), None)
    for b in range(5):
        torch.testing.assert_close(together[b], selector(plans[b : b + 1], torch.zeros(1, 1), None)[0])


def test_it_is_a_kind_that_needs_no_training():
    assert not SELECTORS["medoid"]().learnt
    with pytest.raises(ValueError, match="radius > 0"):
        MedoidOptions(radius=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("candidates", [4, 26])
def test_any_number_of_candidates_is_written_as_a_graph(candidates):
    """Few and many candidates' distances are computed otherwise."""
    pytest.importorskip("onnxruntime")
    task = TASKS["halfcheetah-v5"]()
    torch.manual_seed(0)
    generator = make_generator(task, "mlp", {"hidden": 8, "latent_dim": 8, "gain_hidden": 4})
    normalizer = Normalizer.empty(task.control.transition_dim, task.context_dim)
    ranked = MedoidSelector(normalizer, MedoidOptions(radius=1.0))
    policy = Policy(task, generator, normalizer, selector=ranked, candidates=candidates, seed=0)
    engine = Engine.from_policy(policy, "onnx", threads=1, draws=3, seed=0)
    for row in torch.randn(3, 17, generator=torch.Generator().manual_seed(1)).double().numpy():
        found, wanted = engine.decide(row), policy.decide(row)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)  # products of matrices
        np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
