"""A model hub on this machine, and folders to share."""

from __future__ import annotations

import shutil

import pytest

from model_hub import TOKEN, Hub
from onestride.engine.export import export
from onestride.policy.policy import Policy
from onestride.runs.finished import record
from onestride.selectors import SELECTORS
from onestride.selectors.store import save_selector
from onestride.training.config import TrainConfig

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub that the program finds, with a token that it takes."""
    made = Hub()
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # for processes that are started, see below
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the other way to upload large files, which is plain
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="session")
def shared(make_arm_policy, tmp_path_factory):
    """A run's folder with a student, a selector and a student that has one inside, and an exported folder."""
    base = tmp_path_factory.mktemp("shared")
    training = record(TrainConfig(steps=30), {"data": {"seed": 3, "episodes": 64}}, {"precision": "32-true"})
    student = make_arm_policy("student")
    student.save(base / "run" / "dnk-0", training)
    kind = SELECTORS["medoid"]()
    ranking = kind.make(None, student.normalizer, student.task, kind.options)
    save_selector(base / "run" / "medoid", ranking, "kinova", {"id": "medoid"})
    Policy(student.task, student.generator, student.normalizer, selector=ranking, candidates=8).save(
        base / "run" / "ranked-0", training
    )
    export(Policy.from_pretrained(base / "run" / "dnk-0"), base / "exported", form="native", draws=2, seed=0,
           checkpoint=base / "run" / "dnk-0")  # fmt: skip
    return base


@pytest.fixture
def folders(shared, tmp_path):
    """A copy, to do harm to."""
    return shutil.copytree(shared, tmp_path / "mine")
