"""Memory that the allocator keeps between steps."""

import platform
import resource

import pytest
import torch

from distill.training.allocator import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
def test_large_blocks_are_not_faulted_in_again() -> None:
    assert keep_freed_memory()
    for _ in range(2):
        torch.ones(16_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16_000_000)  # 64 MB: 15625 pages
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert found < 5 * 15_625  # a block may still be new, ten are not
