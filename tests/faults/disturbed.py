"""Commands that are disturbed as they change a file: killed, asked to stop, or told that the disk is full.

Python tells each change before it is made (`sys.addaudithook`): opening for writing, renaming, removing, making a folder,
and fsync, of which this file tells. A disturbance counts them in the main thread and acts at one.
"""

import errno
import hashlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.project import STAGES, TINY, remove, set_params, write_sounds
from programs import ROOT, Forked, fork

CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.fsync")
NEED_ROOM = ("open", "os.rename", "os.mkdir", "os.fsync")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
WORK = (".distill", "mlruns", "tmp")
SCRATCH = (*WORK, "mlflow.db", "mlflow.db-journal")  # the database is kept: making one takes a second
UNFINISHED = (".tmp", ".old")  # of files that are not in their place yet
MODEL = "models/tiny.distill"


@dataclass(frozen=True)
class Command:
    """A command, and the files and folders that it makes, each put in its place at once."""

    name: str
    arguments: str  # module and flags; a flag with * stands for files
    results: tuple[str, ...]
    replaces: bool = False  # earlier results

    def start(self, folder: Path, before: Any = None) -> Forked:
        """Run it in a folder."""
        words = [one for word in self.arguments.split() for one in (_files(folder, word) if "*" in word else [word])]
        (folder / "tmp").mkdir(exist_ok=True)
        steady = {"DISTILL_WORKERS": "1", "SOURCE_DATE_EPOCH": "0", "HOME": "/dev/null/nowhere"}
        steady["TMPDIR"] = str(folder / "tmp")
        return fork(folder, *words, before=before, **steady)


def _files(folder: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))


def _stage(name: str, outs: Sequence[str]) -> Command:
    results = [one.replace("${bundle.name}", "tiny") for one in outs]
    return Command(name, f"stages.{name}", (*results, f"metrics/{name}.json"), replaces=True)


def _distill(arguments: str, *results: str, replaces: bool = False) -> Command:
    return Command(arguments.split()[0], f"distill {arguments}", results, replaces)


TRAIN = "train sounds --epochs 1 --quality small --rvq-levels 6 --codebook-size 8 --prior --name new"
PRIOR = f"train-prior {MODEL} -o models/prior.distill --data sounds --epochs 1 --hidden-size 16 --layers 1 --heads 2"
OUTS = {name: stage["outs"] for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}
COMMANDS = (
    *(_stage(name, OUTS[name]) for name in STAGES),
    _distill(TRAIN, "models/new.distill", "models/new.distill.md"),
    _distill(PRIOR, "models/prior.distill", "models/prior.distill.md"),
    _distill(f"generate {MODEL} -n 3 --seed 1 --seconds .3", "generated/*"),
    _distill(f"encode {MODEL} -o some.codes sounds/*", "some.codes"),
    _distill(f"decode {MODEL} some.codes -o decoded", "decoded/*"),
    _distill(f"vary {MODEL} -n 2 --seed 1 --out varied sounds/drum_kick_deep*", "varied/*"),
    _distill("demo demo", "demo/*/*"),
    _distill(f"kit {MODEL} --out kit --seed 1 --seconds .3 --replace", "kit", replaces=True),
)


def prepare(folder: Path, model: Path, commands: Sequence[Command]) -> None:
    """Run commands in two folders: `new`, and with another seed and fewer sounds `old`, where they replace results."""
    for name, seed in (("old", 1), ("new", 0)):
        base = folder / name
        (base / "models").mkdir(parents=True)
        shutil.copy(ROOT / "params.yaml", base)
        set_params(base, seed=seed, **TINY)
        write_sounds(base / "sounds", count=8 - 2 * seed)
        shutil.copy(model, base / MODEL)
        for command in [one for one in commands if one.replaces or name == "new"]:
            ended = command.start(base).end()
            assert ended.returncode == 0, f"{command.name}: {ended.stderr}"


@dataclass(frozen=True)
class Disturbance:
    """At the `at`-th change to a file, counted from 1, a signal, or an error where `number` is not one of a signal.

    Each change is noted in the file `log`.
    """

    log: Path
    at: int = 0
    number: int = 0

    def __call__(self) -> None:
        """Begin to count, in the process of the command."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        folder, main, seen, fsync = str(Path.cwd()), threading.get_ident(), 0, os.fsync

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in CHANGES and threading.get_ident() == main and _in(folder, event, arguments):
                seen += 1
                os.write(log, f"{event}\n".encode())
                if seen == self.at and self.number in signal.valid_signals():
                    os.kill(os.getpid(), self.number)
                elif seen == self.at and event in NEED_ROOM:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

        def told(descriptor: int) -> None:
            sys.audit("os.fsync", descriptor)
            fsync(descriptor)

        os.fsync = told  # type: ignore[assignment]
        sys.addaudithook(hear)


def _in(folder: str, event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file or folder in `folder` changes; a path that is not absolute is one of it."""
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return False
    path = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else ""
    return not path.startswith("/") or path.startswith(folder + "/")


class Trials:
    """A command in a copy of `new`, in which its results are those of `old` or missing."""

    def __init__(self, command: Command, bases: Path, folder: Path) -> None:
        self.command, self.bases, self.trial, self.log = command, bases, folder / "trial", folder / "log"
        found = [_files(bases / base, result) for base in ("old", "new") for result in command.results]
        self.units = sorted({name for names in found for name in names})
        earlier = bases / "old" if command.replaces else folder / "nothing"
        self.old, self.new = ({name: digest(base / name) for name in self.units} for base in (earlier, bases / "new"))
        self.others = digests(bases / "new", (*SCRATCH, *self.units))
        self.fresh()
        self.run_to_the_end(Disturbance(self.log))
        self.changes = self.log.read_text().split()

    def fresh(self) -> None:
        """Begin again."""
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.bases / "new", self.trial, ignore=shutil.ignore_patterns(*WORK))
        for name in self.units:
            remove(self.trial / name)
            old = self.bases / "old" / name
            if self.command.replaces and old.exists():
                shutil.copytree(old, self.trial / name) if old.is_dir() else shutil.copy(old, self.trial / name)

    def run_to_the_end(self, before: Any = None) -> None:
        """It ends with the results of `new`; where it does not replace those that are there, they are removed first."""
        ended = self.command.start(self.trial, before).end()
        if ended.returncode == 2 and not self.command.replaces:
            for name in self.units:
                remove(self.trial / name)
            ended = self.command.start(self.trial, before).end()
        assert ended.returncode == 0, ended.stderr
        assert {name: digest(self.trial / name) for name in self.units} == self.new

    def disturbed(self, before: Any) -> Forked:
        """Run it disturbed. Nothing is lost, and run again it ends with the bytes of an undisturbed run."""
        self.fresh()
        ended = self.command.start(self.trial, before).end()
        assert "Traceback" not in ended.stderr, ended.stderr
        for name in self.units:
            assert digest(self.trial / name) in (self.old[name], self.new[name]), f"{name} is neither old nor new"
        assert digests(self.trial, (*SCRATCH, *self.units), finished=True) == self.others
        temporary = self.trial / "tmp"  # the system's: nobody but the system removes what a killed process left there
        allowed = set(temporary.iterdir()) if ended.returncode == -signal.SIGKILL else set()
        self.run_to_the_end()
        assert digests(self.trial, (*SCRATCH, *self.units)) == self.others
        left = {path for path in self.trial.rglob("*") if path.suffix.startswith(UNFINISHED)}
        left = {path for path in left if temporary not in path.parents} | set(temporary.iterdir())
        assert left <= allowed, sorted(left - allowed)
        return ended


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all names and files of a folder, "" where there is nothing."""
    if path.is_dir():
        return hashlib.sha256(repr(digests(path, finished=True)).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def digests(folder: Path, without: Sequence[str] = (), finished: bool = False) -> dict[str, str]:
    """SHA-256 of each file of a folder but some, and where told so but those that are not in their place yet."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = finished and any(Path(part).suffix.startswith(UNFINISHED) for part in name.parts)
        if path.is_file() and not hidden and not any(Path(top) in (name, *name.parents) for top in without):
            found[name.as_posix()] = digest(path)
    return found
