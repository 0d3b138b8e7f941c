"""What a process asks of the C library, of OpenMP and of Python before it begins."""

import codecs
import ctypes
import getpass
import os
import shutil
import signal
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import IO

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8  # of glibc's mallopt
SPINS = "10000"  # a fraction of a millisecond; by default libgomp spins 300,000 times
ROOM = 256 << 20  # bytes on the disk, or allowed in a file: with less, a compiled module may be cut off


def begin() -> None:
    """Begin a program of Distill. Must come before the modules that are large.

    Exits with a sentence where the current folder was deleted: MKL would end the process with another one. Pictures need
    no window: a notebook names its own in MPLBACKEND, and Matplotlib of another environment fails on that name. A user
    without a name, as containers have them, gets the number for one: PyTorch and MLflow ask for it.
    """
    open_standard_streams()
    end_in_a_line()
    os.environ["MPLBACKEND"] = "agg"
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = str(os.getuid())
    try:
        Path.cwd()
    except FileNotFoundError:
        print(
            "distill: expected a current folder that exists, found that it was deleted; change to another folder and "
            "run again",
            file=sys.stderr,
        )
        sys.exit(2)


def open_standard_streams() -> None:
    """Open /dev/null in place of standard streams that are closed, here and in children.

    Otherwise the next file or pipe that is opened gets their numbers, and what is said goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def end_in_a_line() -> None:
    """Let a Ctrl-C that nothing catches, such as one while a library is imported, end this process in one line."""

    def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            return sys.__excepthook__(kind, error, traceback)
        print("distill: interrupted; nothing half-written was kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)

    sys.excepthook = end


def say(line: str) -> None:
    """Print a line on stderr, if anybody reads it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        drop(sys.stderr)


def drop(stream: IO[str]) -> None:
    """Let what is written to a stream go nowhere from now on: who read it has enough, as `head` has, and the work goes on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_any_text() -> None:
    """Let stdout replace characters that its encoding has not. Names that are not UTF-8 are printed as they are."""
    codecs.register_error("distill", _replaced)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="distill")


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    code = ord(error.object[error.start])
    is_byte = 0xDC80 <= code <= 0xDCFF  # as the surrogateescape handler keeps it
    return bytes([code - 0xDC00]) if is_byte else "?", error.start + 1


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads spin for a moment and then sleep. Must come before torch is loaded; the user's own setting stays.

    By default a thread spins for milliseconds, on the very core that the thread it waits for needs when another program
    is busy: training on two recordings took 13 times as long then, and takes 3 times with this. Results do not change.
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = SPINS


@contextmanager
def no_proxies(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Hide the proxies of the environment from libraries that are imported meanwhile.

    Gradio makes web clients at import, which fail for socks:// and for [::1] in NO_PROXY; the page never uses them.
    Processes that the page starts have the proxies again, for a server of MLflow or an object store.
    """
    name = "no_proxy"  # it goes before NO_PROXY
    before = environment.get(name)
    environment[name] = "*"
    try:
        yield
    finally:
        del environment[name]
        environment.update({} if before is None else {name: before})


def keep_no_half_modules(folder: Path) -> None:
    """Let this process and its children keep no compiled modules (`.pyc`) where the disk of a folder is nearly full.

    Python before 3.13 does not notice that one was cut off (CPython issue 126606). No command that imports it starts
    from then on, also when there is room again. Must come before the modules that are large.
    """
    with suppress(OSError):
        room = shutil.disk_usage(folder).free
        if sys.platform != "win32":
            import resource

            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            room = room if limit == resource.RLIM_INFINITY else min(room, limit)
        if room < ROOM:
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that this process frees for the next step of the same kind. Returns whether it will.

    By default glibc returns large blocks to the system, which zeroes them page by page when the next step needs them: a
    quarter of a prior's training step, a tenth of a codec's fit and of coding. Without glibc nothing changes.
    """
    return _mallopt((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))


def keep_freed_blocks() -> bool:
    """Let glibc keep up to 64 MB that this process frees in blocks of up to 32 MB. Returns whether it will.

    For a process that decodes one file after another: it returns what a large file took.
    """
    largest = 32 << 20  # bytes, that glibc takes for the first of the two
    return _mallopt((MMAP_THRESHOLD, largest), (TRIM_THRESHOLD, 2 * largest))


def _mallopt(*options: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options)
