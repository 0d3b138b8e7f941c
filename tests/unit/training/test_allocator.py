"""Memory that PyTorch frees stays with the process."""

import platform
import subprocess
import sys

import pytest

PAGES = 15_625  # of 64 MB
# In a process of its own: what earlier tests left in the heap decides whether a block fits again.
CODE = """
import resource
import torch
from distill.training.allocator import keep_freed_memory

assert keep_freed_memory()
for _ in range(20):  # the heap grows by some blocks before one fits again
    torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
def test_large_blocks_are_not_faulted_in_again() -> None:
    found = int(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout)
    assert found < 5 * PAGES  # a block may still be new, ten are not
