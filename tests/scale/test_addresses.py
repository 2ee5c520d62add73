"""Where work may go: what is no address, who does not answer, and machines that are not alike."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from onestride.cli import main
from onestride.files import versions
from onestride.scale.cluster import check_address, check_machine
from without import python_without

TYPED = """
from onestride.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("on", ["local", "ray", "ray://head:10001", "ray://[::1]:10001"])
def test_addresses(on):
    check_address(on)


@pytest.mark.parametrize("on", ["", "Ray", "ray://", "ray://head", "ray://:1", "http://head:10001", "ray://head:x"])
def test_what_is_no_address_is_said_before_any_work(on, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["pairs", "--run", str(tmp_path / "run"), "--on", on])
    assert stop.value.code == 2
    begun, _, said = capsys.readouterr().err.partition("\n")
    assert begun.startswith("onestride: making pairs in ")
    assert said.startswith("onestride: --on is ")
    assert "ray://HOST:PORT" in said
    assert not (tmp_path / "run").exists()


def test_nobody_answers(tmp_path, capsys):
    pytest.importorskip("ray")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SystemExit) as stop:
            main(["pairs", "--run", str(tmp_path / "run"), "--on", address])
    assert stop.value.code == 2
    said = capsys.readouterr().err.partition("\n")[2]  # after what is begun
    assert said.startswith(f"onestride: nobody answers at {address}")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_without_ray_one_line_says_what_to_install(tmp_path):
    done = python_without(["ray"], TYPED, "pairs", "--run", tmp_path, "--on", "ray", check=False)
    said = done.stderr.partition("\n")[2]  # after what is begun
    assert (done.returncode, said) == (2, 'onestride: this needs ray: pip install "onestride[scale]"\n')


def test_machines_are_alike_or_refused():
    like = {"host": "n1", "sees": True, "versions": versions()}
    check_machine(like, True, Path("/runs"))
    for said, answered in ((like | {"sees": False}, True), (like, False)):
        with pytest.raises(ValueError, match=r"machine n1 .*does not see /runs as it is here: .*NFS"):
            check_machine(said, answered, Path("/runs"))
    with pytest.raises(ValueError, match=r"machine n1 .* has torch 1\.0, and here it is .*: install the same"):
        check_machine(like | {"versions": versions() | {"torch": "1.0"}}, True, Path("/runs"))
    fewer = {name: version for name, version in versions().items() if name != "mujoco"}
    with pytest.raises(ValueError, match="has mujoco none, and here"):
        check_machine(like | {"versions": fewer}, True, Path("/runs"))
