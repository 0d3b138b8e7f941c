"""The tab Compare: trainings side by side, as MLflow has them."""

import atexit
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from distill.training.tracking import ENVIRONMENT, EXPERIMENT, client_of, database_of, page_command, tracking_uri
from distill.ui import view
from distill.ui.charts import line_chart
from distill.ui.desk import Desk, handled

MOST_RUNS = 200
CURVES = {
    "val_loss": "held-out loss",
    "val_perplexity": "held-out perplexity",
    "val_bits_per_second": "held-out bits per second",
}
LEFT_OUT = ("epoch", "learning_rate", "gradient_norm", "epoch_time_s", "step/")


class CompareTab:
    """The trainings of the folder, and those chosen side by side."""

    def __init__(self, desk: Desk, tab: gr.Tab) -> None:
        self._root = desk.workspace.root
        self._servers: list[tuple[subprocess.Popen[bytes], int]] = []
        runs = gr.CheckboxGroup([], label="Trainings", info="choose two or more", elem_id="runs")
        with gr.Row():
            refresh, mlflow = gr.Button("Look again"), gr.Button("Open MLflow")
        link, compared = gr.HTML(), gr.HTML(elem_id="compared")
        refresh.click(self.show, None, [runs, compared], api_visibility="private")
        mlflow.click(self.open_mlflow, None, link, api_visibility="private")
        runs.change(self.compare, runs, compared, api_visibility="private")
        tab.select(self.show, None, [runs, compared], api_visibility="private")

    @handled
    def show(self) -> list[Any]:
        """The list of trainings."""
        found = self._runs()
        said = "" if found else view.note("MLflow has no training of this folder yet.")
        return [gr.update(choices=[(_name(run), run.info.run_id) for run in found]), said]

    @handled
    def compare(self, chosen: list[str]) -> str:
        """Settings that differ, curves and metrics of the trainings that are chosen."""
        by_id = {run.info.run_id: run for run in self._runs()}
        runs = [by_id[one] for one in chosen if one in by_id]
        if len(runs) < 2:
            return view.note("Choose two trainings or more.")
        names = [_name(run) for run in runs]
        parts = {(run.info.run_name or "").partition(" ")[0] for run in runs}
        text = "These are trainings of codecs and of priors: their losses cannot be compared."
        mixed = view.note(text, "warning") if len(parts) > 1 else ""
        settings = _rows([run.data.params for run in runs], str)
        differing = [row for row in settings if len(set(row[1:])) > 1]
        same = view.note("All settings are the same.") if not differing else view.table(("setting", *names), differing)
        metrics = [
            row for row in _rows([run.data.metrics for run in runs], _rounded) if not row[0].startswith(LEFT_OUT)
        ]
        curves = "".join(self._curve(key, title, runs) for key, title in CURVES.items())
        measured = view.table(("metric", *names), metrics)
        return f"{mixed}<h3>Settings that differ</h3>{same}{curves}<h3>Metrics</h3>{measured}"

    @handled
    def open_mlflow(self) -> str:
        """Start MLflow's page, unless it runs."""
        self._servers = [one for one in self._servers if one[0].poll() is None] or [_start_mlflow(self._root)]
        address = f"http://127.0.0.1:{self._servers[0][1]}"
        text = f'<a href="{address}" target="_blank" rel="noopener">{address}</a>'
        return f"<p>MLflow answers at {text} in a few seconds, on this computer alone, until this page is closed.</p>"

    def _runs(self) -> list[Any]:
        database = database_of(tracking_uri(self._root))
        if database is not None and not database.exists():
            return []
        client = client_of(tracking_uri(self._root))
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=MOST_RUNS))

    def _curve(self, key: str, title: str, runs: list[Any]) -> str:
        """A chart of a metric of the trainings that have it."""
        client = client_of(tracking_uri(self._root))
        lines = {}
        for number, run in enumerate(runs):
            if key in run.data.metrics:
                history = client.get_metric_history(run.info.run_id, key)
                lines[f"{number + 1}: {_name(run)}"] = [(one.step + 1, one.value) for one in history]
        return line_chart(title, lines, "epoch")


def _name(run: Any) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
    return f"{run.info.run_name}, {began}, {run.info.status.lower()}"


def _rows(columns: list[dict[str, Any]], shown: Callable[[Any], str]) -> list[tuple[str, ...]]:
    """A row for each key of any column."""
    keys = sorted({key for column in columns for key in column})
    return [(key, *(shown(column[key]) if key in column else "–" for column in columns)) for key in keys]


def _rounded(value: float) -> str:
    return f"{value:.4g}"


def _start_mlflow(root: Path) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = page_command(root, port)
    environment = {**os.environ, **ENVIRONMENT}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    atexit.register(_end, server)
    return server, port


def _end(server: subprocess.Popen[bytes]) -> None:
    """End MLflow with the processes that it started."""
    if os.name == "nt":
        server.terminate()
    elif server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
