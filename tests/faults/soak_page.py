"""The page for hours: `python -m faults.soak_page --minutes M` trains and generates through it, and looks on.

A visitor does what a browser does: it asks for the page's state each second, and for the sounds that were made. With
`--browser` a Chromium is left open on the page too. The server's memory, handles, threads, children and files, and the
times of its answers, are printed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from faults.usage import Course, usage
from pipeline.project import write_sounds

from distill.ui.jobs import Job, Jobs

PATIENCE = 600.0  # seconds, at most, that a job may take
TICK = 1.0
TRAIN = ("sounds/few", "auto", "small", 1, 0.25, "1", "", "auto", False, 0, True)  # the form but for the name


class Visitor:
    """One who looks at the page, with Gradio's protocol: a request that joins the queue, and a stream of answers."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address.partition("?")[0], timeout=60, follow_redirects=True)
        self.http.get(address).raise_for_status()
        config = self.http.get("/config").json()
        kinds = {one["id"]: one["type"] for one in config["components"]}
        names = {one["id"]: _name(one["props"]) for one in config["components"]}
        self.handlers = {
            f"{names.get(target)} {event}": one["id"]
            for one in config["dependencies"]
            for target, event in one["targets"]
        }
        self.ticks = [
            (one["id"], len(one["inputs"]))
            for one in config["dependencies"]
            if any(kinds.get(target) == "timer" for target, _ in one["targets"])
        ]
        self.session = os.urandom(6).hex()
        self.waits: list[float] = []

    def do(self, what: str, *values: Any) -> list[Any]:
        """Do something with a part of the page, as in "train-start click"."""
        return self.call(self.handlers[what], *values)

    def call(self, handler: int, *values: Any) -> list[Any]:
        """Call a handler and wait for its answer."""
        began = time.monotonic()
        body = {"data": values, "fn_index": handler, "session_hash": self.session, "event_data": None}
        self.http.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    self.waits.append(time.monotonic() - began)
                    assert message["success"], message
                    return list(message["output"]["data"])
        raise AssertionError("the stream ended without an answer")

    def look(self, made: str | None = None) -> None:
        """What the page's timer asks for."""
        for handler, inputs in self.ticks:
            self.call(handler, *([made, None][:inputs]))

    def upload(self, sound: Path) -> dict[str, Any]:
        """Upload a recording."""
        with sound.open("rb") as file:
            (path,) = self.http.post("/gradio_api/upload", files={"files": (sound.name, file)}).json()
        return {"path": path, "orig_name": sound.name, "meta": {"_type": "gradio.FileData"}}

    def fetch_all(self, cards: str) -> int:
        """Fetch every file that the cards name; returns their number."""
        links = set(re.findall(r'(?:src|href)="(/job/[^"]+)"', cards))
        for link in links:
            self.http.get(link).raise_for_status()
        return len(links)


def _name(properties: dict[str, Any]) -> str:
    return str(next((properties[key] for key in ("elem_id", "label", "value") if properties.get(key)), ""))


def round_trip(visitor: Visitor, jobs: Jobs, number: int, work: Path) -> None:
    """Train, generate, vary an uploaded sound, make a kit now and then, hear it all, delete the model."""
    name = f"model-{number}"
    visitor.do("train-start click", TRAIN[0], name, *TRAIN[1:])
    trained = _wait(visitor, jobs, "train")
    model = f"{name}.distill"
    visitor.do("Generate select", None)
    visitor.do("generate-start click", model, 2, "exactly as long", 0.5, "", 1, None, "any", 0, 1, "", None)
    made = [_wait(visitor, jobs, "generate")]
    sound = visitor.upload(next((work / "sounds" / "few").iterdir()))
    visitor.do("Make variations click", model, sound, 0.3, "")
    made.append(_wait(visitor, jobs, "vary"))
    if number % 5 == 0:
        visitor.do("kit-start click", model, 1, "")
        made.append(_wait(visitor, jobs, "kit"))
    for job in made:
        _, _, cards, _ = visitor.do("made input", job.id)
        assert visitor.fetch_all(str(cards)) > 2
    *_, previews, _ = visitor.call(visitor.ticks[0][0])
    assert visitor.fetch_all(str(previews)) > 1, trained.id
    visitor.do("Library select")
    visitor.do("Delete it click", model)


def _wait(visitor: Visitor, jobs: Jobs, kind: str) -> Job:
    job = jobs.newest(kind)
    assert job is not None
    end = time.monotonic() + PATIENCE
    while job.state == "running":
        assert time.monotonic() < end, job.title
        visitor.look(job.id if kind != "train" else None)
        time.sleep(TICK)  # as the page's timer does
    assert job.state == "done", (job.state, job.message)
    return job


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The page of a folder in a process of its own, and its address."""
    command = [sys.executable, "-m", "distill", "ui", "--folder", str(folder), "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DISTILL_"))}
    environment |= {"TMPDIR": str(folder / "tmp"), "DISTILL_WORKERS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()


class Browser:
    """Chromium, left open on the page."""

    def __init__(self, address: str) -> None:
        from playwright.sync_api import sync_playwright
        from ui.conftest import CHROMIUM

        self._playwright = sync_playwright().start()
        launched = self._playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        self._page = launched.new_page()
        self._page.goto(address)
        self._devtools = self._page.context.new_cdp_session(self._page)
        self._devtools.send("Performance.enable")

    def held(self) -> dict[str, float]:
        """Bytes of the heap, nodes and listeners, after a collection of garbage."""
        self._devtools.send("HeapProfiler.collectGarbage")
        metrics = {one["name"]: one["value"] for one in self._devtools.send("Performance.getMetrics")["metrics"]}
        return {name: metrics[name] for name in ("JSHeapUsedSize", "Nodes", "JSEventListeners", "Documents")}


def soak(folder: Path, minutes: float, rounds: int, with_browser: bool) -> dict[str, Any]:
    """Keep the page at work and report."""
    (folder / "tmp").mkdir()
    write_sounds(folder / "sounds" / "few", 8)
    course, times, heaps = Course(warm=1), [], []
    with served(folder) as (process, address):
        visitor, jobs = Visitor(address), Jobs(folder)
        browser = Browser(address) if with_browser else None
        end, number = time.monotonic() + 60 * minutes, 0
        while number < rounds or time.monotonic() < end:
            began = time.monotonic()
            round_trip(visitor, jobs, number, folder)
            course.add(number, usage(folder, process.pid, time.monotonic() - began))
            times.append(sorted(visitor.waits)[len(visitor.waits) // 2])
            uploads = [path for path in (folder / ".distill" / "ui" / "uploads").rglob("*") if path.is_file()]
            kept = {"uploads": len(uploads), "jobs": sum(1 for _ in (folder / ".distill" / "jobs").glob("2*"))}
            heaps.append(browser.held() if browser is not None else {})
            line = {"round": number, "median_answer": times[-1], "answers": len(visitor.waits), **kept, **heaps[-1]}
            print(json.dumps({**line, **vars(course.usages[-1] if course.usages else usage(folder, process.pid))}))
            sys.stdout.flush()
            visitor.waits.clear()
            number += 1
    return {"rounds": number, "usage": course.report(), "median_answers": times, "heaps": heaps}


def main() -> None:
    """Keep a page at work for as long as is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3, help="at least so many")
    parser.add_argument("--browser", action="store_true", help="leave a Chromium open on the page, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(soak(Path(folder), given.minutes, given.rounds, given.browser)))


if __name__ == "__main__":
    main()
