"""The page beside a terminal, another page and attacks: a training ends with its bytes, and nothing is corrupted."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from faults.page import Page, multipart, served, until
from pipeline.project import write_sounds
from unit.tiny import write_prior_model

from distill.model_file.format import load_bundle
from distill.ui.jobs import Job, Jobs

DISTILL = [sys.executable, "-m", "distill"]
RECORDINGS = 8


@pytest.fixture(autouse=True)
def only_exhaustive(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("trains; tests/unit/ui/test_jobs.py and tests/faults/test_page.py try parts of it")


def work(folder: Path) -> Path:
    """A folder with a few short recordings and a model."""
    write_sounds(folder / "sounds" / "few", RECORDINGS)
    (folder / "models").mkdir()
    write_prior_model(folder / "models" / "tiny.distill")
    return folder


def number_of(page: Page, name: str) -> int:
    return next(number for number, one in page.events().items() if one["api_name"] == name)


def start_training(page: Page, name: str, epochs: str) -> dict[str, Any]:
    values = ["sounds/few", name, "small", "standard", 2, 0.25, epochs, "", "24000", False, 0, False]
    return page.event(number_of(page, "train"), values)


def ended(folder: Path, kind: str = "train") -> Job:
    """The newest job of a kind when it has ended."""
    jobs = Jobs(folder)
    until(lambda: (job := jobs.newest(kind)) is not None and job.state != "running", 300)
    job = jobs.newest(kind)
    assert job is not None
    return job


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def attacked(page: Page) -> Iterator[None]:
    """A page that strangers attack meanwhile, and an owner whose uploads are cut off."""
    over = threading.Event()

    def attack() -> None:
        body = multipart("x", "take.wav", b"1" * 1000)
        more = "content-type: multipart/form-data; boundary=x"
        while not over.is_set():
            with suppress(OSError):
                held = [page.connect() for _ in range(50)]
                for connection in held[:10]:
                    connection.sendall(page.head("POST", "/gradio_api/upload", 1 << 20, more=more) + body[:500])
                for connection in held[10:20]:
                    connection.sendall(b"GET / HT")
                for _ in range(20):
                    page.ask("GET", "/config", cookie="")
                page.ask("GET", "/config")
                for connection in held:
                    connection.close()

    threads = [threading.Thread(target=attack) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_training_ends_with_its_bytes_under_attack_and_when_the_page_is_killed(tmp_path: Path) -> None:
    calm, hard = work(tmp_path / "calm"), work(tmp_path / "hard")
    moment = {"SOURCE_DATE_EPOCH": "0"}  # which is in the file
    with served(calm, **moment) as page:
        assert start_training(page, "mine", "4")["success"]
        assert ended(calm).state == "done"
    page = Page(hard, **moment)
    try:
        assert start_training(page, "mine", "4")["success"]
        with attacked(page):
            until(lambda: "epoch" in str(Jobs(hard).all("train")[0].progress) or not Jobs(hard).training(), 200)
            assert page.answers_within(20)
        page.kill()
        with served(hard, **moment) as again, attacked(again):
            assert ended(hard).state == "done"
            assert again.answers_within(20)
    finally:
        with suppress(ProcessLookupError):
            page.close()
    assert digest(hard / "models" / "mine.distill") == digest(calm / "models" / "mine.distill")


def test_two_pages_and_a_terminal_train_one_model(tmp_path: Path) -> None:
    folder = work(tmp_path / "work")
    with served(folder) as one, served(folder) as other:
        answers: list[dict[str, Any]] = []
        threads = [
            threading.Thread(target=lambda page=page: answers.append(start_training(page, "mine", "4")))
            for page in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
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
def test_a_model_that_the_page_deletes_is_read_whole_or_refused(tmp_path: Path, command: list[str]) -> None:
    folder = work(tmp_path / "work")
    with served(folder) as page:
        events = page.events()
        _, answer = page.ask("GET", "/config")
        listed = json.loads(answer)["components"]
        model = next(one["id"] for one in listed if one["props"].get("elem_id") == "library-model")
        show = next(number for number, one in events.items() if model in one["outputs"] and not one["inputs"])
        delete = number_of(page, "delete_it")
        for pause in (0.0, 2.0, 5.0):
            write_prior_model(folder / "models" / "tiny.distill")
            page.event(show, [], session_hash="s")
            name, *flags = command
            terminal = subprocess.Popen(
                [*DISTILL, name, "models/tiny.distill", *flags, "--out", f"made-{pause}"],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            with suppress(subprocess.TimeoutExpired):
                terminal.wait(pause)
            assert page.event(delete, ["tiny.distill"], session_hash="s")["success"]
            _, said = terminal.communicate()
            assert terminal.returncode in (0, 2), said
            assert "Traceback" not in said
            assert not (folder / "models" / "tiny.distill").exists()
