"""Compiled modules (`.pyc`) that Python keeps."""

import os
import shutil
import sys
from pathlib import Path

ROOM = 256 << 20  # bytes on the disk, or allowed in a file: with less, a compiled module may be cut off


def keep_no_half_modules(folder: Path) -> None:
    """Let this process and its children keep no compiled modules where the disk of a folder is nearly full.

    Python before 3.13 does not notice that one was cut off (CPython issue 126606). No command that imports it starts
    from then on, also when there is room again. Must come before the modules that are large.
    """
    if _is_small(folder):
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def _is_small(folder: Path) -> bool:
    try:
        if shutil.disk_usage(folder).free < ROOM:
            return True
    except OSError:
        return False
    if sys.platform == "win32":
        return False
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return limit != resource.RLIM_INFINITY and limit < ROOM
