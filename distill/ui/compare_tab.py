"""Tab Compare: trainings of the folder in MLflow, side by side."""

import atexit
import os
import re
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

import gradio as gr
import psutil

from distill.training.mlflow_store import (
    ENVIRONMENT,
    client_of,
    database_of,
    find_experiment,
    page_command,
    runs_address,
    tracking_uri,
)
from distill.ui import view
from distill.ui.forms import PRIVATE
from distill.ui.workspace import Workspace

NONE_YET = "A training has these metrics when it has ended: they are of the weights that it keeps."


class CompareTab:
    """Trainings of the folder in MLflow, side by side."""

    def __init__(self, work: Workspace, tab: gr.Tab) -> None:
        self._root = work.root
        self._addresses: dict[psutil.Popen, str] = {}  # of running MLflow servers
        runs = gr.CheckboxGroup([], label="Trainings", info="choose two or more", elem_id="runs")
        mlflow = gr.Button("Open MLflow")
        link, compared = gr.HTML(), gr.HTML(elem_id="compared")
        mlflow.click(self.open_mlflow, None, link, **PRIVATE)
        runs.change(self.compare, runs, compared, **PRIVATE)
        tab.select(self.show, None, [runs, compared], **PRIVATE)

    def show(self) -> list[Any]:
        """Refresh the list of trainings."""
        runs = self._runs()
        nothing = "" if runs else view.note("MLflow has no training of this folder yet.")
        return [gr.update(choices=[(_name_of(run), run.info.run_id) for run in runs]), nothing]

    def compare(self, chosen: list[str]) -> str:
        """Compare the chosen trainings: settings that differ, and metrics."""
        by_id = {run.info.run_id: run for run in self._runs()}
        runs = [by_id[run_id] for run_id in chosen if run_id in by_id]
        if len(runs) < 2:
            return view.note("Choose two trainings or more.")
        are_mixed = len({run.data.tags.get("dvc.stage") for run in runs}) > 1
        mixed = (
            "These are trainings of codecs and of priors: their losses cannot be compared."
            * are_mixed
        )
        kept = ("best/", "audition/")  # metrics of the best weights, and of their sounds
        metrics = [
            row for row in _rows([run.data.metrics for run in runs]) if row[0].startswith(kept)
        ]
        settings = [
            row for row in _rows([run.data.params for run in runs]) if len(set(row[1:])) > 1
        ]
        names = [_name_of(run) for run in runs]
        return (
            f"{view.note(mixed, 'warning')}<h2>Settings that differ</h2>"
            f"{view.table(('setting', *names), settings, 'All settings are the same.')}"
            f"<h2>Metrics of the weights that were kept</h2>{view.table(('metric', *names), metrics, NONE_YET)}"
        )

    def open_mlflow(self) -> str:
        """Link to MLflow's page; start its server unless it is running."""
        running = (address for server, address in self._addresses.items() if server.poll() is None)
        address = next(running, None) or self._start_mlflow()
        text = f'<a href="{address}" target="_blank" rel="noopener">{address}</a>'
        return f"<p>MLflow answers at {text} in a few seconds, on this computer alone, until this page is closed.</p>"

    def _start_mlflow(self) -> str:
        """Start an MLflow server, which ends with this process, and return its address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = psutil.Popen(
            page_command(self._root, port),
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(end_tree, server)
        self._addresses[server] = runs_address(self._root, port)
        return self._addresses[server]

    def _runs(self) -> list[Any]:
        address = tracking_uri(self._root)
        database = database_of(address)
        if database is not None and not database.exists():
            return []
        client = client_of(address)
        experiment = find_experiment(client, self._root)
        return (
            list(client.search_runs([experiment.experiment_id], max_results=200))
            if experiment
            else []
        )


def _name_of(run: Any) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
    return f"{run.info.run_name}, {began}, {run.info.status.lower()}"


def _rows(columns: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each key in any column, in natural order (2 before 10)."""

    def order(key: str) -> str:
        return re.sub(r"\d+", lambda number: f"{number[0]:>9}", key)

    def shown(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    keys = sorted({key for column in columns for key in column}, key=order)
    return [(key, *(shown(column.get(key, "–")) for column in columns)) for key in keys]


def end_tree(server: psutil.Popen) -> None:
    """End a process and its children."""
    with suppress(psutil.NoSuchProcess):
        for process in [*server.children(recursive=True), server]:
            process.terminate()
