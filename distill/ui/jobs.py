"""Jobs: commands that the page starts, each with a folder that tells all there is to know about it."""

import asyncio
import json
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from distill.errors import ParamsError
from distill.pipeline.workspace import LOCK, locked
from distill.progress import EVENTS, SAID, STATUS, VARIABLE
from distill.storage.files import remove_folder, write_json
from distill.training.interruption import SIGNALS
from distill.training.mlflow_store import tracking_uri
from distill.ui.worker import EXIT, STDERR, STDOUT, Worker
from distill.verbs import VERBS

State = Literal["running", "done", "refused", "interrupted", "defect", "gone"]
ENDS: dict[int | None, State] = {
    0: "done",
    2: "refused",
    None: "gone",
}  # by exit status; others are defects
ENDS |= {128 + number: "interrupted" for number in SIGNALS}
JOB, PROCESS, CANCELLED = "job.json", "process.json", "cancelled"
TRAININGS = ("train", "prior")
OTHERS = tuple(VERBS)
MOST_KEPT = 200  # folders of ended jobs
MOST_AT_ONCE = 4  # commands next to a training: each has a process with PyTorch in it
MOST_BYTES = 32 << 20  # read of a file of events or of a JSON document
NICER = dict.fromkeys(TRAININGS, 19)  # it has what the page, and what somebody waits for, leave


@dataclass(frozen=True)
class Job:
    """A command that was started, and the values of the form that it was started with."""

    folder: Path
    kind: str
    title: str
    arguments: Sequence[str]  # of `distill`
    values: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def state(self) -> State:
        """`refused` is exit status 2, `defect` any other failure; `gone` is a process that was killed."""
        if self.processes():
            return "running"
        status = self.read(EXIT).get("status")
        return "interrupted" if status is None and self.is_cancelled else ENDS.get(status, "defect")

    @property
    def report(self) -> dict[str, Any]:
        """JSON report of a command that is done, otherwise {}."""
        return self.read(STDOUT) if self.state == "done" else {}

    @property
    def is_cancelled(self) -> bool:
        """Whether it was asked to save its work and end."""
        return (self.folder / CANCELLED).exists()

    @property
    def is_at_work(self) -> bool:
        """Whether it is running and was not cancelled."""
        return self.state == "running" and not self.is_cancelled

    @property
    def seconds(self) -> float:
        """Seconds that it has run, or ran."""
        began, ended = (self.folder / name for name in (PROCESS, EXIT))
        until = time.time()
        with suppress(OSError):
            until = ended.stat().st_mtime
        with suppress(OSError):
            return max(0.0, until - began.stat().st_mtime)
        return 0.0

    @property
    def is_resumable(self) -> bool:
        """Whether it is a training that was cancelled or killed."""
        return self.kind in TRAININGS and self.state in ("interrupted", "gone")

    @property
    def message(self) -> str:
        """Last sentence of a refused command, which says why, with its list of files, if any."""
        text = "\n" + read_end(self.folder / STDERR).strip()
        sentence = re.split("\ndistill: " if "\ndistill: " in text else "\n", text)[-1]
        for_terminals = r"; see distill \S* ?--help$|\S*/\.distill/ui/uploads/\w+/"
        return re.sub(for_terminals, "", sentence)

    @property
    def warnings(self) -> list[str]:
        """Warnings that the command said, each once."""
        lines = [
            line for name in (SAID, STDERR) for line in read_end(self.folder / name).splitlines()
        ]
        said = [line.removeprefix("distill: ") for line in lines]
        return list(
            dict.fromkeys(
                line.removeprefix("warning: ") for line in said if line.startswith("warning: ")
            )
        )

    def events(self, task: str, name: str = "metrics") -> list[dict[str, Any]]:
        """Events of a task (`codec`, `prior`) by epoch. An epoch that was run twice counts with its last run."""
        by_epoch: dict[int, dict[str, Any]] = {}
        for line in read_end(self.folder / EVENTS, MOST_BYTES).splitlines():
            with suppress(ValueError):  # a line that is being written
                event = json.loads(line)
                if (event["task"], event["event"]) == (task, name) and "epoch" in event:
                    by_epoch[event["epoch"]] = event
        return [event for _, event in sorted(by_epoch.items())]

    def read(self, name: str) -> dict[str, Any]:
        """A JSON object of its folder, as `read_json`."""
        return read_json(self.folder / name)

    def cancel(self) -> None:
        """Ask the command to save its work and end, as Ctrl-C does."""
        for process in self.processes():
            (self.folder / CANCELLED).touch()
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)

    async def ended(self) -> None:
        """Wait until it no longer runs."""
        while self.state == "running":
            await asyncio.sleep(0.05)

    def processes(self) -> list[psutil.Process]:
        """Its process while it runs, else []. The process may run other commands by then, and another have its number."""
        if (self.folder / EXIT).exists():
            return []
        recorded = self.read(PROCESS)
        with suppress(psutil.Error, KeyError):
            process = psutil.Process(recorded["pid"])
            is_same = abs(process.create_time() - recorded["created"]) < 1
            return [process] * (is_same and process.status() != psutil.STATUS_ZOMBIE)
        return []


NO_JOB = Job(
    Path(os.devnull), "", "", (), {}
)  # in place of one that is not there; it has no kind, its files are empty


class Jobs:
    """The jobs of a folder of work."""

    def __init__(self, cwd: Path) -> None:
        self._cwd, self._folder = cwd, cwd / ".distill" / "jobs"
        self.stop_file = (
            cwd / ".distill" / "stop"
        )  # ends the training that runs, with its best weights
        self._kept: Worker | None = (
            None  # runs one after another the commands that somebody waits for
        )
        self._at_work = NO_JOB  # the last job of that worker
        self._lock = threading.Lock()

    def start(
        self, kind: str, title: str, arguments: Sequence[str], values: Mapping[str, Any]
    ) -> Job:
        """Start `distill` with arguments. Raises ParamsError as `run`.

        Results of commands other than trainings get a folder of their own, `generated/<id>`.
        """
        for old in self.all(*TRAININGS, *OTHERS)[MOST_KEPT:]:
            if old.state != "running":
                remove_folder(old.folder)
        now = datetime.now().astimezone()
        name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}{secrets.token_hex(2)}"
        if kind not in TRAININGS:
            arguments = [*arguments, "--out", f"generated/{name}", "--json"]
        return self.run(Job(self._folder / name, kind, title, list(arguments), dict(values)))

    def run(self, job: Job) -> Job:
        """Run the command of a new job, or of an interrupted training, which goes on from its last checkpoint.

        Raises ParamsError where a training runs, or too many other commands.
        """
        kinds, most = (TRAININGS, 1) if job.kind in TRAININGS else (OTHERS, MOST_AT_ONCE)
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / LOCK, waits=True):  # other pages may serve the same folder
            if len(running := self.running(*kinds)) >= most:
                titles = ", ".join(other.title for other in running)
                raise ParamsError(
                    f"at work already ({titles}): expected {most} at a time; wait until one ends or cancel it"
                )
            for name in (EXIT, STATUS, CANCELLED):
                (job.folder / name).unlink(missing_ok=True)
            self._begin(job)
        return job

    def all(self, *kinds: str) -> list[Job]:
        """Jobs of these kinds, the newest first."""
        names = sorted((path.parent.name for path in self._folder.glob("*/" + JOB)), reverse=True)
        return [job for job in map(self.get, names) if job.kind in kinds]

    def newest(self, *kinds: str) -> Job:
        """The newest job of these kinds, or NO_JOB."""
        return next(iter(self.all(*kinds)), NO_JOB)

    def get(self, name: str | None) -> Job:
        """The job of this name, or NO_JOB."""
        if re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{7}", name or ""):
            folder = self._folder / str(name)
            with suppress(TypeError):  # no file, or a file of another version
                return Job(folder, **read_json(folder / JOB))
        return NO_JOB

    def running(self, *kinds: str) -> list[Job]:
        """Jobs of these kinds that run."""
        return [job for job in self.all(*kinds) if job.state == "running"]

    def _begin(self, job: Job) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        if job.kind in TRAININGS:
            self.stop_file.unlink(missing_ok=True)  # of no training: none runs
        name = str(job.values.get("name") or job.values.get("model") or "")
        environment = {"MLFLOW_TRACKING_URI": tracking_uri(self._cwd), "DISTILL_RUN_NAME": name}
        worker = self._worker_for(job, {**environment, VARIABLE: str(job.folder)})
        write_json(
            job.folder / PROCESS,
            {"pid": worker.process.pid, "created": worker.process.create_time()},
        )
        described = {key: value for key, value in asdict(job).items() if key != "folder"}
        write_json(job.folder / JOB, described)  # last: from now on it is listed

    def warm(self, arguments: Sequence[str]) -> None:
        """Let the worker that is kept run a command beforehand, whose result nobody needs."""
        with self._lock:
            folder = self._folder / "warm"
            folder.mkdir(parents=True, exist_ok=True)
            if self._at_work.state != "running":
                self._order(
                    folder, [*arguments, "--out", str(folder), "--json"], {VARIABLE: str(folder)}
                )

    def _worker_for(self, job: Job, environment: Mapping[str, str]) -> Worker:
        """Return a worker for a job: the kept worker if it is free, else a worker that ends with the job.

        The kept worker counts as free once it has answered, while it still draws pictures.
        """
        with self._lock:
            if job.kind in OTHERS and (
                self._at_work.state != "running" or self._at_work.read(STDOUT)
            ):
                self._at_work = job
                return self._order(job.folder, job.arguments, environment)
        worker = Worker(self._cwd, NICER.get(job.kind, 0))
        worker.run(job.folder, job.arguments, environment)
        worker.end()
        return worker

    def _order(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Worker:
        """Order a command of the worker that is kept, or of a new one in place of one that has ended."""
        if self._kept is not None:
            with suppress(OSError):
                self._kept.run(folder, arguments, environment)
                return self._kept
            self._kept.end()
        self._kept = Worker(self._cwd, 0)
        self._kept.run(folder, arguments, environment)
        return self._kept

    def end(self) -> None:
        """Let the worker that is kept end when it has done its work."""
        if self._kept is not None:
            self._kept.end()


def read_end(path: Path, most: int = 64 << 10) -> str:
    """The last `most` bytes of a file as text; "" where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that a command wrote; {} where there is no file, or another value in it."""
    values = None
    with suppress(ValueError):
        values = json.loads(read_end(path, MOST_BYTES))
    return values if isinstance(values, dict) else {}
