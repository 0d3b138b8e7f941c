"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from docs.experiments import CHROMIUM

from distill.ui.jobs import OTHERS, TRAININGS, Jobs
from pipeline.project import write_sounds
from unit.tiny import write_prior_model

PATIENCE = 60_000  # milliseconds, at most, that anything on the page is waited for
RECORDINGS = 8
# Without `preload`, which asks for style sheets a second time.
RUN_AXE = "axe.run({resultTypes: ['violations'], preload: false})"


def violations(page: Any) -> dict[str, list[str]]:
    """Rules of axe-core that the page breaks as it is shown now, each with the elements that do."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    broken = page.evaluate(RUN_AXE)["violations"]
    return {rule["id"]: [node["html"][:200] for node in rule["nodes"]] for rule in broken}


class Served:
    """The page of a folder, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self, *flags: str) -> str:
        """Start the page; returns its address, the one line on stdout."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distill", "ui", "--folder", str(self.folder), *(flags or ("--port", "0"))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DISTILL_"))},
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        return self.address

    @property
    def origin(self) -> str:
        """The address without its token."""
        return self.address.partition("?")[0].rstrip("/")

    def kill(self) -> None:
        """End the page's process as a crash does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def get(self, path: str, cookie: str = "") -> tuple[int, bytes]:
        """Status and body of an answer."""
        request = urllib.request.Request(self.origin + path, headers={"cookie": cookie} if cookie else {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE / 1000) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of a folder with a few short recordings and an untrained model."""
    folder = tmp_path_factory.mktemp("work")
    write_sounds(folder / "sounds" / "few", RECORDINGS, seconds=0.2)
    (folder / "models").mkdir()
    write_prior_model(folder / "models" / "tiny.distill")
    page = Served(folder)
    page.start()
    yield page
    for job in Jobs(folder).all(*TRAININGS, *OTHERS):
        job.cancel()
    if page.process is not None and page.process.poll() is None:
        page.process.send_signal(signal.SIGINT)
        page.process.communicate(timeout=PATIENCE / 1000)
