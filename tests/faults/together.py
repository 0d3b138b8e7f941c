"""Several commands at once, and kills of DVC: `python -m faults.together FOLDER` does real work with real processes.

Each command ends well or with a sentence and exit status 2, and in the end there are the bytes of an undisturbed run.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from faults.sweep import TRAIN
from pipeline.project import Project, hashes, new_project, write_sounds
from quick_python import quick_python

MODEL = "models/tiny.distill"
REPLACE = ("distill", "train-prior", MODEL, "--replace", "--data", "sounds", "--epochs", "1", "--hidden-size", "16")
READERS = (
    ("distill", "generate", MODEL, "-n", "2", "--seconds", ".2", "--out", "made"),
    ("distill", "inspect", MODEL),
    ("distill", "verify", MODEL),
    ("distill", "kit", MODEL, "--out", "kit", "--seconds", ".2", "--replace"),
)


class Place:
    """A project, and commands in it."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.project = folder, Project(folder, python)
        self.project.environment |= {"DISTILL_WORKERS": "1", "SOURCE_DATE_EPOCH": "0"}
        self.wrong: list[str] = []
        self.ends: Counter[str] = Counter()

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command."""
        return self.project.start(str(self.project.python), "-m", *command)

    def end(self, process: subprocess.Popen[str], statuses: Sequence[int] = (0, 2)) -> tuple[int, str]:
        """Wait for its end, which is to be one of these."""
        printed = process.communicate(timeout=500)[0]
        command = " ".join(process.args[2:5])  # type: ignore[index]
        if process.returncode not in statuses or (process.returncode != 0 and "Traceback" in printed):
            self.wrong.append(f"{command} ended with {process.returncode}: {printed[-1500:]}")
        self.ends[f"{command}: {process.returncode}"] += 1
        return process.returncode, printed

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command, which is to end well."""
        return self.end(self.start(*command), (0,))

    def fresh(self, before: Path) -> None:
        """Begin again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(before, self.folder)

    def compare(self, whole: dict[str, str], where: str) -> None:
        """Note what differs from an undisturbed run, and what a process still writes."""
        found = hashes(self.folder)
        if found != whole:
            other = sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
            self.wrong.append(f"{where}: other results: {other}")


def pipelines(place: Place, before: Path, whole: dict[str, str], points: int) -> None:
    """Two pipelines at once, and DVC's own command beside them."""
    for _ in range(points):
        place.fresh(before)
        for process in [place.start("stages.repro"), place.start("stages.repro")]:
            place.end(process)
        place.run("stages.repro")
        place.compare(whole, "two pipelines")
        place.fresh(before)
        ours, dvc = place.start("stages.repro"), place.start("dvc", "repro")
        place.end(dvc, (0, 1, 255))  # DVC's own status
        place.end(ours)
        place.run("stages.repro")
        place.compare(whole, "dvc repro beside")


def kills(place: Place, before: Path, whole: dict[str, str], points: int) -> None:
    """SIGKILL of DVC alone, of what runs it, and of all, at an even sample of moments; then the same command again."""
    place.fresh(before)
    began = time.monotonic()
    place.run("stages.repro")
    seconds = time.monotonic() - began
    for point in range(points):
        for who in ("dvc", "repro", "all"):
            place.fresh(before)
            process = place.start("stages.repro")
            until = time.monotonic() + seconds * (point + 0.5) / points
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.01)
            _kill(_running(place.folder), who)
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)
            orphans = len(_running(place.folder))
            place.ends[f"killed {who}, {orphans} went on"] += 1
            status, printed = place.end(place.start("stages.repro"))
            tries = 0
            while status == 2 and tries < 60:  # it waits for those that went on
                time.sleep(1)
                tries += 1
                status, printed = place.end(place.start("stages.repro"))
            if status != 0:
                place.wrong.append(f"kill of {who} at {point}: ended with {status}: {printed[-1000:]}")
            place.compare(whole, f"kill of {who} at {point} of {points}")
            if left := _running(place.folder):
                place.wrong.append(f"kill of {who} at {point}: {len(left)} still run")


def _running(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _kill(processes: Sequence[psutil.Process], who: str) -> None:
    """Kill the stand-ins of DVC, of `stages.repro`, or of all; what they stand for ends with them."""
    for process in processes:
        try:
            words = process.cmdline()
            name = words[words.index("-m") + 1] if "-m" in words else ""
            if who == "all" or name == {"dvc": "dvc", "repro": "stages.repro"}[who]:
                process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def trainings(place: Place, before: Path, whole: dict[str, str], points: int) -> None:  # noqa: ARG001
    """Two trainings at once: with one name, and with two names in one folder."""
    for names in (("same", "same"), ("one", "two")):
        for seed in ("0", "1")[:points]:
            place.fresh(before)
            flags = [("--name", names[0], "--seed", "0"), ("--name", names[1], "--seed", seed)]
            ended = [place.end(process)[0] for process in [place.start(*TRAIN, *flag) for flag in flags]]
            if 0 not in ended:
                place.wrong.append(f"{names}: none of two trainings ended well: {ended}")
            for name in {*names} if ended == [0, 0] else ():
                place.run("distill", "verify", f"models/{name}.distill")


def models(place: Place, before: Path, whole: dict[str, str], points: int) -> None:  # noqa: ARG001
    """A prior replaced in a loop while others read the model, and a model deleted and put back while it is read."""
    place.fresh(before)
    place.run("stages.repro")
    model = place.folder / MODEL
    for _ in range(points):
        writer = place.start(*REPLACE, "--layers", "1", "--heads", "2")
        while writer.poll() is None:
            for process in [place.start(*reader) for reader in READERS]:
                place.end(process, (0,))
        place.end(writer, (0,))
    data = model.read_bytes()
    for reader in READERS:
        for _ in range(points):
            process = place.start(*reader)
            while process.poll() is None:
                model.unlink()
                time.sleep(0.02)
                model.with_suffix(".new").write_bytes(data)
                model.with_suffix(".new").replace(model)
                time.sleep(0.05)
            place.end(process)


WORK: dict[str, Callable[[Place, Path, dict[str, str], int], None]] = {
    "pipelines": pipelines,
    "kills": kills,
    "trainings": trainings,
    "models": models,
}


def main() -> None:
    """Do it, and print what was found as lines of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--points", type=int, default=4)
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    before = folder / "before"
    with quick_python(folder / "quick") as python:
        write_sounds(new_project(before).folder / "sounds")
        undisturbed = Place(folder / "undisturbed", python)
        undisturbed.fresh(before)
        undisturbed.run("stages.repro")
        whole = hashes(undisturbed.folder)
        if undisturbed.wrong:
            raise RuntimeError(undisturbed.wrong[0])
        for name in flags.work:
            # DVC looks at the command line of a process that holds a lock: forks have that of this one
            place = Place(folder / "place", Path(sys.executable) if name == "pipelines" else python)
            WORK[name](place, before, whole, flags.points)
            print(json.dumps({"work": name, "ends": place.ends, "wrong": place.wrong}), flush=True)
            print(name, len(place.wrong), file=sys.stderr)


if __name__ == "__main__":
    main()
