"""Memory between training steps."""

import ctypes
import sys

MMAP_MAX, TRIM_THRESHOLD, ARENA_MAX = -4, -1, -8  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Let this process keep what it frees: a training step needs as much as the one before it. Says whether it will.

    By default glibc gives large blocks back to the system, which fills them with zeros page by page when the next step
    asks for them: a quarter of a prior's training step. Without glibc nothing changes.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wishes = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in wishes)
