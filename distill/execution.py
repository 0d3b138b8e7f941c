"""Execution settings from environment variables, not from `params.yaml`: device, precision, workers, processes."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from distill.errors import ParamsError
from distill.text import any_of

STATE = Path(".distill")  # work in progress, where DVC neither deletes nor caches it

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Execution:
    """Device, precision and number of workers. `auto` means the GPU if available, and bf16 if the hardware supports it.

    `cluster` is the address of a Dask scheduler, or "".
    """

    device: Device = "auto"
    precision: Precision = "auto"
    workers: int = 1
    cluster: str = ""


def execution_from_environment() -> Execution:
    """Read DISTILL_DEVICE, DISTILL_PRECISION, DISTILL_WORKERS and DISTILL_CLUSTER. Raises ParamsError for a wrong value."""
    device: Any = _choice("DISTILL_DEVICE", get_args(Device))
    precision: Any = _choice("DISTILL_PRECISION", get_args(Precision))
    workers = number_from_environment("DISTILL_WORKERS", "auto") or min(16, processors())
    return Execution(device, precision, workers, os.environ.get("DISTILL_CLUSTER", "").strip())


def check_environment() -> None:
    """Check the variables that any command may need, before libraries load. Raises ParamsError for a wrong value."""
    execution_from_environment()
    date_from_environment()


def date_from_environment() -> int:
    """SOURCE_DATE_EPOCH (https://reproducible-builds.org) in seconds since 1970, else now. Raises ParamsError."""
    value = os.environ.get("SOURCE_DATE_EPOCH", f"{time.time():.0f}")
    if value.isascii() and value.isdigit() and int(value) < 1 << 37:  # year 6325
        return int(value)
    raise ParamsError(
        f"SOURCE_DATE_EPOCH: expected whole seconds since 1970, found {value!r}; correct or unset it"
    )


def number_from_environment(name: str, default: str) -> int | None:
    """Read a number of workers or processes; None for auto. Raises ParamsError for a wrong value."""
    value = os.environ.get(name, default)
    if value == "auto":
        return None
    if value.isascii() and value.isdigit() and 1 <= int(value) <= 1024:
        return int(value)
    raise ParamsError(
        f"{name}: expected auto or a whole number from 1 to 1024, found {value!r}; correct or unset it"
    )


def _choice(name: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(name, "auto")
    if value not in allowed:
        raise ParamsError(
            f"{name}: expected {any_of(allowed)}, found {value!r}; correct or unset it"
        )
    return value


def processors() -> int:
    """Number of processors that this process may use; a batch job is often limited to a few."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def usable_memory() -> int:
    """Bytes that this process may use: the computer's memory, or the limit of its container or batch job.

    2^62 if neither is known.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        memory = 1 << 62
    return min([memory, *group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def free_memory() -> int:
    """Bytes that this process may still allocate, ignoring the memory of other programs."""
    import psutil

    return max(0, usable_memory() - int(psutil.Process().memory_info().rss))


def group_limits(own: Path, mounted: Path) -> Iterator[int]:
    """Memory limits in bytes of the control groups listed in the file `own`, and of their parent groups.

    Both versions of control groups, as Linux mounts them (cgroups(7)).
    """
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, name = (
            (mounted / "memory", "memory.limit_in_bytes")
            if controllers
            else (mounted, "memory.max")
        )
        group = PurePosixPath(path)
        for place in (group, *group.parents):
            with suppress(
                OSError, ValueError
            ):  # a container sees only some groups; "max" means no limit
                yield int((folder / place.relative_to("/") / name).read_text())
