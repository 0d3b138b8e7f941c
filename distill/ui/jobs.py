"""Jobs: commands that the page starts, each with a folder that tells all there is to know about it."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from distill.errors import ParamsError
from distill.status import EVENTS, SAID, STATUS
from distill.storage.files import remove_folder, write_json
from distill.training.interruption import SIGNALS
from distill.ui.reading import MOST_BYTES, open_own, read_end, read_json, read_text
from distill.ui.run_job import COMMAND, EXIT, JOB, STDERR, STDOUT

State = Literal["running", "done", "refused", "interrupted", "defect", "gone"]
INTERRUPTED = {code for number in SIGNALS for code in (128 + number, -number)}  # exit statuses
PROCESS = "process.json"
TRAININGS = ("train", "prior")
OTHERS = ("generate", "vary", "kit", "verify")
START_SECONDS = 10.0
MOST_KEPT = 200  # folders of ended jobs
MOST_AT_ONCE = 4  # commands beside a training: each has a process with PyTorch in it
MOST_LISTED = 1000  # jobs that are looked at, of a folder that may be a stranger's
TAIL = 64 << 10  # bytes read of the end of a text
SMALL = 1 << 20  # bytes of a file that describes a job
LOCK = "lock"
_DISTILL = [sys.executable, "-P", "-m", "distill"]
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6,7}")
_TYPES = {"kind": str, "title": str, "command": list, "values": dict, "started": int | float}  # of a job's file


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
        if self._running() or self._is_starting:
            return "running"
        status = read_json(self.folder / EXIT, SMALL).get("status")
        if not isinstance(status, int):
            return "gone"
        if status in INTERRUPTED:
            return "interrupted"
        return {0: "done", 2: "refused"}.get(status, "defect")  # type: ignore[return-value]

    @property
    def _is_starting(self) -> bool:
        """Whether the process is so new that it may not be recorded yet."""
        if any((self.folder / name).exists() for name in (PROCESS, COMMAND, EXIT)):
            return False
        try:
            return time.time() - (self.folder / JOB).stat().st_mtime < START_SECONDS
        except OSError:
            return False

    @property
    def progress(self) -> dict[str, Any]:
        """The task at work: label, done, total, text, seconds_left; {} where nothing was reported yet."""
        return read_json(self.folder / STATUS, SMALL)

    @property
    def said(self) -> list[str]:
        """Lines that the command said."""
        return read_end(self.folder / SAID, TAIL).splitlines()

    @property
    def warnings(self) -> list[str]:
        """Warnings that the command said, each once."""
        return list(dict.fromkeys(line.removeprefix("warning: ") for line in self.said if line.startswith("warning: ")))

    @property
    def message(self) -> str:
        """What a refused command said at its end: the sentence that says why, with its list of files, if any."""
        lines = [line for line in read_end(self.folder / STDERR, TAIL).splitlines() if line.strip()]
        first = max(
            (number for number, line in enumerate(lines) if line.startswith("distill: ")), default=len(lines) - 1
        )
        return "\n".join(lines[first:]).removeprefix("distill: ") if lines else ""

    @property
    def output(self) -> Any:
        """The JSON document on stdout; None where there is none."""
        try:
            return json.loads(read_text(self.folder / STDOUT))
        except (OSError, ValueError, RecursionError):
            return None

    def events(self, task: str, name: str = "metrics") -> list[dict[str, Any]]:
        """Events of a task (`codec`, `prior`) by epoch. Of an epoch that was done twice, the last."""
        by_epoch: dict[int, dict[str, Any]] = {}
        for line in read_end(self.folder / EVENTS, MOST_BYTES).splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue  # a line that is being written
            is_asked = isinstance(event, dict) and event.get("task") == task and event.get("event") == name
            if is_asked and isinstance(event.get("epoch"), int):
                by_epoch[event["epoch"]] = event
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def cancel(self) -> None:
        """Ask the command to save its work and end, as Ctrl-C does."""
        pid = self._running()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def _running(self) -> int | None:
        """The process to signal: the one that runs the command, or the command alone where that one was killed."""
        recorded = (read_json(self.folder / name, SMALL) for name in (PROCESS, COMMAND))
        return next((pid for pid in map(_alive, recorded) if pid is not None), None)


class Jobs:
    """The jobs of a folder of work."""

    def __init__(self, cwd: Path) -> None:
        self._cwd, self._folder = cwd, cwd / ".distill" / "jobs"

    def start(self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]) -> Job:
        """Start `distill` with arguments. Raises ParamsError where a training runs, or too many other commands."""
        return self._start(self._new(kind, title, arguments, values))

    def start_in_folder(self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]) -> Job:
        """Start `distill` with arguments and a folder of its own for what it makes, `generated/<id>`."""
        if (self._cwd / "generated").is_symlink():
            raise ParamsError("generated: expected a folder, found a link; put a folder there")
        job = self._new(kind, title, arguments, values)
        return self._start(replace(job, command=[*job.command, "--out", f"generated/{job.id}", "--json"]))

    def resume(self, job: Job) -> Job:
        """Start an interrupted training again; it goes on from its last checkpoint. Raises ParamsError as `start`.

        Its file may be a stranger's, with the folder: no command but a training by this Distill is run.
        """
        arguments = list(job.command)[len(_DISTILL) :]
        if list(job.command)[1 : len(_DISTILL)] != _DISTILL[1:] or arguments[:1] not in (["train"], ["train-prior"]):
            raise ParamsError(f"{job.title}: expected a training that this page started, found another command")
        if any(path.is_symlink() for path in job.folder.iterdir()):
            raise ParamsError(f"{job.title}: expected files of a training, found links; start the training anew")
        with self._one_after_another():
            self.check_idle()
            for name in (EXIT, PROCESS, COMMAND):
                (job.folder / name).unlink(missing_ok=True)
            return self._run(replace(job, command=[*_DISTILL, *arguments]))

    def all(self, *kinds: str) -> list[Job]:
        """Jobs of these kinds, the newest first."""
        names = sorted((path.parent.name for path in self._folder.glob("*/" + JOB)), reverse=True)
        found = (self.get(name) for name in names[:MOST_LISTED])
        return [job for job in found if job is not None and job.kind in kinds]

    def newest(self, *kinds: str) -> Job | None:
        """The newest job of these kinds."""
        return next(iter(self.all(*kinds)), None)

    def get(self, name: str) -> Job | None:
        """The job of this name; None where there is none."""
        folder = self._folder / name
        if not _ID.fullmatch(name) or folder.is_symlink():
            return None
        values = read_json(folder / JOB, SMALL)
        if not all(isinstance(values.get(key), kind) for key, kind in _TYPES.items()):
            return None
        if not all(isinstance(part, str) for part in values["command"]):
            return None
        return Job(folder, *(values[key] for key in _TYPES))

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

    def check_room(self) -> None:
        """Refuse a command beside too many others. Raises ParamsError."""
        running = [job for job in self.all(*OTHERS)[:MOST_KEPT] if job.state == "running"]
        if len(running) >= MOST_AT_ONCE:
            raise ParamsError(
                f"{len(running)} commands are at work ({running[-1].title} and others): expected {MOST_AT_ONCE} at a time "
                "or fewer; wait until one ends or cancel it"
            )

    def _new(self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]) -> Job:
        now = time.time()
        name = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{int(now % 1 * 1000):03d}{secrets.token_hex(2)}"
        return Job(self._folder / name, kind, title, [*_DISTILL, *arguments], values, now)

    def _start(self, job: Job) -> Job:
        self._forget_old()
        with self._one_after_another():
            if job.kind in TRAININGS:
                self.check_idle()
            else:
                self.check_room()
            return self._run(job)

    @contextmanager
    def _one_after_another(self) -> Iterator[None]:
        """Hold back other commands, of this page and of others of the folder, while one is started."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _STARTING, open_own(self._folder / LOCK) as lock:
            if os.name != "nt":
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

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
        for job in self.all(*TRAININGS, *OTHERS)[MOST_KEPT:]:
            if job.state != "running":
                remove_folder(job.folder)


_STARTING = threading.Lock()
_CHILDREN: list[subprocess.Popen[bytes]] = []  # of this process, to be waited for


def _alive(recorded: Mapping[str, Any]) -> int | None:
    """The process that was recorded, if it still runs; another one may have got its number."""
    pid, created = recorded.get("pid"), recorded.get("created")
    if not isinstance(pid, int) or not isinstance(created, int | float) or pid <= 0:
        return None
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - created) < 1
        return pid if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OverflowError):
        return None
