"""Units of work: done once, by nobody but this package, and refused in words."""

from __future__ import annotations

import json

import pytest
import torch

from onestride.files import versions
from onestride.scale.cluster import RETRIES, Cluster, WorkRefusedError
from onestride.scale.units import Result, Unit, do, finished
from onestride.scale.worker import answer_file, look, order, token_file, work
from onestride.tensors import save_tensors
from ray_of_tests import RayOfTests

HERE = "onestride.scale.of_tests"


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Functions of a module of this package, and what they were asked."""
    import sys
    from types import ModuleType

    asked, module = [], ModuleType(HERE)

    def square(arguments):
        asked.append(arguments["n"])
        return Result(arguments["n"] ** 2, {"n": torch.tensor([arguments["n"]])})

    def refuse(_arguments):
        from pathlib import Path

        from onestride.files import size_of_file

        size_of_file(Path("nowhere"))

    def bug(_arguments):
        return [][0]

    vars(module).update(square=square, refuse=refuse, bug=bug)
    monkeypatch.setitem(sys.modules, HERE, module)
    return asked


def unit(n, function="square"):
    return Unit(f"n-{n}", f"{HERE}:{function}", {"n": n})


@pytest.fixture
def cluster(tmp_path):
    token_file(tmp_path, "abc").write_text("abc")
    return Cluster(RayOfTests(), tmp_path, "abc")


def test_a_unit_leaves_its_result(tmp_path):
    assert finished(unit(3), tmp_path) is None
    do(unit(3), tmp_path)
    result = finished(unit(3), tmp_path)
    assert (result.said, result.tensors["n"].tolist()) == (9, [3])


def test_a_result_of_other_arguments_or_one_that_was_damaged_is_none(tmp_path):
    do(unit(3), tmp_path)
    assert finished(Unit("n-3", f"{HERE}:square", {"n": 4}), tmp_path) is None
    assert finished(Unit("n-3", f"{HERE}:refuse", {"n": 3}), tmp_path) is None
    path = unit(3).path(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert finished(unit(3), tmp_path) is None
    save_tensors(path, {})
    assert finished(unit(3), tmp_path) is None


def test_nothing_but_this_package_is_run(tmp_path):
    for function in ("os:system", "onestrider:do", "builtins:exec"):
        with pytest.raises(ValueError, match="no function of onestride"):
            do(Unit("a", function, {}), tmp_path)


def test_a_cluster_does_every_unit_once(cluster, calls, tmp_path):
    units = [unit(n) for n in range(40)]
    made = {each.name: result.said for each, result in cluster.run(units, tmp_path / "u")}
    assert made == {f"n-{n}": n**2 for n in range(40)}
    assert cluster.ray.most == 4 * cluster.cpus  # so many wait with it, and not all
    assert sorted(calls) == list(range(40))
    assert set(cluster.cpu_s) == made.keys()


def test_what_is_done_is_not_done_again_unless_it_knows_by_itself(cluster, calls, tmp_path):
    folder = tmp_path / "u"
    do(unit(1), folder)
    do(Unit("n-2", f"{HERE}:square", {"n": 5}), folder)
    calls.clear()
    made = [(each.name, result.said) for each, result in cluster.run([unit(n) for n in (0, 1, 2)], folder)]
    assert made[0] == ("n-1", 1)
    assert dict(made) == {"n-0": 0, "n-1": 1, "n-2": 4}
    assert sorted(calls) == [0, 2]
    list(cluster.run([unit(1)], folder, again=True))
    assert calls[-1] == 1


def test_who_stops_listening_leaves_what_is_done(cluster, calls, tmp_path):
    found = cluster.run([unit(n) for n in range(6)], tmp_path / "u")
    next(found)
    found.close()
    assert len(cluster.ray.cancelled) == 5
    assert len(list((tmp_path / "u").iterdir())) == len(calls) == 1
    assert len(list(cluster.run([unit(n) for n in range(6)], tmp_path / "u"))) == 6
    assert sorted(calls) == list(range(6))


def test_a_unit_whose_process_is_killed_again_and_again_is_said(cluster, tmp_path):
    cluster.ray.lost = 1
    with pytest.raises(OSError, match=f"'n-0' was killed {RETRIES + 1} times.*the same command goes on"):
        list(cluster.run([unit(0)], tmp_path / "u"))


def test_what_a_person_can_mend_is_one_line_and_a_bug_shows_where_it_is(cluster, tmp_path):
    with pytest.raises(WorkRefusedError, match="n-0: nowhere cannot be read"):
        list(cluster.run([unit(0, "refuse")], tmp_path / "u"))
    with pytest.raises(IndexError):
        list(cluster.run([unit(0, "bug")], tmp_path / "u"))


def test_a_process_that_does_not_see_the_folder_does_nothing(tmp_path, calls):
    """It would write where nobody looks."""
    said = json.loads(work(order(tmp_path, "abc", tmp_path / "u", unit(1), {})))
    assert "does not see" in said["refused"]
    token_file(tmp_path, "abc").write_text("of another command")
    assert "does not see" in json.loads(work(order(tmp_path, "abc", tmp_path / "u", unit(1), {})))["refused"]
    assert not calls
    assert not (tmp_path / "u").exists()


def test_a_machine_answers_in_the_folder_that_it_sees(tmp_path):
    asked = json.dumps({"root": str(tmp_path), "token": "abc", "node": "n1"})
    assert not json.loads(look(asked))["sees"]
    token_file(tmp_path, "abc").write_text("abc")
    said = json.loads(look(asked))
    assert said["sees"]
    assert said["versions"] == versions()
    assert answer_file(tmp_path, "abc", "n1").read_text() == "abc"
