"""Every write a place to die: `python -m faults.sweep FOLDER kill` kills each command at many of its writes.

After each kill what was there before is whole, and the command run again ends with the bytes of an undisturbed run.
With `fail` the writes fail instead, by a full disk and by a broken one: a sentence, exit status 2, and again the same
bytes when there is room. With `stop` it gets SIGHUP, SIGINT or SIGTERM there, in turn, and ends with that signal's status.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import yaml
from faults.strace import SYNCS, WRITES, Call, Ended, calls, failing_at, run, signalled_at
from pipeline.project import ROOT, TINY, write_sounds
from quick_python import import_everything

SCRATCH = (".distill", "mlflow.db", "mlflow.db-journal", "mlflow.db-wal", "mlflow.db-shm", "mlruns", "tmp", "printed")
UNFINISHED = (".tmp", ".old")  # of files that are not in their place yet, and of SQLite's beside them
EDGE = 100  # points at the beginning and at the end that are all tried
ERRORS = ("ENOSPC", "EIO")
STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Command:
    """A command, and the files and folders that it makes or replaces."""

    name: str
    arguments: tuple[str, ...]  # module and flags
    results: tuple[str, ...]
    replaces: bool = True  # earlier results

    def __call__(self) -> None:
        """Run it in this process, in the current folder."""
        os.environ.update(ENVIRONMENT, TMPDIR=str(Path("tmp").resolve()))
        module, *flags = self.arguments
        files = [sorted(map(str, Path().glob(flag))) if "*" in flag else [flag] for flag in flags]
        sys.argv = [module, *chain.from_iterable(files)]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


@dataclass
class Found:
    """What a sweep found."""

    command: str
    calls: int = 0
    points: int = 0
    killed: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


ENVIRONMENT = {"DISTILL_DEVICE": "cpu", "DISTILL_WORKERS": "1", "SOURCE_DATE_EPOCH": "0"}
RESULTS = {
    "ingest": ("artifacts/corpus",),
    "train_vqvae": ("artifacts/vqvae",),
    "encode_codes": ("artifacts/codes",),
    "split": ("artifacts/split",),
    "train_prior": ("artifacts/prior",),
    "bundle": ("models/tiny.distill", "models/tiny.distill.md"),
    "audition": ("artifacts/audition",),
}
TRAIN = (
    "distill",
    "train",
    "sounds",
    "--epochs",
    "1",
    "--quality",
    "small",
    "--rvq-levels",
    "1",
    "--codebook-size",
    "8",
)
COMMANDS = (
    *(Command(stage, (f"stages.{stage}",), (*made, f"metrics/{stage}.json")) for stage, made in RESULTS.items()),
    Command(
        "train",
        (*TRAIN, "--prior", "--name", "new"),
        ("models/new.distill", "models/new.distill.md"),
        replaces=False,
    ),
    Command(
        "train-prior",
        (
            "distill",
            "train-prior",
            "models/tiny.distill",
            "--replace",
            "--data",
            "sounds",
            "--epochs",
            "1",
            "--hidden-size",
            "16",
            "--layers",
            "1",
            "--heads",
            "2",
        ),
        ("models/tiny.distill", "models/tiny.distill.md"),
    ),
    Command(
        "generate",
        ("distill", "generate", "models/tiny.distill", "-n", "3", "--seed", "1", "--seconds", ".3"),
        ("generated/*",),
    ),
    Command(
        "encode",
        ("distill", "encode", "models/tiny.distill", "sounds/*", "-o", "codes.safetensors"),
        ("codes.safetensors",),
    ),
    Command(
        "decode", ("distill", "decode", "models/tiny.distill", "old_codes.safetensors", "-o", "decoded"), ("decoded/*",)
    ),
    Command(
        "vary",
        (
            "distill",
            "vary",
            "models/tiny.distill",
            "sounds/drum_kick_deep*",
            "-n",
            "2",
            "--seed",
            "1",
            "--out",
            "varied",
        ),
        ("varied/*",),
    ),
    Command("demo", ("distill", "demo", "demo"), ("demo/*/*",), replaces=False),
    Command(
        "kit",
        ("distill", "kit", "models/tiny.distill", "--out", "kit", "--seed", "1", "--seconds", ".3", "--replace"),
        ("kit",),
    ),
)


def prepare(folder: Path, commands: Sequence[Command]) -> None:
    """Make the folders `before COMMAND`: those of a pipeline with one seed, in them the results of another."""
    for name, seed in (("first", 1), ("second", 0)):
        base = folder / name
        shutil.rmtree(base, ignore_errors=True)
        (base / "tmp").mkdir(parents=True)
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        for section, changes in {**TINY, "corpus": {"path": "sounds"}, "bundle": {"name": "tiny"}}.items():
            values[section] = {**values[section], **changes}
        (base / "params.yaml").write_text(yaml.safe_dump({**values, "seed": seed}, sort_keys=False))
        write_sounds(base / "sounds", count=8 - 2 * seed)
        for command in commands:
            if seed == 0:
                _keep(base, command, folder)
            ended = run(command, base, base / "printed")
            if ended.status != 0:
                raise RuntimeError(f"{command.name} ended with {ended.status}: {ended.printed}")
            if command.name == "encode":
                shutil.copy(base / "codes.safetensors", base / "old_codes.safetensors")
    (folder / "second" / "done").touch()


def _keep(base: Path, command: Command, folder: Path) -> None:
    before = folder / f"before {command.name}"
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(base, before)
    for result in command.results if command.replaces else ():
        old = folder / "first" / result.removesuffix("/*")
        if old.is_dir():
            shutil.copytree(old, before / result.removesuffix("/*"))
        elif not (before / result).exists():
            (before / result).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(old, before / result)


class Trials:
    """One command, what it makes undisturbed, and what happens to it when it is disturbed."""

    def __init__(self, command: Command, before: Path, folder: Path) -> None:
        self.command, self.before, self.folder = command, before, folder
        self.found = Found(command.name)
        trial = self._fresh()
        ended = self._undisturbed(trial)
        if ended.status != 0:
            raise RuntimeError(f"{command.name} ended with {ended.status}: {ended.printed}")
        self.units = units(command, before, trial)
        self.old, self.new = self._digests(before), self._digests(trial)
        self.others = digests(before, (*SCRATCH, *self.units))

    def _undisturbed(self, trial: Path) -> Ended:
        return run(self.command, trial, trial / "printed")

    def _check(self, where: str, trial: Path) -> None:
        """Compare what is there with what was there, run the command again, and compare with an undisturbed run."""
        for result, digest in self._digests(trial).items():
            if digest not in (self.old[result], self.new[result]):
                found = different(self.before / result, trial / result)
                self._wrong(where, f"{result} is neither the old nor the new: {found}")
        if digests(trial, (*SCRATCH, *self.units), unfinished=False) != self.others:
            self._wrong(where, "another file has changed")
        self._before_again(trial)
        again = run(self.command, trial, trial / "printed")
        if self._digests(trial) != self.new:
            self._wrong(where, f"run again, ended with {again.status} and other results: {again.printed[-1500:]}")
        elif again.status != 0 and self.command.replaces:
            self._wrong(where, f"run again, ended with {again.status}: {again.printed[-1500:]}")
        elif again.status != 0:  # refused, as its result is there
            for result in self.units:
                (trial / result).unlink()
            again = run(self.command, trial, trial / "printed")
            if again.status != 0 or self._digests(trial) != self.new:
                self._wrong(where, f"run again without its result, ended with {again.status}: {again.printed[-1500:]}")
        left = [path.relative_to(trial).as_posix() for path in trial.rglob("*") if path.suffix.startswith(UNFINISHED)]
        left += [path.relative_to(trial).as_posix() for path in (trial / "tmp").iterdir()]
        if left:
            self._wrong(where, f"left behind: {left}")

    def _before_again(self, trial: Path) -> None:
        """Remove the disturbance, if it lasts."""

    def _wrong(self, where: str, text: str) -> None:
        self.found.wrong.append(f"{where}: {text}")

    def _fresh(self) -> Path:
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        shutil.copytree(self.before, trial)
        return trial

    def _digests(self, folder: Path) -> dict[str, str]:
        return {result: digest(folder / result) for result in self.units}


class Sweep(Trials):
    """A command that is killed at its writes, or whose writes fail."""

    calls: list[Call]

    def _undisturbed(self, trial: Path) -> Ended:
        ended, self.calls = calls(self.command, trial, trial / "printed", self.folder / "log")
        self.found.calls = len(self.calls)
        return ended

    def kill(self, points: int) -> None:
        """Kill the command at so many of its calls."""
        for call in sample(self.calls, points):
            trial = self._fresh()
            ended = run(self.command, trial, trial / "printed", signalled_at(call, signal.SIGKILL))
            self.found.points += 1
            self.found.killed += ended.status == -9
            if ended.status not in (-9, 0):
                self._wrong(str(call), f"killed, ended with {ended.status}: {ended.printed[-1500:]}")
            self._check(str(call), trial)

    def stop(self, points: int) -> None:
        """Send a signal that asks to end at so many of its calls."""
        after_start = [
            call for call in self.calls if "/printed" not in call.arguments
        ]  # which is opened for the command
        for place, call in enumerate(sample(after_start, points)):
            trial, number = self._fresh(), STOPS[place % len(STOPS)]
            ended = run(self.command, trial, trial / "printed", signalled_at(call, number))
            where = f"{number.name} at {call}"
            self.found.points += 1
            self.found.killed += ended.status == 128 + number
            if ended.status not in (128 + number, 0) or "Traceback" in ended.printed:
                self._wrong(where, f"ended with {ended.status}: {ended.printed[-1500:]}")
            self._check(where, trial)

    def fail(self, points: int) -> None:
        """Let so many of the writes of the command fail."""
        here = str(self.folder)
        writes = [call for call in self.calls if call.name in (*WRITES, *SYNCS) and here in call.arguments]
        for number, call in enumerate(sample(writes, points)):
            trial = self._fresh()
            error = ERRORS[number % len(ERRORS)]
            ended = run(self.command, trial, trial / "printed", failing_at(call, error))
            self.found.points += 1
            self.found.refused += ended.status == 2
            if ended.status not in (0, 2) or "Traceback" in ended.printed:
                self._wrong(str(call), f"{error}, ended with {ended.status}: {ended.printed[-1500:]}")
            self._check(str(call), trial)


def units(command: Command, before: Path, after: Path) -> list[str]:
    """Names of what is replaced in one step: files and folders, and each file of those folders that end in `/*`."""
    found: set[str] = set()
    for result in command.results:
        files = (path.relative_to(top) for top in (before, after) for path in top.glob(result))
        found.update(path.as_posix() for path in files) if "*" in result else found.add(result)
    return sorted(found)


def sample(all_calls: Sequence[Call], points: int) -> Iterator[Call]:
    """The first and the last calls and an even sample between, `points` in all."""
    count = len(all_calls)
    if points >= count:
        yield from all_calls
        return
    edge = min(EDGE, points // 3)
    between = points - 2 * edge
    inner = (edge + (count - 2 * edge) * number // between for number in range(between))
    yield from (all_calls[index] for index in sorted({*range(edge), *inner, *range(count - edge, count)}))


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all names and files of a folder."""
    if path.is_dir():
        return hashlib.sha256(json.dumps(digests(path, unfinished=False)).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def digests(folder: Path, without: Sequence[str] = (), unfinished: bool = True) -> dict[str, str]:
    """SHA-256 of each file of a folder but some; without files that are not in their place yet, where told so."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = not unfinished and any(Path(part).suffix.startswith(UNFINISHED) for part in Path(name).parts)
        if path.is_file() and not hidden and not any(name == top or name.startswith(f"{top}/") for top in without):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def different(before: Path, after: Path) -> str:
    """What there is in two folders."""
    return f"{sorted(digests(before)) if before.is_dir() else before.exists()} and {sorted(digests(after)) if after.is_dir() else after.exists()}"


def sweep(folder: Path, command: Command, points: int, how: str) -> Found:
    """Kill a command, stop it, or let its writes fail."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        found = Sweep(command, folder / f"before {command.name}", Path(temporary))
        {"kill": found.kill, "stop": found.stop, "fail": found.fail}[how](points)
    return found.found


def main() -> None:
    """Sweep, and print what was found as lines of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("how", choices=("kill", "stop", "fail"))
    parser.add_argument("--commands", nargs="+", default=[command.name for command in COMMANDS])
    parser.add_argument("--points", type=int, default=300, help="of each command")
    parser.add_argument("--jobs", type=int, default=1)
    flags = parser.parse_args()
    if flags.points >= 20:  # fewer take less time than the imports
        import_everything()
    folder = flags.folder.resolve()
    if not (folder / "second" / "done").exists():
        last = max(index for index, command in enumerate(COMMANDS) if command.name in flags.commands)
        prepare(folder, COMMANDS[: last + 1])
    work = [(folder, command, flags.points, flags.how) for command in COMMANDS if command.name in flags.commands]
    with multiprocessing.get_context("fork").Pool(flags.jobs, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(_sweep, work, chunksize=1):
            print(json.dumps(vars(found)), flush=True)


def _sweep(arguments: tuple[Path, Command, int, str]) -> Found:
    return sweep(*arguments)


if __name__ == "__main__":
    main()
