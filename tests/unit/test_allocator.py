"""Memory that is freed stays with the process, all of it or the smaller blocks."""

import platform
import subprocess
import sys

import pytest

# In a process of its own: what earlier tests left in the heap decides whether a block fits again.
CODE = """
import resource
import {library}
from distill.allocator import {function}

assert {function}()
for _ in range(20):  # the heap grows by some blocks before one fits again
    {block}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    {block}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
@pytest.mark.parametrize(
    ("function", "library", "block", "megabytes", "kept"),
    [
        ("keep_freed_memory", "torch", "torch.ones(16 << 20)", 64, True),
        ("keep_freed_blocks", "builtins", "b'.' * (16 << 20)", 16, True),
        ("keep_freed_blocks", "builtins", "b'.' * (64 << 20)", 64, False),
    ],
)
def test_blocks_that_are_kept_are_not_faulted_in_again(
    function: str, library: str, block: str, megabytes: int, kept: bool
) -> None:
    code = CODE.format(function=function, library=library, block=block)
    found = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    pages = megabytes << 8  # of a block
    assert (found < 5 * pages) == kept  # a block may still be new, ten are not
