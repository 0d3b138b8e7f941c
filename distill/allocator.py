"""The C allocator's handling of memory that is freed and soon needed again."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8  # of glibc's mallopt
LARGEST_THRESHOLD = 32 << 20  # bytes, that glibc takes


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that this process frees for the next training step. Returns whether it will.

    By default glibc returns large blocks to the system, which zeroes them page by page when the next step needs them: a
    quarter of a prior's training step. Without glibc nothing changes.
    """
    return _set((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))


def keep_freed_blocks() -> bool:
    """Let glibc keep up to 64 MB that this process frees in blocks of up to 32 MB. Returns whether it will.

    For a process that decodes one file after another: it returns what a large file took.
    """
    return _set((MMAP_THRESHOLD, LARGEST_THRESHOLD), (TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD))


def _set(*options: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options)
