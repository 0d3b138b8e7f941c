"""Calls that a command makes to the system, and the same command with one of them made to fail, by Debian's strace.

Only the main thread is looked at: it writes what is to last.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Several names where systems differ; strace is told to ignore those that it does not know.
RENAMES = ("rename", "renameat", "renameat2")
SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "sendfile", "copy_file_range")
REMOVALS = ("unlink", "unlinkat", "rmdir")
OPENS = ("open", "openat", "creat", "mkdir", "mkdirat")
CALLS = (*RENAMES, *SYNCS, *WRITES, *REMOVALS, *OPENS)
SECONDS = 300  # that a command may take, at most

_LINE = re.compile(r"(\w+)\((.*)")
_FOR_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")


@dataclass(frozen=True)
class Call:
    """A call: the `when`-th of its name, counted from 1."""

    name: str
    when: int
    arguments: str

    def __str__(self) -> str:
        return f"{self.name} {self.when} ({self.arguments[:200]})"

    @property
    def changes(self) -> bool:
        """Whether it can change a file."""
        return self.name not in ("open", "openat") or _FOR_WRITING.search(self.arguments) is not None


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit status, negative after a signal, and what it printed."""

    status: int
    printed: str


def strace_works() -> bool:
    """Whether there is a strace that may look at a child of this process."""
    if shutil.which("strace") is None:
        return False
    child = subprocess.Popen(["sleep", "60"])
    try:
        tracer = _attach(child.pid, ("-o", os.devnull))
    except RuntimeError:
        return False
    finally:
        child.kill()
        child.wait()
    tracer.communicate()
    return True


def run(body: Callable[[], None], folder: Path, printed: Path, options: tuple[str, ...] = ()) -> Ended:
    """Run `body` in a child of this process, in `folder`, its output into a file; under strace where there are options.

    The child shares what this process has imported, so that it starts in milliseconds.
    """
    waits, go = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(body, folder, printed, waits, go)
    os.close(waits)
    tracer = _attach(child, options) if options else None
    os.write(go, b"x")
    os.close(go)
    status = _wait(child)
    if tracer is not None:
        tracer.communicate()
    text = "" if printed == Path(os.devnull) else printed.read_text(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), text)


def calls(body: Callable[[], None], folder: Path, printed: Path, log: Path) -> tuple[Ended, list[Call]]:
    """Run `body` to its end, and list its calls that can change files, in their order."""
    options = ("-y", "-s", "0", "-o", str(log), "-e", "trace=" + ",".join(f"?{name}" for name in CALLS))
    ended = run(body, folder, printed, options)
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match and match[1] in CALLS:
            counts[match[1]] = counts.get(match[1], 0) + 1
            found.append(Call(match[1], counts[match[1]], match[2]))
    return ended, [call for call in found if call.changes]


def signalled_at(call: Call, number: signal.Signals) -> tuple[str, ...]:
    """Options of strace: the process gets a signal as it makes this call."""
    return _injected(call, f"signal={number.name}")


def failing_at(call: Call, error: str) -> tuple[str, ...]:
    """Options of strace: this call fails with an error such as ENOSPC."""
    return _injected(call, f"error={error}")


def _injected(call: Call, what: str) -> tuple[str, ...]:
    return ("-o", os.devnull, "-e", f"trace={call.name}", "-e", f"inject={call.name}:{what}:when={call.when}")


def _be_child(body: Callable[[], None], folder: Path, printed: Path, waits: int, go: int) -> None:
    status = 1
    try:
        os.close(go)
        os.setsid()
        os.chdir(folder)
        output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((nothing, output, output)):
            os.dup2(descriptor, number)
        os.read(waits, 1)
        body()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        import sys

        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _attach(child: int, options: tuple[str, ...]) -> subprocess.Popen[str]:
    tracer = subprocess.Popen(["strace", *options, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    if "attached" not in line:
        os.kill(child, signal.SIGKILL)
        raise RuntimeError(f"strace: {line}{tracer.stderr.read()}")
    return tracer


def _wait(child: int) -> int:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise RuntimeError(f"a command took more than {SECONDS} seconds")
