"""MLflow: what arrives when it works, and that nothing breaks when it does not."""

import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distill.errors import Interrupted
from distill.training.tracking import Tracker, client_of, make_database, page_command, tracked

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations are not ours


def client(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


@pytest.fixture(autouse=True)
def local_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_holds_tags_params_metrics_and_artefacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "loud-bell")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc123")
    file = tmp_path / "note.txt"
    file.write_text("hello")
    with tracked(tmp_path, "train_prior", "f00d", {"epochs": 3}) as tracker:
        tracker.metrics({"val_loss": 2.0, "broken": float("nan")}, 0)
        tracker.metrics({"val_loss": 1.0}, 1)
        tracker.artifact(file, "checkpoint")
        tracker.remarks(["one thing", "another"])
        tracker.remarks([])
    store = client(tmp_path)
    (run,) = store.search_runs([store.get_experiment_by_name("distill").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3"}
    assert run.data.metrics == {"val_loss": 1.0}
    expected = {"dvc.stage": "train_prior", "dvc.exp_name": "loud-bell", "dvc.baseline_rev": "abc123"}
    assert {**expected, "distill.fingerprint": "f00d"}.items() <= run.data.tags.items()
    assert run.data.tags["distill.remarks"] == "one thing\nanother"
    assert [m.value for m in store.get_metric_history(run.info.run_id, "val_loss")] == [2.0, 1.0]
    assert [f.path for f in store.list_artifacts(run.info.run_id, "checkpoint")] == ["checkpoint/note.txt"]
    later = Tracker(tmp_path, "train_prior", "f00d")
    later.resume_latest()
    later.metrics({"audition/new": 4.0}, 0)
    later.flush()
    assert store.get_run(run.info.run_id).data.metrics["audition/new"] == 4.0


def test_without_a_root_only_the_environment_names_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with tracked(None, "train_vqvae", "f00d", {"epochs": 3}) as tracker:
        tracker.metrics({"val_loss": 2.0}, 0)
        assert tracker.off
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tracked(None, "train_vqvae", "f00d", {"epochs": 3}) as tracker:
        tracker.metrics({"val_loss": 2.0}, 0)
    store = client(tmp_path)
    (run,) = store.search_runs([store.get_experiment_by_name("distill").experiment_id])
    assert run.data.metrics == {"val_loss": 2.0}


def test_an_interrupted_run_is_marked_killed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), tracked(tmp_path, "train_vqvae", "cafe", {}):
        raise Interrupted("interrupted by SIGINT")
    store = client(tmp_path)
    (run,) = store.search_runs([store.get_experiment_by_name("distill").experiment_id])
    assert run.info.status == "KILLED"


def test_a_broken_store_is_one_warning_and_training_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to be read as one " * 20)
    reached = False
    with caplog.at_level(logging.WARNING), tracked(tmp_path, "train_vqvae", "cafe", {"a": 1}) as tracker:
        tracker.metrics({"loss": 1.0}, 0)
        tracker.artifact(tmp_path)
        reached = True
    assert reached
    warnings = [record.getMessage() for record in caplog.records if record.name == "distill.training.tracking"]
    assert len(warnings) == 1
    assert "MLflow tracking stopped at sqlite:///" in warnings[0]
    assert "training continues without it" in warnings[0]


def test_a_store_that_breaks_in_the_middle_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING), tracked(tmp_path, "train_vqvae", "cafe", {"a": 1}) as tracker:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
            store.execute("DROP TABLE metrics")
        tracker.metrics({"loss": 1.0}, 0)
        tracker.flush()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("MLflow tracking stopped at sqlite:///")
    assert "Traceback" not in capfd.readouterr().err


def test_a_store_that_comes_back_gets_what_it_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, away = tmp_path / "mlflow.db", tmp_path / "away"
    note = tmp_path / "note.txt"
    note.write_text("hello")
    with caplog.at_level(logging.WARNING), tracked(tmp_path, "train_vqvae", "cafe", {"a": 1, "b": 2}) as tracker:
        store.rename(away)
        store.write_text("this is no database, and long enough to be read as one " * 20)
        tracker.metrics({"loss": 3.0}, 0)
        tracker.flush()
        tracker.artifact(note)
        tracker.remarks(["while it was away"])
        tracker.metrics({"loss": 2.0}, 1)
        tracker.flush()
        away.rename(store)
        tracker.metrics({"loss": 1.0}, 2)
        tracker.flush()
        (before,) = runs(tmp_path)
        assert before.data.metrics == {}  # it waits
        monkeypatch.setattr(tracker, "_next_try", 0.0)
        tracker.flush()
        (after,) = runs(tmp_path)
        assert after.data.metrics == {"loss": 1.0}
    (run,) = runs(tmp_path)
    history = client(tmp_path).get_metric_history(run.info.run_id, "loss")
    assert [metric.value for metric in history] == [3.0, 2.0, 1.0]
    assert (run.info.status, run.data.tags["distill.remarks"]) == ("FINISHED", "while it was away")
    assert [file.path for file in client(tmp_path).list_artifacts(run.info.run_id)] == ["note.txt"]
    warnings = [record.getMessage() for record in caplog.records if record.name == "distill.training.tracking"]
    assert [warning.split(" at ")[0] for warning in warnings] == ["MLflow tracking stopped", "MLflow tracking goes on"]


def test_a_store_that_comes_back_at_the_end_has_the_whole_run(tmp_path: Path) -> None:
    root = tmp_path / "away"
    root.touch()
    with tracked(root, "train_vqvae", "cafe", {"a": 1}) as tracker:
        tracker.metrics({"loss": 3.0}, 0)
        root.unlink()
        root.mkdir()
    (run,) = runs(root)
    assert (run.info.status, run.data.params, run.data.metrics) == ("FINISHED", {"a": "1"}, {"loss": 3.0})


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_store_that_could_not_be_made_is_made_the_next_time(tmp_path: Path) -> None:
    body = (
        "from pathlib import Path\nfrom distill.training.tracking import tracked\n"
        f"with tracked(Path({str(tmp_path)!r}), 'train_vqvae', 'cafe', {{'a': 1}}): pass"
    )
    limit = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    for prefix, warnings in ((limit, 1), ("", 0)):
        done = subprocess.run([sys.executable, "-c", prefix + body], capture_output=True, text=True, check=True)
        assert done.stderr.count("MLflow tracking stopped at sqlite:///") == warnings
        assert (tmp_path / "mlflow.db").exists() is (warnings == 0)
        assert list(tmp_path.glob(".*")) == []
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"


def runs(root: Path) -> list[Any]:
    store = client(root)
    return list(store.search_runs([store.get_experiment_by_name("distill").experiment_id]))


def test_a_tracker_that_is_not_active_sends_nothing(tmp_path: Path) -> None:
    with tracked(tmp_path, "train_prior", "f", {"a": 1}, active=False) as tracker:
        tracker.metrics({"loss": 1.0}, 0)
        tracker.artifact(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_made_whole_before_a_server_or_a_page_opens_it(
    tmp_path: Path,
) -> None:
    """MLflow's server makes it table by table, and a page that looks meanwhile would find a half-made one."""
    command = page_command(tmp_path, 5000)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        (version,) = database.execute("select version_num from alembic_version").fetchone()
        assert version
    assert f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}" in command
    before = (tmp_path / "mlflow.db").stat().st_ino
    make_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").stat().st_ino == before
    assert client_of(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_a_wrong_port_is_a_sentence(tmp_path: Path, port: str) -> None:
    command = [sys.executable, "-m", "stages.mlflow_page"]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PORT": port, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"distill: PORT: expected a number from 1 to 65535, found {port!r}\n"
    assert list(tmp_path.iterdir()) == []
