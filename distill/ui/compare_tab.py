"""The tab Compare: trainings side by side, as MLflow has them."""

import atexit
import os
import signal
import socket
import subprocess
from typing import Any

import gradio as gr

from distill.training.mlflow_store import ENVIRONMENT, client_of, database_of, page_command, tracking_uri
from distill.training.tracking import EXPERIMENT
from distill.ui import view
from distill.ui.charts import line_chart
from distill.ui.handlers import Desk, handled

MOST_RUNS = 200
CURVES = {
    "val_loss": "held-out loss",
    "val_perplexity": "held-out perplexity",
    "val_bits_per_second": "held-out bits per second",
}
LEFT_OUT = ("epoch", "learning_rate", "gradient_norm", "epoch_time_s", "step/")


def build(desk: Desk, tab: gr.Tab) -> None:
    """Build the tab."""
    runs = gr.CheckboxGroup([], label="Trainings", info="choose two or more", elem_id="runs")
    with gr.Row():
        refresh = gr.Button("Look again")
        mlflow = gr.Button("Open MLflow")
    link, compared = gr.HTML(), gr.HTML(elem_id="compared")
    servers: list[tuple[subprocess.Popen[bytes], int]] = []

    @handled
    def show() -> list[Any]:
        found = _runs(desk)
        said = "" if found else view.note("MLflow has no training of this folder yet.")
        return [gr.update(choices=[(_name(run), run.info.run_id) for run in found]), said]

    @handled
    def compare(chosen: list[str]) -> str:
        by_id = {run.info.run_id: run for run in _runs(desk)}
        return _compared(desk, [by_id[one] for one in chosen if one in by_id])

    @handled
    def open_mlflow() -> str:
        servers[:] = [one for one in servers if one[0].poll() is None]
        if not servers:
            servers.append(_start_mlflow(desk))
        address = f"http://127.0.0.1:{servers[0][1]}"
        text = f'<a href="{address}" target="_blank" rel="noopener">{address}</a>'
        return f"<p>MLflow answers at {text} in a few seconds, on this computer alone, until this page is closed.</p>"

    refresh.click(show, None, [runs, compared], api_visibility="private")
    mlflow.click(open_mlflow, None, link, api_visibility="private")
    runs.change(compare, runs, compared, api_visibility="private")
    tab.select(show, None, [runs, compared], api_visibility="private")


def _client(desk: Desk) -> Any:
    return client_of(tracking_uri(desk.workspace.root))


def _runs(desk: Desk) -> list[Any]:
    database = database_of(tracking_uri(desk.workspace.root))
    if database is not None and not database.exists():
        return []
    client = _client(desk)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=MOST_RUNS))


def _name(run: Any) -> str:
    import time

    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.start_time / 1000))
    return f"{run.info.run_name}, {began}, {run.info.status.lower()}"


def _compared(desk: Desk, runs: list[Any]) -> str:
    if len(runs) < 2:
        return view.note("Choose two trainings or more.")
    client = _client(desk)
    names = [_name(run) for run in runs]
    keys = sorted({key for run in runs for key in run.data.params})
    settings = [(key, *(run.data.params.get(key, "–") for run in runs)) for key in keys]
    differing = [row for row in settings if len(set(row[1:])) > 1]
    measured = sorted({key for run in runs for key in run.data.metrics if not key.startswith(LEFT_OUT)})
    figures = [(key, *(_figure(run.data.metrics.get(key)) for run in runs)) for key in measured]
    charts = []
    for key, title in CURVES.items():
        lines = {
            f"{number + 1}: {name}": [
                (one.step + 1, one.value) for one in client.get_metric_history(run.info.run_id, key)
            ]
            for number, (name, run) in enumerate(zip(names, runs, strict=True))
            if key in run.data.metrics
        }
        charts.append(line_chart(title, lines, "epoch"))
    parts = {(run.info.run_name or "").partition(" ")[0] for run in runs}
    text = "These are trainings of codecs and of priors: their losses cannot be compared."
    mixed = view.note(text, "warning") if len(parts) > 1 else ""
    same = view.note("All settings are the same.") if not differing else view.table(("setting", *names), differing)
    return f"{mixed}<h3>Settings that differ</h3>{same}{''.join(charts)}<h3>Figures</h3>{view.table(('figure', *names), figures)}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _start_mlflow(desk: Desk) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = page_command(desk.workspace.root, port)
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
