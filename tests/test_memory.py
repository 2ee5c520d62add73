"""Kept memory: the same numbers, fewer page faults."""

import resource
import sys

import pytest
import torch

from onestride.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux does")
def test_tensors_of_the_same_size_come_without_page_faults():
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(50):
            torch.ones(4 * 2**20)  # 16 MiB: 4096 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 4096  # given back and fetched again, it would be fifty times as many
