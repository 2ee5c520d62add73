"""Whatever a driver hands over, policy and engine act on the same numbers or refuse them in the same words."""

from __future__ import annotations

import numpy as np
import pytest

from onestride.engine.engine import Engine
from onestride.robot.control_spec import ObservationError


def odd(observation: np.ndarray) -> dict[str, object]:
    """The numbers of an observation as drivers hand them over."""
    locked = observation.astype(np.float32).copy()
    locked.setflags(write=False)
    return {
        "big-endian": np.frombuffer(observation.astype(">f4").tobytes(), ">f4"),
        "reversed": observation[::-1].copy()[::-1],
        "read-only": locked,
        "long double": observation.astype(np.longdouble),
        "float16": observation.astype(np.float16),
        "list": observation.tolist(),
        "integers": observation.round().astype(np.int32),
    }


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_policy_and_engine_act_alike_and_refuse_alike(make, observations, backend):
    policy = make()
    engine = Engine.from_policy(policy, backend, threads=1, draws=1)
    observations[0][3] = 0.0
    for name, given in odd(observations[0]).items():
        plain = np.asarray(given).astype(np.float64)
        found = []
        for decider in (policy, engine):
            policy.reset(0)
            wanted = decider.decide(plain).action
            policy.reset(0)
            found.append(decider.decide(given).action)
            np.testing.assert_array_equal(found[-1], wanted, err_msg=name)
            policy.reset(0)
            np.testing.assert_allclose(decider.act([given]), wanted[None], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(*found, atol=1e-5, err_msg=name)
    row = observations[0]
    far = np.where(np.arange(17) == 5, 1e39, row)  # finite, but not in float32
    kinds = (complex, bool, str, object)
    for given in (*map(row.astype, kinds), [[1.0], *row[1:]], row[:5], row * np.nan, far):
        said = []
        for decide in (policy.decide, engine.decide, lambda o: policy.act([o]), lambda o: engine.act([o])):
            with pytest.raises(ObservationError) as refused:
                decide(given)
            said.append(str(refused.value))
        assert len(set(said)) == 1, said
