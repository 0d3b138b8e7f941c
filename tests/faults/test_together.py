"""Several commands at once, kills of DVC, and a tracking server that hangs or goes away: see `faults.together`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from faults.programs import printed_by
from mlflow.tracking import MlflowClient

from distill.training.tracking import tracked


@pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")
@pytest.mark.parametrize("work", ["pipelines", "kills", "trainings", "models"])
def test_commands_together_lose_nothing(tmp_path: Path, work: str, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes many minutes: make faults")
    printed = printed_by("faults.together", str(tmp_path), "--work", work, "--points", "6")
    assert json.loads(printed)["wrong"] == []


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_never_answers_is_asked_at_the_start_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once more for each thing that there is to send: each time takes as long as it takes to give up."""
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    asked.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with tracked(tmp_path, "train_vqvae", "cafe", {"a": 1}) as tracker:
            for epoch in range(10):
                tracker.metrics({"loss": 1.0}, epoch)
                tracker.flush()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in asked:
        connection.close()
    assert len(asked) == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_server_that_goes_away_has_all_metrics_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("takes a minute: make faults")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    server = started(tmp_path, port)
    try:
        with tracked(tmp_path, "train_vqvae", "cafe", {"a": 1}) as tracker:
            tracker.metrics({"loss": 3.0}, 0)
            tracker.flush()
            os.killpg(server.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            began = time.monotonic()
            tracker.metrics({"loss": 2.0}, 1)
            tracker.flush()
            assert time.monotonic() - began < 60
            if how == "killed":
                server.wait()
                server = started(tmp_path, port)
            else:
                os.killpg(server.pid, signal.SIGCONT)
            tracker.metrics({"loss": 1.0}, 2)
        client = MlflowClient(tracking_uri=address)
        (run,) = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "loss")
        assert sorted({(metric.step, metric.value) for metric in history}) == [(0, 3.0), (1, 2.0), (2, 1.0)]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def started(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """MLflow's server, when it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder / 'store.db'}", "--artifacts-destination", str(folder / "kept")]
    server = subprocess.Popen([*command, *store], cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            if answer.status == 200:
                return server
        time.sleep(0.1)
    raise AssertionError("the server did not start")
