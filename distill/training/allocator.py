"""The C allocator's handling of memory between training steps."""

import ctypes
import sys

MMAP_MAX, TRIM_THRESHOLD, ARENA_MAX = -4, -1, -8  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that this process frees for the next training step. Returns whether it will.

    By default glibc returns large blocks to the system, which zeroes them page by page when the next step needs them: a
    quarter of a prior's training step. Without glibc nothing changes.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    options = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options)
