"""How soon the page plays a sound after a click on Generate: in Chromium, with the model of the demo."""

import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.arguments import say
from benchmarks.report import Table
from distill.ui.jobs import Jobs
from docs.experiments import CHROMIUM

MODEL = Path("models/demo.distill")
CLICKS = 10
TIMED = ("page", "first sound, s", "all four, s", "verdicts, s", "slowest first sound, s")
# Notes when sounds are played and cards are shown, in seconds from the click on.
NOTE_TIMES = """
window.times = {};
const since = (name) => { window.times[name] ??= (performance.now() - window.clicked) / 1000; };
document.addEventListener('distill-played', () => since('played'));
document.addEventListener('click', (event) => {
  if (event.target.closest('#generate-start')) { window.times = {}; window.clicked = performance.now(); }
}, true);
new MutationObserver(() => {
  const job = document.querySelector('#cards h3')?.dataset.job, cards = document.querySelectorAll('#cards .card');
  if (window.clicked === undefined || job === window.before) { return; }
  if (cards.length === 4) { since('shown'); }
  if (document.querySelectorAll('#cards .verdict').length === 4) { since('judged'); }
}).observe(document, {childList: true, subtree: true});
"""


def measure_page() -> Table:
    """Medians of ten clicks: on a page with a warm worker, with a training beside, and on pages just opened.

    The first row is the peer, which tells how fast the machine is.
    """
    say("first sound of the page")
    peer = [_import_torch() for _ in range(CLICKS)]
    with TemporaryDirectory() as root:
        folder = Path(root)
        (folder / "models").mkdir()
        shutil.copy(MODEL, folder / "models")
        shutil.copytree("data/demo", folder / "sounds" / "demo")
        warm = _warm(folder)
        jobs = Jobs(folder)
        training = jobs.start(
            "train",
            "training",
            ["train", "sounds/demo", "--epochs", "5000", "--name", "beside"],
            {},
        )
        beside = _warm(folder)
        (process,) = training.processes()
        training.cancel()
        process.wait()
        cold = [_cold(folder) for _ in range(CLICKS)]
    rows = {"warm": warm, "warm, a training beside": beside, "just opened": cold}
    known = (
        "python -c 'import torch'",
        f"{statistics.median(peer):.2f}",
        "",
        "",
        f"{max(peer):.2f}",
    )
    return Table(
        "page", TIMED, (known, *((name, *_medians(times)) for name, times in rows.items()))
    )


def _import_torch() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


def _medians(times: list[dict[str, float]]) -> Iterator[str]:
    for name in ("played", "shown", "judged"):
        yield f"{statistics.median(one[name] for one in times):.2f}"
    yield f"{max(one['played'] for one in times):.2f}"


def _warm(folder: Path) -> list[dict[str, float]]:
    """Times of clicks one after another; the first one, which waits for the worker, does not count."""
    with opened(folder) as page:
        return [_click(page) for _ in range(CLICKS + 1)][1:]


def _cold(folder: Path) -> dict[str, float]:
    """Times of a click on a page that was opened this moment."""
    with opened(folder) as page:
        return _click(page)


def _click(page: Any) -> dict[str, float]:
    page.locator("#generate-start:enabled").wait_for()  # what was made before is shown
    page.evaluate("window.before = document.querySelector('#cards h3')?.dataset.job || ''")
    page.locator("#generate-start").click()
    page.wait_for_function(
        "window.times.played && window.times.shown && window.times.judged", timeout=120_000
    )
    page.wait_for_function(
        "document.querySelector('#generate-state').innerText.includes('done')", timeout=120_000
    )
    times: dict[str, float] = page.evaluate("window.times")
    return times


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """The tab Generate of a folder's page in Chromium; the page is served for it alone."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "distill", "ui", "--folder", str(folder), "--port", "0"]
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **quiet) as served, sync_playwright() as playwright:
        assert served.stdout is not None
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(NOTE_TIMES)
        page.goto(served.stdout.readline().strip())
        page.get_by_role("tab", name="Generate").first.click()
        yield page
        browser.close()
        served.send_signal(signal.SIGINT)
