"""Execution settings from the environment: device, precision and worker count. They are not settings of a stage."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from distill.errors import ParamsError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Execution:
    """Device, precision and worker count. `auto` takes the GPU if there is one, and bf16 where the hardware has it."""

    device: Device = "auto"
    precision: Precision = "auto"
    workers: int = 1


def physical_memory() -> int:
    """The computer's memory in bytes, or very much where it is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def execution_from_environment(environment: Mapping[str, str] | None = None) -> Execution:
    """Read DISTILL_DEVICE, DISTILL_PRECISION and DISTILL_WORKERS. Raises ParamsError for a wrong value."""
    values = os.environ if environment is None else environment
    device = _choice(values, "DISTILL_DEVICE", get_args(Device))
    precision = _choice(values, "DISTILL_PRECISION", get_args(Precision))
    workers = values.get("DISTILL_WORKERS", "auto")
    if workers == "auto":
        count = min(16, os.cpu_count() or 1)
    elif workers.isascii() and workers.isdigit() and 1 <= int(workers) <= 1024:
        count = int(workers)
    else:
        raise ParamsError(f"DISTILL_WORKERS: expected auto or a whole number from 1 to 1024, found {workers!r}")
    return Execution(cast(Device, device), cast(Precision, precision), count)


def _choice(values: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    found = values.get(name, "auto")
    if found not in allowed:
        raise ParamsError(f"{name}: expected {', '.join(allowed[:-1])} or {allowed[-1]}, found {found!r}")
    return found
