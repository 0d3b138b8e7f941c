"""The experiments of docs/comparing-runs.md: the page's commands, run in a clone, and what DVC and MLflow show of them.

`python docs/experiments.py`, run from the repository's root, writes the page's table and its pictures. It takes ten
minutes and needs Chromium.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from urllib.error import URLError

from matplotlib.figure import Figure

PAGE, PICTURES = Path("docs/comparing-runs.md"), Path("docs/static")
COMMANDS = re.compile(r"<!-- experiments -->\n```sh\n(.*?)```", re.DOTALL)
PRINTED = re.compile(r"(?<=They printed this on )[-\d]+")
TABLE = "<!-- table -->\n```\n", "```\n<!-- end -->"
CURVES = "held-out perplexity"  # a plot of dvc.yaml
RUNS = "/#/experiments/1/runs?workflowType=machine_learning"  # of MLflow's page, as the page links to it
PRIORS = "tags.`dvc.stage` = 'train_prior'"
WIDTH, HEIGHT = 1100, 620
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SECONDS = 180.0  # that MLflow's page may take to answer


def commands(page: str) -> list[list[str]]:
    """The page's commands, as words: experiments, their table, their curves, and the choice of one."""
    block = COMMANDS.search(page)
    assert block
    return [words for line in block[1].splitlines() if (words := shlex.split(line, comments=True))]


def draw_curves(plots: dict[str, Any], path: Path) -> None:
    """Draw the perplexity of experiments as the page of `dvc plots diff` does, from what its `--json` says.

    Vega, which draws that page, is loaded from the network by the reader's browser.
    """
    figure = Figure(figsize=(8.0, 3.4), dpi=100, layout="constrained")
    axis = figure.subplots()
    curves: dict[str, list[tuple[int, float, bool]]] = {}
    (plot,) = plots["data"][CURVES]
    for point in plot["content"]["data"]["values"]:
        values = int(point["epoch"]), float(point["val_perplexity"]), point["is_kept"] == "1"
        curves.setdefault(point["rev"], []).append(values)
    for name, points in curves.items():
        epochs, perplexities, is_kept = zip(*points, strict=True)
        axis.plot(epochs, perplexities, marker="o", markevery=list(is_kept), label=name)
    axis.set(xlabel="epoch", ylabel="val_perplexity", title=CURVES)
    axis.legend(fontsize=8)
    figure.savefig(path, format="png")


@contextmanager
def mlflow_page(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of MLflow's page of a folder, served as by `make mlflow` until the context ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, quiet = [sys.executable, "-m", "stages.mlflow_page"], subprocess.DEVNULL
    variables = {**environment, "PORT": str(port)}
    server = subprocess.Popen(
        command, cwd=folder, env=variables, stdout=quiet, stderr=quiet, start_new_session=True
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(address).close()
                break
            except URLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def open_runs(tab: Any, address: str, runs: int) -> None:
    """Open the runs of priors, `count` of them; a `tab` is Playwright's page."""
    tab.goto(address + RUNS)
    tab.get_by_role("button", name="Close").click()  # the assistant
    tab.get_by_role("button", name="Toggle sidebar").click()
    search = tab.get_by_placeholder("metrics.rmse")
    search.fill(PRIORS)
    search.press("Enter")
    tab.get_by_text(f"{runs} matching runs").wait_for()


def choose_columns(tab: Any, *added: str) -> None:
    """Show these metrics and parameters in place of what MLflow shows, each as wide as its name."""
    tab.get_by_role("button", name="Columns", exact=True).click()
    for name in ("Dataset", "Source", "Models", *added):
        tab.get_by_placeholder("Search columns").fill(name)
        tab.locator("strong").get_by_text(name, exact=True).first.click()
    tab.keyboard.press("Escape")
    for name in added:
        tab.locator(f".ag-header-cell:has-text('{name}') .ag-header-cell-resize").dblclick(
            force=True
        )


def open_chart(tab: Any, metric: str) -> None:
    """Show the curves of a metric, enlarged."""
    from playwright.sync_api import expect

    tab.locator("label:has(input[value=CHART])").click()
    tab.get_by_placeholder("Search metric charts").fill(f"^{metric}$")
    enlarge = tab.locator("[data-component-id=fullscreen_button_chartcard]")
    expect(enlarge).to_have_count(1)
    enlarge.click()
    tab.locator(".js-plotly-plot:visible .scatterlayer .trace").first.wait_for()


def open_parallel_coordinates(tab: Any, parameter: str, metric: str) -> None:
    """Show how a metric depends on a parameter, a line for each run; an enlarged chart is closed."""
    tab.keyboard.press("Escape")
    tab.locator("label:has(input[value=TABLE])").click()
    tab.get_by_label("Select all runs").click(force=True)
    tab.get_by_role("button", name="Compare", exact=True).click()
    tab.get_by_role("button", name="Clear All").click()
    for number, name in enumerate((parameter, metric)):
        tab.get_by_role("main").get_by_role("combobox").nth(number).click(force=True)
        listed = tab.locator(".rc-virtual-list-holder:visible")
        listed.hover()
        wanted = tab.locator(f"[title='{name}']:visible")
        while not wanted.count():  # the list has those entries alone that can be seen
            tab.mouse.wheel(0, 200)
            tab.wait_for_timeout(50)
        wanted.click()
        tab.keyboard.press("Escape")
        listed.wait_for(state="hidden")
    tab.get_by_text(metric).nth(1).wait_for()


def take_pictures(address: str, runs: int, folder: Path) -> None:
    """Write pictures of MLflow's page: the table of runs, the chart of perplexity, and parallel coordinates."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        open_runs(tab, address, runs)
        choose_columns(tab, "best/epoch", "best/val_perplexity")
        tab.screenshot(
            path=folder / "mlflow-runs.png", clip={"x": 0, "y": 0, "width": WIDTH, "height": 400}
        )
        open_chart(tab, "val_perplexity")
        tab.screenshot(path=folder / "mlflow-chart.png")
        open_parallel_coordinates(tab, "hidden_size", "best/val_perplexity")
        tab.screenshot(path=folder / "mlflow-parallel-coordinates.png")
        browser.close()


def main() -> None:
    """Learn the demo in a clone, run the page's commands, and write the table and the pictures."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "distill"
        programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "MLFLOW_"))
        }
        environment = {**kept, "PATH": programs, "PYTHONPATH": str(clone), "COLUMNS": "100"}

        def run(*words: str) -> str:
            done = subprocess.run(
                words, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            return done.stdout

        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        run("git", "branch", "--move", "main")
        run(sys.executable, "-m", "stages.repro", "--no-pull")
        run(
            "git", "commit", "--quiet", "--all", "--allow-empty", "--message", "Results of the demo"
        )
        printed = {
            " ".join(words[:3]): run(sys.executable, "-m", *words) for words in commands(text)
        }
        rows = [line.rstrip() for line in printed["dvc exp show"].strip("\n").splitlines()]
        before, after = map(re.escape, TABLE)
        block = "".join((TABLE[0], *(f"{row}\n" for row in rows), TABLE[1]))
        written = re.sub(f"{before}.*?{after}", lambda _: block, text, flags=re.DOTALL)
        PAGE.write_text(PRINTED.sub(date.today().isoformat(), written), encoding="utf-8")
        (diff,) = (words for words in commands(text) if words[:3] == ["dvc", "plots", "diff"])
        draw_curves(
            json.loads(run(sys.executable, "-m", *diff, "--json")), PICTURES / "plots-diff.png"
        )
        with mlflow_page(clone, environment) as address:
            take_pictures(address, 4, PICTURES)


if __name__ == "__main__":
    main()
