"""What a process holds while it repeats something: memory, objects, handles, threads, children, files."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import psutil
from scipy.stats import theilslopes


@dataclass(frozen=True)
class Usage:
    """What a process holds at one moment, and the seconds that the repetition before took."""

    memory: int  # resident bytes
    objects: int  # new ones that the garbage collector of Python follows; 0 of another process
    handles: int
    threads: int
    children: int  # also those that have ended and were not waited for
    temporary: int  # files in its folder for temporary files
    files: int  # in its working folder
    disk: int  # bytes of these
    seconds: float = 0.0


FLAT = ("handles", "threads", "children", "temporary")  # may not differ after the first repetitions


@dataclass
class Course:
    """How the use of resources went, a `Usage` after each repetition that was looked at."""

    warm: int  # repetitions that do not count: caches fill, and the allocator takes what it keeps
    numbers: list[int] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def add(self, number: int, usage: Usage) -> None:
        """Note the usage after repetition `number`."""
        if number >= self.warm:
            self.numbers.append(number)
            self.usages.append(usage)

    def values(self, name: str) -> list[float]:
        """One resource after each repetition."""
        return [float(getattr(usage, name)) for usage in self.usages]

    def slope(self, name: str) -> float:
        """Growth of a resource by one repetition: the median of the slopes between all pairs (Theil and Sen)."""
        return float(theilslopes(self.values(name), self.numbers).slope)

    def report(self) -> dict[str, dict[str, float]]:
        """The first, last, lowest and highest value and the slope of each resource."""
        return {
            one.name: {
                "first": self.values(one.name)[0],
                "last": self.values(one.name)[-1],
                "low": min(self.values(one.name)),
                "high": max(self.values(one.name)),
                "slope": self.slope(one.name),
            }
            for one in fields(Usage)
        }

    def uneven(self) -> list[str]:
        """The resources that should be flat and were not."""
        return [name for name in FLAT if len(set(self.values(name))) > 1]


def usage(folder: Path, pid: int | None = None, seconds: float = 0.0) -> Usage:
    """What this process, or another, holds, with its working folder and the `tmp` in it for temporary files."""
    own = pid is None
    if own:
        gc.collect()
    process = psutil.Process(pid)
    sizes = list(_sizes(folder))
    return Usage(
        memory=process.memory_info().rss,
        objects=len(gc.get_objects()) if own else 0,
        handles=process.num_fds() if os.name != "nt" else process.num_handles(),
        threads=process.num_threads(),
        children=len(process.children(recursive=True)),
        temporary=sum(1 for _ in _sizes(folder / "tmp")),
        files=len(sizes),
        disk=sum(sizes),
        seconds=seconds,
    )


def repeat(once: Callable[[int], None], count: int, folder: Path, every: int = 1) -> Course:
    """Call with the number of the repetition, and look at what this process holds after every so many."""
    course = Course(warm=max(2 * every, count // 4))
    gc.freeze()  # what was there before is not followed, nor looked at each time
    try:
        for number in range(count):
            began = time.monotonic()
            once(number)
            if (number + 1) % every == 0:
                found = usage(folder, seconds=time.monotonic() - began)
                course.add(number, found)
                print(number + 1, json.dumps(vars(found)), file=sys.stderr, flush=True)  # of a course that is cut off
    finally:
        gc.unfreeze()
    return course


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                yield path.stat().st_size
        except FileNotFoundError:
            continue  # a process has just removed it
