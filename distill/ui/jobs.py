"""Jobs: commands that the page starts, each with a folder that tells all there is to know about it."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from distill.errors import ParamsError
from distill.status import EVENTS, SAID, STATUS
from distill.storage.files import write_json
from distill.ui.run_job import EXIT, JOB, STDERR, STDOUT

State = Literal["running", "done", "refused", "interrupted", "defect", "gone"]
PROCESS = "process.json"
TRAININGS = ("train", "prior")
START_SECONDS = 10.0
MOST_KEPT = 200  # folders of ended jobs
TAIL = 64 << 10  # bytes read of the end of a text


@dataclass(frozen=True)
class Job:
    """A command that was started, and the values of the form that it was started with."""

    folder: Path
    kind: str
    title: str
    command: Sequence[str]
    values: Mapping[str, Any]
    started: float  # seconds since 1970

    @property
    def id(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def state(self) -> State:
        """`refused` is exit status 2, `defect` any other failure; `gone` is a process that was killed."""
        recorded = _json(self.folder / PROCESS)
        if _is_alive(recorded) or (not recorded and self._is_starting):
            return "running"
        ended = _json(self.folder / EXIT)
        if "status" not in ended:
            return "gone"
        status = int(ended["status"])
        if status in (130, 143, -signal.SIGINT, -signal.SIGTERM):
            return "interrupted"
        return {0: "done", 2: "refused"}.get(status, "defect")  # type: ignore[return-value]

    @property
    def _is_starting(self) -> bool:
        """Whether the process is so new that it may not be recorded yet."""
        try:
            return time.time() - (self.folder / JOB).stat().st_mtime < START_SECONDS
        except OSError:
            return False

    @property
    def progress(self) -> dict[str, Any]:
        """The task at work: label, done, total, text, seconds_left; {} where nothing was reported yet."""
        return _json(self.folder / STATUS)

    @property
    def said(self) -> list[str]:
        """Lines that the command said."""
        return _tail(self.folder / SAID).splitlines()

    @property
    def warnings(self) -> list[str]:
        """Warnings that the command said, each once."""
        return list(dict.fromkeys(line.removeprefix("warning: ") for line in self.said if line.startswith("warning: ")))

    @property
    def message(self) -> str:
        """What a refused command said at its end: the sentence that says why, with its list of files, if any."""
        lines = [line for line in _tail(self.folder / STDERR).splitlines() if line.strip()]
        first = max(
            (number for number, line in enumerate(lines) if line.startswith("distill: ")), default=len(lines) - 1
        )
        return "\n".join(lines[first:]).removeprefix("distill: ") if lines else ""

    @property
    def output(self) -> Any:
        """The JSON document on stdout; None where there is none."""
        try:
            return json.loads((self.folder / STDOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def events(self, task: str, name: str = "metrics") -> list[dict[str, Any]]:
        """Events of a task (`codec`, `prior`) by epoch. Of an epoch that was done twice, the last."""
        by_epoch: dict[int, dict[str, Any]] = {}
        try:
            text = (self.folder / EVENTS).read_text(encoding="utf-8")
        except OSError:
            return []
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a line that is being written
            if event.get("task") == task and event.get("event") == name and "epoch" in event:
                by_epoch[int(event["epoch"])] = event
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def cancel(self) -> None:
        """Ask the command to save its work and end, as Ctrl-C does."""
        recorded = _json(self.folder / PROCESS)
        if _is_alive(recorded):
            os.kill(int(recorded["pid"]), signal.SIGINT)


class Jobs:
    """The jobs of a folder of work."""

    def __init__(self, cwd: Path) -> None:
        self._cwd, self._folder = cwd, cwd / ".distill" / "jobs"

    def start(self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]) -> Job:
        """Start `distill` with arguments. Raises ParamsError where a training runs and this is another one."""
        if kind in TRAININGS:
            self.check_idle()
        self._forget_old()
        return self._run(self._new(kind, title, arguments, values))

    def start_in_folder(self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]) -> Job:
        """Start `distill` with arguments and a folder of its own for what it makes, `generated/<id>`."""
        self._forget_old()
        job = self._new(kind, title, arguments, values)
        return self._run(replace(job, command=[*job.command, "--out", f"generated/{job.id}", "--json"]))

    def resume(self, job: Job) -> Job:
        """Start an interrupted training again; it goes on from its last checkpoint. Raises ParamsError as `start`."""
        self.check_idle()
        for name in (EXIT, PROCESS):
            (job.folder / name).unlink(missing_ok=True)
        return self._run(job)

    def all(self, *kinds: str) -> list[Job]:
        """Jobs of these kinds, the newest first."""
        names = sorted((path.name for path in self._folder.glob("*/" + JOB) for path in (path.parent,)), reverse=True)
        found = (self.get(name) for name in names)
        return [job for job in found if job is not None and job.kind in kinds]

    def newest(self, *kinds: str) -> Job | None:
        """The newest job of these kinds."""
        return next(iter(self.all(*kinds)), None)

    def get(self, name: str) -> Job | None:
        """The job of this name; None where there is none."""
        if not name or Path(name).name != name or name.startswith("."):
            return None
        values = _json(self._folder / name / JOB)
        if "kind" not in values:
            return None
        parts = (values[key] for key in ("kind", "title", "command", "values", "started"))
        return Job(self._folder / name, *parts)

    def training(self) -> Job | None:
        """The training that runs."""
        return next((job for job in self.all(*TRAININGS)[:20] if job.state == "running"), None)

    def check_idle(self) -> None:
        """Refuse a training beside another one. Raises ParamsError that names the one that runs."""
        running = self.training()
        if running is not None:
            raise ParamsError(
                f"a training runs already ({running.title}): expected one at a time; wait until it ends or cancel it"
            )

    def _new(self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]) -> Job:
        now = time.time()
        name = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{int(now % 1 * 1000):03d}{secrets.token_hex(2)}"
        command = [sys.executable, "-P", "-m", "distill", *arguments]
        return Job(self._folder / name, kind, title, command, values, now)

    def _run(self, job: Job) -> Job:
        job.folder.mkdir(parents=True, exist_ok=True)
        recorded = {"kind": job.kind, "title": job.title, "command": list(job.command), "values": dict(job.values)}
        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._cwd.resolve() / 'mlflow.db'}"
        named = {"DISTILL_RUN_NAME": str(job.values.get("name") or job.values.get("model") or "")}
        environment = {"MLFLOW_TRACKING_URI": store, **named}
        run = {"started": job.started, "cwd": str(self._cwd), "environment": environment}
        write_json(job.folder / JOB, {**recorded, **run})
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "distill.ui.run_job", str(job.folder)],
            cwd=self._cwd,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        began = psutil.Process(process.pid).create_time()
        write_json(job.folder / PROCESS, {"pid": process.pid, "created": began})
        _CHILDREN.append(process)
        return job

    def _forget_old(self) -> None:
        """Delete the folders of the oldest jobs."""
        for job in self.all("train", "prior", "generate", "vary", "kit", "verify")[MOST_KEPT:]:
            if job.state != "running":
                shutil.rmtree(job.folder, ignore_errors=True)


_CHILDREN: list[subprocess.Popen[bytes]] = []  # of this process, to be waited for


def _is_alive(recorded: Mapping[str, Any]) -> bool:
    """Whether the process that was recorded still runs; another one may have got its number."""
    if "pid" not in recorded:
        return False
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
    try:
        process = psutil.Process(int(recorded["pid"]))
        is_same = abs(process.create_time() - float(recorded["created"])) < 1
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
