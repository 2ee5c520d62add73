"""Cores that may be used, as Linux tells them, and what torch's threads are told before torch is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from onestride import cores
from onestride.cores import COUNTING, WAITING, usable_cores

V2 = "30 23 0:26 {root} {point} rw,nosuid - cgroup2 cgroup2 rw"
V1 = "32 31 0:29 {root} {point} rw - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """mount line, the process's group, quotas by folder below the mount -> the usable cores, of eight."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def count(mount, group, quotas, root="/"):
        point = tmp_path / "the mount"
        for folder, quota in quotas.items():
            (point / folder).mkdir(parents=True, exist_ok=True)
            for name, text in quota.items():
                (point / folder / name).write_text(f"{text}\n")
        (tmp_path / "cgroup").write_text(f"{group}\n")
        line = mount.format(root=root, point=str(point).replace(" ", "\\040"))
        (tmp_path / "mountinfo").write_text(f"22 1 0:20 / /proc rw - proc proc rw\n{line}\n")
        return usable_cores(tmp_path)

    return count


def v1(quota, period=100_000):
    return {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("quotas", "wanted"),
    [
        ({"a/b": {"cpu.max": "300000 100000"}}, 3),
        ({"a/b": {"cpu.max": "max 100000"}, "a": {"cpu.max": "200000 100000"}}, 2),  # of the group above it
        ({"a/b": {"cpu.max": "150000 100000"}}, 1),  # a second thread would be stopped in the middle of its work
        ({"a/b": {"cpu.max": "20000 100000"}}, 1),
        ({"a/b": {"cpu.max": "max 100000"}}, 8),
        ({"a/b": {"cpu.max": "1600000 100000"}}, 8),  # more than the affinity has
        ({"a/b": {"cpu.max": "nonsense"}}, 8),
        ({"a/b": {}}, 8),
    ],
)
def test_a_quota_of_version_2(machine, quotas, wanted):
    assert machine(V2, "0::/a/b", quotas) == wanted


@pytest.mark.parametrize(
    ("quotas", "wanted"),
    [({"a": v1(200_000)}, 2), ({"a": v1(-1)}, 8), ({"a": v1(50_000, 20_000)}, 2), ({"a": v1(100_000, 0)}, 8)],
)
def test_a_quota_of_version_1(machine, quotas, wanted):
    assert machine(V1, "4:memory:/other\n3:cpu,cpuacct:/a", quotas) == wanted


@pytest.mark.parametrize(
    ("mount", "group", "quota"), [(V2, "0::", {"cpu.max": "200000 100000"}), (V1, "3:cpu:", v1(200_000))]
)
@pytest.mark.parametrize(("path", "root"), [("/docker/x", "/docker/x"), ("/docker/x", "/"), ("/../y", "/"), ("/", "/")])
def test_a_container_sees_its_own_group_as_the_first(machine, mount, group, quota, path, root):
    assert machine(mount, group + path, {".": quota}, root) == 2


def test_no_control_groups_and_no_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores(tmp_path) == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


PROGRAM = """
import json, os, sys, types
from onestride import cores
cores.usable_cores = lambda: int(sys.argv[1])
os.cpu_count = lambda: 2

def main(said):
    assert "torch" not in sys.modules
    import torch
    print(json.dumps([said, torch.get_num_threads()]))

sys.modules["onestride.cli"] = types.SimpleNamespace(main=main)
from onestride.__main__ import main
main()
"""


def program(count, **theirs):
    """What the program says, how many threads torch has then, and what OpenMP's library says it read."""
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, *COUNTING)}
    command = [sys.executable, "-c", PROGRAM, str(count)]
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | theirs
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return *json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_the_program_has_waiting_threads_sleep_and_no_more_of_them_than_cores():
    said, threads, read = program(1)
    assert (said, threads) == ("1 of this machine's 2 cores may be used: computing on 1 thread", 1)
    if "GOMP_SPINCOUNT" in read:  # GNU's, which torch's Linux wheels bring
        assert "OMP_WAIT_POLICY = 'PASSIVE'" in read
        assert "GOMP_SPINCOUNT = '0'" in read


def test_the_users_own_settings_win():
    said, threads, read = program(1, OMP_NUM_THREADS="2", GOMP_SPINCOUNT="77")
    assert (said, threads) == (None, 2)
    if "GOMP_SPINCOUNT" in read:
        assert "GOMP_SPINCOUNT = '77'" in read
    assert "ACTIVE" in program(2, OMP_WAIT_POLICY="active")[2] or "GOMP_SPINCOUNT" not in read


def test_nothing_is_said_where_all_cores_are_there(monkeypatch):
    for name in (*WAITING, *COUNTING):
        monkeypatch.setenv(name, "before")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "usable_cores", lambda: os.cpu_count())
    assert cores.set_up_threads() is None
    assert {name: os.environ.get(name) for name in (*WAITING, *COUNTING)} == dict.fromkeys((*WAITING, *COUNTING)) | {
        "OMP_WAIT_POLICY": "passive"
    }
