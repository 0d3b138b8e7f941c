"""`python -m benchmarks.scale FOLDER`: the pipeline on libraries of synthetic recordings, stage by stage.

For each size DVC runs the stages of a clone in FOLDER one by one, then all again, then with more recordings. What was
measured is kept, so that a run that is cut off goes on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.arguments import say, whole
from benchmarks.report import MISSING, Table, markdown
from benchmarks.scale.library import PER_FOLDER, write_library
from distill.storage.files import read_json, write_json

STAGES = (
    "prepare",
    "ingest",
    "resolve",
    "train_vqvae",
    "encode_codes",
    "split",
    "train_prior",
    "bundle",
    "audition",
)
OUTS = {
    "ingest": "corpus",
    "train_vqvae": "vqvae",
    "encode_codes": "codes",
    "split": "split",
    "train_prior": "prior",
}


@dataclass(frozen=True)
class Cost:
    """Seconds that a command took, and its most memory in bytes, without pages of files: of a process and of all."""

    seconds: float
    largest: int
    together: int
    status: int


def measured(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command in a folder, its output to `run.log` there."""
    began = time.monotonic()
    with (folder / "run.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment}
        )
        peaks = [0, 0]
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
        watcher.start()
        status = process.wait()
        ended.set()
        watcher.join()
    return Cost(time.monotonic() - began, peaks[0], peaks[1], status)


def _watch(pid: int, peaks: list[int], ended: threading.Event) -> None:
    while not ended.wait(0.2):
        with suppress(psutil.Error):
            parent = psutil.Process(pid)
            memory = [
                process.memory_info() for process in (parent, *parent.children(recursive=True))
            ]
            held = [int(own.rss - own.shared) for own in memory]
            peaks[:] = max(peaks[0], *held), max(peaks[1], sum(held))


def main() -> None:
    """Measure each size, and print a table of all that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folder", type=Path)
    add(
        "--recordings",
        type=whole(1),
        nargs="+",
        default=[1000, 10_000],
        help=f"multiples of {PER_FOLDER}",
    )
    add("--minutes", type=float, default=3.0, help="budget of each training")
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    for recordings in given.recordings:
        _Scale(folder, recordings, given.minutes).measure()
    results = [read_json(path, "what was measured") for path in sorted(folder.glob("*.json"))]
    print(markdown(_table(sorted(results, key=lambda result: int(result["recordings"])))))


class _Scale:
    """A project with so many recordings in a folder, and what was measured of it."""

    def __init__(self, folder: Path, recordings: int, minutes: float) -> None:
        self._recordings, self._minutes = recordings, minutes
        self._library, self._project = (
            folder / f"library-{recordings}",
            folder / f"project-{recordings}",
        )
        self._all, self._file = folder / "library", folder / f"{recordings}.json"
        self._result: dict[str, Any] = {"recordings": recordings, "minutes": minutes, "stages": {}}
        if self._file.exists():
            self._result = read_json(self._file, "what was measured")

    def measure(self) -> None:
        self._prepare()
        for stage in STAGES:
            self._once(stage, lambda stage=stage: self._run("-s", stage), OUTS.get(stage))  # type: ignore[misc]
        self._once("again", self._run)
        self._add()
        self._once("added: ingest", lambda: self._run("-s", "ingest"))
        self._once("added: encode_codes", lambda: self._run("-s", "encode_codes"))

    def _prepare(self) -> None:
        write_library(self._all, self._recordings, say=say)
        if not self._library.exists():
            for number in range(self._recordings // PER_FOLDER):
                name = f"set-{number:04d}"
                shutil.copytree(self._all / name, self._library / name, copy_function=os.link)
        if not self._project.exists():
            subprocess.run(["git", "clone", "--quiet", ".", str(self._project)], check=True)
            path = self._project / "params.yaml"
            params = yaml.safe_load(path.read_text())
            params["corpus"]["path"] = str(self._library)
            params["vqvae"]["budget_minutes"] = params["prior"]["budget_minutes"] = self._minutes
            path.write_text(yaml.safe_dump(params, sort_keys=False))
            (self._project / "dvc.lock").unlink()
            config = self._project / ".dvc" / "config.local"  # as docs/scale.md has it
            config.write_text('[cache]\n    type = "hardlink,copy"\n')

    def _add(self) -> None:
        """Add 100 recordings that no smaller library has, as a folder of their own."""
        more = self._library / "set-more"
        if not more.exists():
            write_library(self._all.with_name("more"), PER_FOLDER, seed=1, say=say)
            more.mkdir()
            for path in sorted((self._all.with_name("more") / "set-0000").iterdir())[:100]:
                os.link(path, more / path.name)

    def _once(self, name: str, run: Callable[[], Cost], out: str | None = None) -> None:
        if name in self._result["stages"]:
            return
        say(f"{self._recordings} recordings: {name}")
        cost = run()
        if cost.status != 0:
            sys.exit(f"{self._project}: {name} ended with {cost.status}, see run.log there")
        files = (
            [path for path in (self._project / "artifacts" / out).rglob("*") if path.is_file()]
            if out
            else []
        )
        self._result["stages"][name] = {
            **vars(cost),
            "stage_seconds": self._stage_seconds(name.removeprefix("added: ")),
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
        }
        write_json(self._file, self._result)

    def _run(self, *arguments: str) -> Cost:
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {"PYTHONPATH": str(self._project), "PATH": paths}
        return measured(
            [sys.executable, "-m", "dvc", "repro", *arguments], self._project, environment
        )

    def _stage_seconds(self, stage: str) -> float:
        """Seconds of the last run of a stage without DVC's own, 0 where it did not run."""
        log = self._project / ".distill" / "stages.jsonl"
        entries = (
            [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        )
        return next(
            (float(entry["seconds"]) for entry in reversed(entries) if entry["stage"] == stage), 0.0
        )


def _table(results: Sequence[dict[str, Any]]) -> Table:
    """A row for each stage: seconds with DVC's own and without, most memory of a process and of all, files, bytes."""
    columns = (
        "recordings",
        "step",
        "seconds",
        "of these the stage",
        "largest process, MB",
        "all processes, MB",
    )
    rows = [
        (
            f"{result['recordings']:,}",
            name,
            f"{cost['seconds']:.0f}",
            f"{cost['stage_seconds']:.1f}",
            *(f"{cost[memory] / 1e6:.0f}" for memory in ("largest", "together")),
            str(cost["files"] or MISSING),
            f"{cost['bytes'] / 1e6:.0f}",
        )
        for result in results
        for name, cost in result["stages"].items()
    ]
    return Table("scale", (*columns, "files", "MB"), tuple(rows))


if __name__ == "__main__":
    main()
