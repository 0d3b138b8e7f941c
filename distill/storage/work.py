"""Work that is done once: results of pure functions in files, and who does what is missing.

`map_cached` calls a function with each item whose result is not there yet. An `Executor` makes the calls: in this process,
or on other computers (`distill.cluster.Dask`). It is chosen at the top, by a stage or a command, and passed down; nothing
below knows which one it is.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, TypeVar

from distill.code_version import code_sha256
from distill.storage.files import remove_folder, sha256_json

LIBRARIES = (
    "av",
    "numpy",
    "safetensors",
    "soundfile",
    "soxr",
    "torch",
)  # whose version a result may depend on

T = TypeVar("T")
R = TypeVar("R")


class Executor:
    """Makes calls that do not depend on each other: here one after the other, in this process, with its devices.

    A call may use `processors` processors. A subclass, as `is_here` tells, makes calls elsewhere: function,
    items and results are pickled on the way.
    """

    is_here: ClassVar[bool] = True

    def __init__(self, processors: int = 1) -> None:
        self.processors = processors

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        folders: Sequence[Path],  # noqa: ARG002 - for subclasses
    ) -> Iterator[tuple[T, R]]:
        """Call with each item; pairs of item and result as they are done. Raises what the function raises.

        `folders` are absolute: what calls read and write, which another computer has to see at the same paths.
        """
        return ((item, function(item)) for item in items)


HERE = Executor()


class Cache:
    """Results in a folder, of one version of what makes them: each a file or folder named by its key."""

    def __init__(self, folder: Path, version: str) -> None:
        """`version` comes from `work_version`."""
        self._root = folder.absolute()
        self.folder = self._root / version

    def has(self, key: str) -> bool:
        """Whether the result of a key is there, and would be the same another time."""
        path = self.folder / key
        return path.exists() and not _doubt(path).exists()

    def keep_only(self, paths: Collection[Path]) -> None:
        """Remove all other results, also of other versions."""
        others = {*self._root.glob("*"), *self.folder.glob("*")} - {
            self.folder,
            *paths,
            *map(_doubt, paths),
        }
        for path in others:
            if path.is_dir():
                remove_folder(path)
            elif not path.name.startswith("."):  # it is being written
                path.unlink(missing_ok=True)


def map_cached(
    function: Callable[[T, Path], bool | None],
    items: Sequence[T],
    key: Callable[[T], str],
    executor: Executor,
    cache: Cache,
    done: Callable[[T], object] = lambda _: None,
    reads: Sequence[Path] = (),
) -> list[Path]:
    """Where the results of all items are, in order; `executor` makes those that `cache` does not have.

    `function(item, path)` writes the result of an item to `path`, atomically. The result is to depend on nothing but
    the `key` of the item and the version of the cache. A function that returns False doubts its result, which another
    time may be another: it is used now, and made again in the next run.
    `done` is called with each item whose result is there, first with those that are known. `reads` are folders that the
    function reads, apart from the cache. Interrupted at any moment, what was done is kept.
    """
    paths = [cache.folder / key(item) for item in items]
    missing = []
    for item, path in zip(items, paths, strict=True):
        if cache.has(path.name):
            done(item)
        else:
            missing.append((item, path))
    cache.folder.mkdir(parents=True, exist_ok=True)
    folders = [cache.folder, *(path.absolute() for path in reads)]
    for (item, _), _ in executor.map(partial(_make, function), missing, folders):
        done(item)
    return paths


@cache
def work_version(stage: str, *made_of: str) -> str:
    """Version of a cache: of a stage's code, of the libraries, and of what else all its results depend on."""
    libraries = [metadata.version(name) for name in LIBRARIES]
    return sha256_json([code_sha256(stage), *libraries, *made_of])[:16]


@contextmanager
def work_folder(kept: Path | None, output: Path) -> Iterator[Path]:
    """`kept`, or where nothing is to be kept a folder inside `output` that lasts as long as the context."""
    if kept:
        yield kept
        return
    yield output / ".work"
    remove_folder(output / ".work")


def cut_blocks(names: Sequence[str], sizes: Sequence[int], items: int, size: int) -> list[range]:
    """Cut items, given by names and sizes, into blocks of about `items` items each.

    A new item changes its own block and no other: content-defined chunking, as Muthitacharoen, Chen and Mazières, "A
    Low-bandwidth Network File System" (SOSP 2001) cut files. A block has at most `2 * items` items, and more than one
    only while their sizes add up to at most `size`.
    """
    begins: list[int] = []
    begin, total = 0, 0
    for index, (name, own) in enumerate(zip(names, sizes, strict=True)):
        is_full = index - begin >= 2 * items or total + own > size
        is_cut = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % items == 0
        if index == 0 or is_full or is_cut:
            begins.append(index)
            begin, total = index, 0
        total += own
    return [range(first, stop) for first, stop in pairwise([*begins, len(names)])]


def _doubt(path: Path) -> Path:
    """File next to a result; it marks the result to be made again."""
    return path.with_name(f"{path.name}.doubt")


def _make(function: Callable[[T, Path], bool | None], work: tuple[T, Path]) -> None:
    item, path = work
    _doubt(path).touch()
    if function(item, path) is not False:
        _doubt(path).unlink()
