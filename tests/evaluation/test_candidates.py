"""What candidates are like before any selector: compared with a teacher's from the same noise."""

from __future__ import annotations

import numpy as np
import torch

from onestride.evaluation.candidates import measure_candidates
from onestride.policy.policy import Policy, unselected
from onestride.runs.run import TEACHER
from onestride.tasks import TASKS


def test_a_teacher_that_draws_one_candidate_is_compared_from_the_same_noise(run):
    """Planners that are asked for what is good draw one where nobody ranks."""
    rows = torch.from_numpy(np.stack([TASKS["hopper-v5"]().first_observation(seed) for seed in (0, 1)])).float()
    policy = Policy.from_pretrained(run / "dnk-0", selector=unselected)
    alike, alone = (Policy.from_pretrained(run / TEACHER, selector=unselected, candidates=n) for n in (None, 1))
    assert policy.candidates == alike.candidates > 1
    found = measure_candidates(policy, alone, rows, 0)
    assert found == measure_candidates(policy, alike, rows, 0)
    assert found["teacher_distance"] > 0
