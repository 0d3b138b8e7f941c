"""Disks that fill up: `unshare -m python -m faults.disk FOLDER` runs commands on a disk with less and less room.

The disk is a tmpfs in a mount namespace of its own, so it needs root, and nothing of it stays. A command runs undisturbed
on a large disk, where the most that it takes is measured, and then with even shares of that. Each time it ends with a
sentence and exit status 2, or goes on where only MLflow's record is missing; what was there before is whole; and on an
enlarged disk the same command ends with the bytes of the undisturbed run.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.strace import Ended, run
from faults.sweep import COMMANDS, RESULTS, Command, Trials, prepare
from pipeline.project import Project, hashes, new_project, write_sounds
from quick_python import import_everything, quick_python

LARGE = 512 << 20
PAGE = 4096


def mount_works() -> bool:
    """Whether this process may have a mount namespace of its own and mount a tmpfs in it."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Disk:
    """A small disk at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", folder], check=True)

    @property
    def used(self) -> int:
        """Bytes that are used."""
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def leave(self, room: int) -> None:
        """Make the disk so small that so many bytes are left."""
        self._resize(self.used + room // PAGE * PAGE)

    def enlarge(self) -> None:
        """Make it large again."""
        self._resize(LARGE)

    def _resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    @contextmanager
    def watched(self) -> Iterator[Callable[[], int]]:
        """Measure the most that is used more than now."""
        before = most = self.used
        done = threading.Event()

        def look() -> None:
            nonlocal most
            while not done.wait(0.002):
                most = max(most, self.used)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield lambda: most - before
        finally:
            done.set()
            thread.join()


def rooms(most: int, points: int) -> list[int]:
    """Even shares of what a command takes, from nothing on."""
    return sorted({most * number // points // PAGE * PAGE for number in range(points)})


class Filling(Trials):
    """A command on a disk that fills up."""

    def __init__(self, command: Command, before: Path, disk: Disk) -> None:
        self.disk = disk
        super().__init__(command, before, disk.folder)

    def _undisturbed(self, trial: Path) -> Ended:
        with self.disk.watched() as most:
            ended = run(self.command, trial, self._printed)
        files = [path for result in self.command.results for path in trial.glob(result) if path.is_file()]
        largest = max((path.stat().st_size for path in files), default=0)
        self.most = max(most(), largest + 2 * PAGE)  # what is there for less than a millisecond is not seen
        return ended

    @property
    def _printed(self) -> Path:
        return self.disk.folder.with_name("printed")

    def fill(self, points: int) -> None:
        """Run it with so many amounts of room."""
        for room in rooms(self.most, points):
            trial = self._fresh()
            self.disk.leave(room)
            ended = run(self.command, trial, self._printed)
            self.found.points += 1
            self.found.refused += ended.status == 2
            if ended.status not in (0, 2) or "Traceback" in ended.printed:
                self._wrong(f"room {room}", f"ended with {ended.status}: {ended.printed[-1500:]}")
            if ended.status == 2 and "free some space" not in ended.printed:
                self._wrong(f"room {room}", f"another reason: {ended.printed[-500:]}")
            self._check(f"room {room}", trial)

    def _before_again(self, trial: Path) -> None:
        self.disk.enlarge()
        (trial / "printed").unlink(missing_ok=True)


def fill_pipeline(folder: Path, disk: Disk, points: int) -> dict[str, object]:
    """`stages.repro` on a disk that fills up in each stage, and as DVC keeps what it made, after earlier results."""
    wrong: list[str] = []
    ends: Counter[str] = Counter()
    with quick_python(folder / "quick") as python:
        base = new_project(folder / "base", python)
        write_sounds(base.folder / "sounds")
        base.set(vqvae={"weight_decay": 0.02}, corpus={"max_rejected": 0.4})
        _repro(base, must=True)
        base.set(vqvae={"weight_decay": 0.01}, corpus={"max_rejected": 0.5})
        states = list(_before_each_stage(base, folder, disk))
        whole = hashes(disk.folder / "project")
        for stage, before, most in states:
            old = hashes(before)
            for room in rooms(most, points):
                project, where = _copy(before, disk, python), f"{stage}, room {room}"
                disk.leave(room)
                status, printed = _repro(project)
                ends[_stopped_at(printed)] += 1
                if status not in (0, 2) or "Traceback" in printed:
                    wrong.append(f"{where}: ended with {status}: {printed[-2500:]}")
                for name, digest in hashes(project.folder).items():
                    if digest not in (whole.get(name), old.get(name)) and ".tmp" not in name:
                        wrong.append(f"{where}: {name} is neither the old nor the new")
                disk.enlarge()
                again, printed_again = _repro(project)
                found = hashes(project.folder)
                if again != 0:
                    wrong.append(f"{where}: run again, ended with {again}: {printed_again[-2500:]}")
                elif found != whole:
                    other = sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
                    wrong.append(f"{where}: run again, other results: {other}")
                if left := [str(path.relative_to(project.folder)) for path in project.folder.rglob("*.tmp")]:
                    wrong.append(f"{where}: left behind {left}")
                print(where, _stopped_at(printed), status, printed.strip()[-300:], file=sys.stderr, flush=True)
    return {"command": "repro", "points": ends.total(), "ends": ends, "wrong": wrong}


def _before_each_stage(base: Project, folder: Path, disk: Disk) -> Iterator[tuple[str, Path, int]]:
    """Each stage, a project in which it is next, and the most that it and DVC take."""
    project = _copy(base.folder, disk, base.python)
    for stage in RESULTS:
        before = folder / f"before {stage}"
        shutil.copytree(project.folder, before)
        with disk.watched() as most:
            done = project.python_m("dvc", "repro", stage, DISTILL_WORKERS="1")
        if done.returncode != 0:
            raise RuntimeError(f"{stage} ended with {done.returncode}: {done.stdout}{done.stderr}")
        yield stage, before, most()


def _copy(before: Path, disk: Disk, python: Path) -> Project:
    target = disk.folder / "project"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(before, target)
    return Project(target, python)


def _repro(project: Project, must: bool = False) -> tuple[int, str]:
    done = project.python_m("stages.repro", DISTILL_WORKERS="1")
    if must and done.returncode != 0:
        raise RuntimeError(f"stages.repro ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.returncode, done.stdout + done.stderr


def _stopped_at(printed: str) -> str:
    stages = [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]
    if "stages run" in printed:
        return "the end"
    return stages[-1] if stages else "the beginning"


def main() -> None:
    """Fill, and print what was found as lines of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commands", nargs="*", default=[command.name for command in COMMANDS])
    parser.add_argument("--points", type=int, default=20, help="of each command")
    parser.add_argument("--pipeline", type=int, default=0, help="points of each stage of stages.repro")
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    chosen = [command for command in COMMANDS if command.name in flags.commands]
    if chosen == [COMMANDS[0]]:
        importlib.import_module("distill.audio.ingest")
    elif chosen:
        import_everything()
    if chosen and not (folder / "second" / "done").exists():
        prepare(folder, COMMANDS[: 1 + max(map(COMMANDS.index, chosen))])
    disk = Disk(folder / f"disk {os.getpid()}" / "mounted")
    for command in chosen:
        filling = Filling(command, folder / f"before {command.name}", disk)
        filling.fill(flags.points)
        print(json.dumps({**vars(filling.found), "most": filling.most}), flush=True)
    if flags.pipeline:
        print(json.dumps(fill_pipeline(folder / "pipeline", disk, flags.pipeline)), flush=True)


if __name__ == "__main__":
    main()
