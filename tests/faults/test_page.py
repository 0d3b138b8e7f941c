"""The page beside a terminal, another page and a crash: a training ends with its bytes, and nothing is corrupted."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pipeline.project import write_sounds
from unit.tiny import write_prior_model

from distill.model_file.format import load_bundle
from distill.ui.jobs import MOST_AT_ONCE, Job, Jobs

DISTILL = [sys.executable, "-m", "distill"]
PATIENCE = 300.0  # seconds, at most, that anything is waited for


@pytest.fixture(autouse=True)
def only_exhaustive(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("trains; tests/unit/ui/test_jobs.py and tests/ui try parts of it")


class Page:
    """`distill ui` of a folder, and a client that asks it as a browser does."""

    def __init__(self, folder: Path, **environment: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DISTILL_", "GRADIO_"))}
        self.process = subprocess.Popen(
            [*DISTILL, "ui", "--folder", str(folder), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            env={**kept, **environment},
        )
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        self.http = httpx.Client(base_url=address.partition("?")[0], timeout=PATIENCE, follow_redirects=True)
        self.http.get(address).raise_for_status()
        self.events = {one["api_name"]: one for one in self.http.get("/config").json()["dependencies"]}

    def event(self, name: str, data: list[Any], session: str) -> dict[str, Any]:
        """The answer to an event."""
        asked = {"data": data, "fn_index": int(self.events[name]["id"]), "session_hash": session}
        self.http.post("/gradio_api/queue/join", json=asked).raise_for_status()
        answer = self.http.get("/gradio_api/queue/data", params={"session_hash": session}).text
        found = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: ")]
        return next(one for one in found if one["msg"] == "process_completed")

    def load(self, session: str) -> None:
        """Ask what a browser asks when it opens the page: only models that were listed then can be chosen."""
        for name, one in self.events.items():
            if any(event == "load" for _, event in one["targets"]):
                assert self.event(name, [None] * len(one["inputs"]), session)["success"], name

    def train(self, name: str) -> dict[str, Any]:
        """Start a training of four epochs."""
        values = ["sounds/few", name, "small", "standard", "2", 0.25, "4", "", "24000", "none", 0, False]
        return self.event("train", values, name)


@contextmanager
def served(folder: Path, **environment: str) -> Iterator[Page]:
    """A page for a while."""
    page = Page(folder, **environment)
    try:
        yield page
    finally:
        page.http.close()
        with suppress(ProcessLookupError):
            page.process.terminate()
        page.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return work(tmp_path / "work")


def work(folder: Path) -> Path:
    """A folder with a few short recordings and a model."""
    write_sounds(folder / "sounds" / "few", 8, seconds=0.2)
    (folder / "models").mkdir()
    write_prior_model(folder / "models" / "tiny.distill")
    return folder


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.05)


def ended(folder: Path) -> Job:
    """The newest training when it has ended."""
    jobs = Jobs(folder)
    until(lambda: (job := jobs.newest("train")) is not None and job.state != "running")
    job = jobs.newest("train")
    assert job is not None
    return job


def test_a_training_ends_with_its_bytes_when_the_page_is_killed(folder: Path, tmp_path: Path) -> None:
    calm, moment = work(tmp_path / "calm"), {"SOURCE_DATE_EPOCH": "0"}  # which is in the file
    with served(calm, **moment) as page:
        assert page.train("mine")["success"]
        assert ended(calm).state == "done"
    with served(folder, **moment) as page:
        assert page.train("mine")["success"]
        until(lambda: "epoch" in str(Jobs(folder).all("train")[0].progress))
        page.process.kill()
    with served(folder, **moment):
        assert ended(folder).state == "done"
    one, other = (hashlib.sha256((at / "models" / "mine.distill").read_bytes()).digest() for at in (calm, folder))
    assert one == other


def test_two_pages_and_a_terminal_train_one_model(folder: Path) -> None:
    with served(folder) as one, served(folder) as other:
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda page: page.train("mine"), (one, other)))
        assert sorted(answer["success"] for answer in answers) == [False, True]
        refused = next(answer["output"]["error"] for answer in answers if not answer["success"])
        assert refused.startswith("a training runs already (training mine on sounds/few): expected one at a time")
        command = [*DISTILL, "train", "sounds/few", "--name", "mine", "--tier", "small", "--epochs", "3"]
        terminal = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert "Traceback" not in terminal.stderr
        assert (terminal.returncode, ended(folder).state) in ((2, "done"), (0, "refused"))
    load_bundle(folder / "models" / "mine.distill")
    assert {path.suffix for path in (folder / "models").iterdir()} <= {".distill", ".md"}


@pytest.mark.parametrize("command", [["generate", "-n", "8", "--seconds", "1"], ["kit", "--per-label", "4"]])
def test_a_model_that_the_page_deletes_is_read_whole_or_refused(folder: Path, command: list[str]) -> None:
    with served(folder) as page:
        for pause in (0.0, 2.0, 5.0):
            write_prior_model(folder / "models" / "tiny.distill")
            page.load(session := f"s{pause}")
            assert page.event("ask", ["tiny.distill"], session)["success"]
            made = ["--out", f"made-{pause}"]
            terminal = subprocess.Popen(
                [*DISTILL, command[0], "models/tiny.distill", *command[1:], *made],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            threading.Event().wait(pause)
            assert page.event("delete", ["tiny.distill"], session)["success"]
            _, said = terminal.communicate()
            assert terminal.returncode in (0, 2), said
            assert "Traceback" not in said
            assert not (folder / "models" / "tiny.distill").exists()


def test_a_flood_of_clicks_starts_few_commands(folder: Path) -> None:
    form = ["tiny.distill", 32, "exactly as long", 60.0, "1", 1.0, None, "any", 0, 1.0, "", None]
    with served(folder) as page, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: page.event("generate", form, str(number)), range(60)))
    started = Jobs(folder).all("generate")
    try:
        refused = [one["output"]["error"] for one in answers if not one["success"]]
        assert len([job for job in started if job.state == "running"]) <= MOST_AT_ONCE
        assert len(started) + len(refused) == len(answers)
        sentence = r"4 commands are at work \(32 sounds of tiny and others\): expected 4 at a time or fewer"
        assert re.match(sentence, refused[0])
    finally:
        for job in started:
            job.cancel()
    until(lambda: all(job.state != "running" for job in started))
