"""Limits of the system: `unshare -m python -m faults.limited FOLDER` runs commands with less and less of something.

Of file sizes, file handles, processes and threads, and memory, and once in a folder that cannot be written to. Each time a
command ends with a sentence and exit status 2, or ends well; what was there before is whole; and without the limit the
same command ends with the bytes of an undisturbed run. Needs root: for the mount, and to be a user whom the limit of
processes binds.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.strace import run
from faults.sweep import COMMANDS, Command, Trials, prepare
from quick_python import import_everything

NOBODY = 54321  # a user without other processes
KINDS = ("size", "handles", "processes", "memory", "read-only", "homeless")


def limit(what: int, value: int) -> None:
    """Set a limit of this process and its children, for good."""
    resource.setrlimit(what, (value, value))


def limits(kind: str, points: int, largest: int) -> Sequence[tuple[str, Callable[[], None]]]:
    """Names of limits, and what sets them in the process of a command."""
    if kind == "size":
        sizes = sorted({max(4096, largest * number // points) for number in range(points)})
        return [(f"files of {size} bytes", lambda size=size: limit(resource.RLIMIT_FSIZE, size)) for size in sizes]
    if kind == "handles":
        counts = [8, 9, 10, 12, 14, 16, 20, 24, 30, 64][:: max(1, 10 // points)]
        return [(f"{count} handles", lambda count=count: limit(resource.RLIMIT_NOFILE, count)) for count in counts]
    if kind == "processes":
        counts = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16][:: max(1, 10 // points)]
        return [(f"{count} processes", lambda count=count: _nobody(count)) for count in counts]
    if kind == "memory":
        sizes = sorted({(256 << 20) * number // points for number in range(points)})
        return [(f"{size} bytes more", lambda size=size: _memory(size)) for size in sizes]
    return [(kind, _homeless if kind == "homeless" else lambda: None)]


def _nobody(count: int) -> None:
    limit(resource.RLIMIT_NPROC, count)
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _memory(more: int) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit(resource.RLIMIT_AS, held + more)


def _homeless() -> None:
    os.environ.pop("HOME", None)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/root"], check=True)
    subprocess.run(["mount", "-o", "remount,ro", "/tmp"], check=True)


class Limited(Trials):
    """A command within limits."""

    def within(self, kind: str, points: int) -> None:
        """Run it within so many limits of a kind."""
        largest = max((path.stat().st_size for path in self._files()), default=0)
        for name, apply in limits(kind, points, largest):
            trial = self._fresh()
            if kind == "processes":
                for path in (trial, *trial.rglob("*")):
                    os.chown(path, NOBODY, NOBODY)
            if kind == "read-only":
                subprocess.run(["mount", "--bind", trial, trial], check=True)
                subprocess.run(["mount", "-o", "remount,ro,bind", trial], check=True)
            try:
                ended = run(lambda apply=apply: _limited(self.command, apply), trial, self.folder / "printed")  # type: ignore[misc]
            finally:
                if kind == "read-only":
                    subprocess.run(["umount", trial], check=True)
            self.found.points += 1
            self.found.refused += ended.status == 2
            if ended.status not in (0, 2) or "Traceback" in ended.printed:
                self._wrong(name, f"ended with {ended.status}: {ended.printed[-2500:]}")
            self.endings.add(f"{ended.status} {ended.printed.strip().splitlines()[-1][:250] if ended.status else ''}")
            self._check(name, trial)

    def _files(self) -> list[Path]:
        return [path for path in (self.folder / "trial").rglob("*") if path.is_file()]

    endings: set[str]


def _limited(command: Command, apply: Callable[[], None]) -> None:
    apply()
    command()


def main() -> None:
    """Limit, and print what was found as lines of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commands", nargs="*", default=[command.name for command in COMMANDS])
    parser.add_argument("--kinds", nargs="*", default=[kind for kind in KINDS if kind != "homeless"])
    parser.add_argument("--points", type=int, default=10, help="of each command and kind")
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    chosen = [command for command in COMMANDS if command.name in flags.commands]
    import_everything()
    if not (folder / "second" / "done").exists():
        prepare(folder, COMMANDS[: 1 + max(map(COMMANDS.index, chosen))])
    for command in chosen:
        for kind in flags.kinds:
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                Path(temporary).chmod(0o777)
                limited = Limited(command, folder / f"before {command.name}", Path(temporary))
                limited.endings = set()
                limited.within(kind, flags.points)
            print(json.dumps({**vars(limited.found), "kind": kind, "endings": sorted(limited.endings)}), flush=True)


if __name__ == "__main__":
    main()
