"""Set up a process before it starts: standard streams, environment, OpenMP, and the C library's memory."""

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

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8  # options of glibc's mallopt
SPINS = "10000"  # a fraction of a millisecond; by default libgomp spins 300,000 times
ROOM = (
    256 << 20
)  # bytes free on disk or allowed in a file; below it, compiled modules may be truncated


def begin() -> None:
    """Start a program of Distill. Call it before importing large modules.

    Exits with a sentence if the current folder was deleted; otherwise MKL ends the process with an obscure message.
    Plots need no window, and a notebook's MPLBACKEND would fail in another environment. Users without a name, common in
    containers, get their number as name, since PyTorch and MLflow require a name.
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
    """Open /dev/null for closed standard streams, here and in child processes.

    Otherwise the next file or pipe gets the number of a stream, and messages are written to it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(
                sys,
                name,
                os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False),
            )


def end_in_a_line() -> None:
    """Print one line instead of a traceback for an uncaught Ctrl-C, for example during imports."""

    def end(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            return sys.__excepthook__(kind, error, traceback)
        print("distill: interrupted; nothing half-written was kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)

    sys.excepthook = end


def say(line: str) -> None:
    """Print a line on stderr; ignore a closed pipe."""
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        drop(sys.stderr)


def drop(stream: IO[str]) -> None:
    """Redirect a stream to /dev/null, so that work goes on when its reader, such as `head`, has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_any_text() -> None:
    """Replace characters that stdout cannot encode. Names that are not UTF-8 are printed as raw bytes."""
    codecs.register_error("distill", _replaced)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="distill")


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    code = ord(error.object[error.start])
    is_byte = 0xDC80 <= code <= 0xDCFF  # from the surrogateescape handler
    return bytes([code - 0xDC00]) if is_byte else "?", error.start + 1


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP threads spin briefly and then sleep. Call it before importing torch; a user's own setting stays.

    By default threads spin for milliseconds and, next to another busy program, block the core of the thread that they
    wait for. Training on two recordings then took 13 times as long; with this setting 3 times. Results do not change.
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = SPINS


@contextmanager
def no_proxies(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Hide proxy settings from libraries imported in this context.

    Gradio creates web clients at import, which fail for socks:// and for [::1] in NO_PROXY; the page never uses them.
    Processes started later see the proxies again, for an MLflow server or an object store.
    """
    name = "no_proxy"  # takes precedence over NO_PROXY
    before = environment.get(name)
    environment[name] = "*"
    try:
        yield
    finally:
        del environment[name]
        environment.update({} if before is None else {name: before})


def keep_no_half_modules(folder: Path) -> None:
    """Write no compiled modules (`.pyc`) in this process and its children if the disk of `folder` is nearly full.

    Python before 3.13 does not detect a truncated `.pyc` (CPython issue 126606). From then on every command that
    imports it fails, even when there is space again. Call it before importing large modules.
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
    """Make glibc keep freed memory for the next training step. Returns whether it will.

    By default glibc returns large blocks to the system, which zeroes them again page by page: a quarter of a prior's
    training step, a tenth of fitting a codec and of encoding. Without glibc nothing changes.
    """
    return _mallopt((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))


def keep_freed_blocks() -> bool:
    """Make glibc keep up to 64 MB of freed blocks of up to 32 MB each. Returns whether it will.

    For a process that decodes many files: memory of large files goes back to the system.
    """
    largest = 32 << 20  # bytes; the maximum that glibc accepts for MMAP_THRESHOLD
    return _mallopt((MMAP_THRESHOLD, largest), (TRIM_THRESHOLD, 2 * largest))


def _mallopt(*options: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options)
