"""What observers show of a training: on the console, in the status files, to a callback, and in MLflow if it works."""

import json
import logging
import math
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from distill.codec.training import CodecConsole
from distill.errors import DistillError, Interrupted, ParamsError
from distill.novelty.memorization import check_memorization
from distill.prior.memory.probe import ABLATIONS, FIGURES, shortcomings
from distill.prior.training import PriorConsole
from distill.progress import EVENTS, SAID, VARIABLE, ProgressReport
from distill.training import PriorEpochMetrics, PriorMemoryMetrics, RollbackEvent, WatchMetrics
from distill.training.console import Observer, ToConsole, public_events
from distill.training.events import HOW_TO_STOP, Epoch, Start, Step, TrainingResult, VQEpochMetrics
from distill.training.mlflow_store import client_of, page_command, runs_address
from distill.training.tracking import Tracker, track_audition, track_model
from stages.mlflow_page import serve

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations are not ours

CHECK = check_memorization(1.2, 64, 12)
WATCH = WatchMetrics(8, "perplexity", 12.345, -0.031, 0.05, False, {"gates/layer_0/mean": 0.5})
ROLLBACK = RollbackEvent(9, 4, 2, False, "found train_loss nan, 3 steps in a row")
METRICS = {"train_loss": 1.0, "val_loss": 1.5, "val_perplexity": 4.5}
START = Start({"val_loss": 1.75})
EPOCH = Epoch(1, METRICS, 1e-3, 2.0, 9.0, 0.0)
PRIOR_EPOCH = PriorEpochMetrics(1, 2, 1.0, 1.5, 1.2, 1.1, *CHECK, 2.0, 1e-3)
CODEC_EPOCH = VQEpochMetrics(1, 2, 1.0, 1.5, 1.4, 0.1, 0.4, 1e-3, 1.0, 9.0, {}, ())
END = TrainingResult({}, {}, 1, METRICS, [], counts={"rollbacks": 2.0}, remarks=["one thing", "another"])
ABOUT = {"corpus.path": "sounds/bells", "corpus_sha256": "c0ffee", "recordings": 12, "sample_rate": 44100}
SHOWN = {**METRICS, "learning_rate": 1e-3, "epoch_time_s": 2.0}


@pytest.fixture(autouse=True)
def local_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_EXPERIMENT_ID",
        "DVC_EXP_NAME",
        "DVC_EXP_BASELINE_REV",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path: Path, database: Path) -> Path:
    """A project with MLflow's database."""
    shutil.copy(database, tmp_path)
    return tmp_path


def step(number: int) -> Step:
    return Step(number // 10, number, 20, 1e-3, 0.1, {"train_loss": 2.0})


def send(observer: Observer, *events: object) -> None:
    for event in events:
        observer(event)


def shown(capsys: pytest.CaptureFixture[str], kind: type[ToConsole], *events: object) -> list[str]:
    with ProgressReport("prior") as progress:
        send(kind(progress), *events)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("kind", [ToConsole, CodecConsole, PriorConsole])
def test_a_console_shows_probes_beside_the_loss_and_says_rollbacks_and_to_the_page_remarks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[ToConsole], tmp_path: Path
) -> None:
    monkeypatch.setattr("distill.progress.LINE_SECONDS", 0.0)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert shown(capsys, kind, step(7), WATCH, ROLLBACK, step(8), END) == [
        "prior 7/20 loss 2.000",
        "warning: step 9: training goes back 4 steps, rollback 2: found train_loss nan, 3 steps in a row",
        "prior 8/20 loss 2.000; probe 12.3 (-3%)",
        "prior done",
    ]
    assert (tmp_path / SAID).read_text().splitlines()[-2:] == END.remarks


def probed(**changes: float) -> dict[str, float]:
    found = {f"{name}{kind}": 0.0 for name in FIGURES for kind in (*ABLATIONS, "_absent")}
    return {**found, **dict.fromkeys(FIGURES, 0.9), "chance": 0.1, **changes}


def test_a_prior_is_warned_of_memorisation_once_and_says_what_its_memory_does_not_find(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gates, few = {"layer_0": {"mean": 0.5}}, probed(ranked=0.25)
    during = [PriorMemoryMetrics(step, gates, few if step != 1050 else {}) for step in (500, 1000, 1050)]
    memory = [*during, PriorMemoryMetrics(1200, {}, few), PriorMemoryMetrics(1200, {}, probed())]
    lines = shown(capsys, PriorConsole, *(step(20), EPOCH, PRIOR_EPOCH, PRIOR_EPOCH, *memory))
    assert lines[0] == "prior 20/20 epoch 2: loss 1.000, held-out perplexity 4.5 (best 1.0)"
    assert HOW_TO_STOP in lines[1]
    said = " ".join(" ".join(lines).split())
    assert said.count(f"warning: {CHECK.memorization_message}") == 1
    assert [step for step in (500, 1000, 1050, 1200) if f"warning: after {step} steps the memory" in said] == [
        1000,
        1200,
    ]
    assert said.count("does not do all that it should: ranked 0.25, expected at least 0.80") == 2


@pytest.mark.parametrize(
    ("figure", "value", "missed"),
    [
        ("top1", 0.25, "top1 0.25, expected at least 0.80"),
        ("in_situ", math.nan, "in_situ nan, expected at least 0.80"),
        ("top1_absent", 0.31, "top1_absent 0.31, expected at most 0.30"),
        ("ranked_ablated", 0.25, "ranked_ablated 0.25, expected at most 0.21"),
        ("top1_ablated", 0.29, ""),
        ("ranked_retrieval_ablated", 0.9, ""),  # the memories of the blocks may remember
    ],
)
def test_every_figure_of_a_probe_is_looked_at(figure: str, value: float, missed: str) -> None:
    assert "; ".join(shortcomings(probed(**{figure: value}))) == missed


def test_the_status_files_have_the_metrics_of_each_epoch_and_whether_a_prior_memorises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    send(PriorConsole(ProgressReport("prior")), START, step(1), WATCH, EPOCH, PRIOR_EPOCH, END)
    start, first, second, end = map(json.loads, (tmp_path / EVENTS).read_text().splitlines())
    assert start == {"event": "metrics", "task": "prior", "val_loss": 1.75, "epoch": -1}
    assert end == {"event": "kept", "task": "prior", "epoch": 0}
    assert first == {"event": "metrics", "task": "prior", **SHOWN, "epoch": 1}
    assert (second["event"], second["is_memorizing"]) == ("PriorEpochMetrics", True)


def test_a_callback_gets_the_public_events() -> None:
    got: list[Any] = []
    send(*public_events(got.append), START, step(1), WATCH, ROLLBACK, EPOCH, PRIOR_EPOCH, END)
    assert got == [WATCH, ROLLBACK, PRIOR_EPOCH]


def client(root: Path) -> Any:
    """MLflow's client of the store in a folder."""
    return client_of(f"sqlite:///{root / 'mlflow.db'}")


def runs_of(root: Path, experiment: str = "distill") -> list[Any]:
    """Runs of an experiment, the first one first."""
    number = client(root).get_experiment_by_name(experiment).experiment_id
    return list(client(root).search_runs([number], order_by=["start_time ASC"]))


def record(root: Path, fingerprint: str, **more: Any) -> None:
    """Record a training without events."""
    with Tracker(root, "train_prior", fingerprint, **more):
        pass


def stored(root: Path) -> tuple[Any, Any]:
    """MLflow's client of the store in a folder, and the one run in it."""
    (run,) = runs_of(root)
    return client(root), run


def test_a_run_holds_tags_params_metrics_remarks_and_artefacts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "loud-bell")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc123")
    (root / "note.txt").write_text("hello")
    with Tracker(root, "train_prior", "f00d", {"epochs": 3}, about=ABOUT) as tracker:
        send(tracker, START, step(3), step(10), WATCH, EPOCH, PRIOR_EPOCH, CODEC_EPOCH, ROLLBACK, END)
        tracker.log_best({"val_loss": 1.5, "epoch": 1}, {"codec_sha256": "beef"})
        tracker.metrics({"val_loss": 1.25, "broken": float("nan")}, 3)
        tracker.artifact(root / "note.txt", "checkpoint")
        watching = threading.enumerate()
    store, run = stored(root)
    assert run.info.status == "FINISHED"
    about = {key: str(value) for key, value in ABOUT.items()}
    assert run.data.params == {"epochs": "3", **about, "codec_sha256": "beef", "dvc.baseline_rev": "abc123"}
    (corpus,) = [one.dataset for one in run.inputs.dataset_inputs]
    assert (corpus.name, corpus.digest, json.loads(corpus.source)) == ("bells", "c0ffee", {"uri": "sounds/bells"})
    assert json.loads(corpus.profile) == {"recordings": 12, "sample_rate": 44100}
    assert any(thread.name == "SystemMetricsMonitor" for thread in watching)
    assert run.data.metrics == {
        **SHOWN,
        **{"Loss/train": 1.0, "Loss/val": 1.5, "Perplexity/val": METRICS["val_perplexity"]},
        "best/val_loss": 1.5,
        "best/epoch": 1.0,
        "val_loss": 1.25,
        "overfitting_gap": 0.4,
        "best_perplexity": 1.1,
        "gates/layer_0/mean": 0.5,
        "rollbacks": 2.0,
        "step/train_loss": 2.0,
        "step/watch_perplexity": 12.345,
        "step/watch_change": -0.031,
        "step/watch_threshold": 0.05,
    }
    expected = {"dvc.stage": "train_prior", "dvc.exp_name": "loud-bell", "dvc.baseline_rev": "abc123"}
    expected |= {"distill.fingerprint": "f00d", "distill.remarks": "one thing\nanother"}
    assert expected.items() <= run.data.tags.items()
    history = store.get_metric_history(run.info.run_id, "val_loss")
    assert [(one.step, one.value) for one in history] == [(0, 1.75), (2, 1.5), (3, 1.25)]
    (best,) = store.get_metric_history(run.info.run_id, "best/val_loss")
    assert (best.step, best.value) == (1, 1.5)  # the epoch that is kept
    assert [file.path for file in store.list_artifacts(run.info.run_id, "checkpoint")] == ["checkpoint/note.txt"]


def test_the_names_of_runs_begin_with_what_differs_from_the_first_and_was_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, named = {"batch": 1, "epochs": 3, "patience": 1}, list[str]()
    for number, (changed, experiment, expected) in enumerate(
        (
            ({}, "", "train_prior f00d0"),
            ({"epochs": 9}, "", "epochs=9 train_prior"),
            ({"batch": 2, "epochs": 9}, "loud-bell", "epochs=9 batch=2 train_prior loud-bell"),
            ({"batch": 2, "patience": 2, "recordings": 7}, "", "patience=2 recordings=7 batch=2 train_prior"),
            (dict.fromkeys("bcdef", 1), "", "b=1 c=1 d=1 e=1 … train_prior"),
            ({}, "loud-bell", "train_prior loud-bell f00d5"),
        )
    ):
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
        about = {**ABOUT, **{key: value for key, value in changed.items() if key in ABOUT}}
        params = {**settings, **{key: value for key, value in changed.items() if key not in ABOUT}}
        record(root, f"f00d{number}", params=params, about=about, derived={"batch"})
        named.append(expected)
    assert [run.info.run_name for run in runs_of(root)] == named


def test_a_run_gets_the_model_and_every_audition_of_it(root: Path) -> None:
    model, sounds = root / "demo.distill", root / "sounds"
    model.write_text("a model")
    sounds.mkdir()
    record(root, "f00d")
    for _ in range(2):
        track_model(root, "f00d", model)
    for number in range(2):
        (sounds / "one.wav").write_text(f"take {number}")
        track_audition(root, "f00d", {"new": 4.0 + number}, {"count": 2, "seed": number}, sounds)
    store, run = stored(root)
    assert [file.path for file in store.list_artifacts(run.info.run_id, "model")] == ["model/demo.distill"]
    version = store.get_model_version_by_alias("demo", "newest")
    assert (version.run_id, version.version) == (run.info.run_id, 2)
    assert Path(version.source.removeprefix("file://"), "demo.distill").read_text() == "a model"
    kept = Path(run.info.artifact_uri.removeprefix("file://"), "audition")
    assert [(kept / str(number) / "one.wav").read_text() for number in range(2)] == ["take 0", "take 1"]
    assert run.data.tags["distill.audition.1"] == "count=2 seed=1"
    assert [metric.value for metric in store.get_metric_history(run.info.run_id, "audition/new")] == [4.0, 5.0]


def test_without_a_root_or_where_it_is_not_active_nothing_is_tracked(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root of None has a store only where the environment names one."""
    monkeypatch.chdir(tmp_path)
    for root, active in ((None, True), (tmp_path, False)):
        with Tracker(root, "train_vqvae", "f00d", {"epochs": 3}, active) as tracker:
            tracker.metrics({"val_loss": 2.0}, 0)
            tracker.artifact(tmp_path)
    assert list(tmp_path.iterdir()) == []
    shutil.copy(database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with Tracker(None, "train_vqvae", "f00d", {"epochs": 3}) as tracker:
        tracker.metrics({"val_loss": 2.0}, 0)
    assert stored(tmp_path)[1].data.metrics == {"val_loss": 2.0}


def test_an_interrupted_run_is_marked_killed_and_goes_on(root: Path) -> None:
    with pytest.raises(Interrupted), Tracker(root, "train_prior", "cafe"):
        raise Interrupted("interrupted by SIGINT")
    assert stored(root)[1].info.status == "KILLED"
    record(root, "cafe")
    assert stored(root)[1].info.status == "FINISHED"


BROKEN = "this is no database, and long enough to be read as one " * 20


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_store_that_breaks_is_one_warning_and_gets_the_metrics_that_it_missed_when_it_is_back(
    root: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    store, away = root / "mlflow.db", root / "away"
    with caplog.at_level(logging.WARNING), Tracker(root, "train_vqvae", "cafe", {"a": 1}) as tracker:
        store.rename(away)
        store.write_text(BROKEN)
        for number, loss in enumerate((3.0, 2.0)):
            tracker.metrics({"loss": loss}, number)
            tracker.flush()
        away.rename(store)
        assert stored(root)[1].data.metrics == {}  # it waits
    client, run = stored(root)
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")] == [3.0, 2.0]
    assert run.info.status == "FINISHED"
    (warning,) = warnings_of(caplog)
    assert warning.startswith("MLflow tracking stopped at sqlite:///")
    assert warning.endswith("training continues without it")
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_begins_late_where_the_store_is_broken_at_first(
    tmp_path: Path, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "away"
    root.touch()
    with caplog.at_level(logging.WARNING), Tracker(root, "train_vqvae", "cafe", {"a": 1}) as tracker:
        tracker.metrics({"loss": 3.0}, 0)
        tracker.artifact(tmp_path)
        root.unlink()
        root.mkdir()
        shutil.copy(database, root)
    assert len(warnings_of(caplog)) == 1
    _, run = stored(root)
    assert (run.info.status, run.data.params, run.data.metrics) == ("FINISHED", {"a": "1"}, {"loss": 3.0})


def test_an_experiment_that_was_deleted_is_restored_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(root, "cafe")
    store, run = stored(root)
    store.delete_experiment(run.info.experiment_id)
    record(root, "f00d")
    assert [run.data.tags["distill.fingerprint"] for run in runs_of(root)] == ["cafe", "f00d"]
    (warning,) = warnings_of(caplog)
    assert warning == "MLflow: the experiment distill was deleted; it is restored with its runs, to record this one"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_database_is_made_whole_or_not_at_all(tmp_path: Path, database: Path) -> None:
    """A full disk would leave a half-made one, which nothing mends."""
    program = f"""
import resource
from pathlib import Path
from distill.training.tracking import Tracker
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with Tracker(Path({str(tmp_path)!r}), "a", "b"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.count("MLflow tracking stopped at sqlite:///") == 1
    assert list(tmp_path.iterdir()) == []
    before = database.stat().st_ino
    assert client_of(f"sqlite:///{database}").search_experiments()
    assert [(path.name, path.stat().st_ino) for path in database.parent.iterdir()] == [("mlflow.db", before)]


def test_a_project_that_was_moved_or_copied_has_an_experiment_of_its_own_and_is_told_what_shows_earlier_files(
    tmp_path: Path, database: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that the environment names is left as it is."""
    first, moved, copied = tmp_path / "a b/first", tmp_path / "Stücke 1/moved", tmp_path / "copied"

    def models(root: Path, experiment: str) -> set[str]:
        """What the model files of the runs of an experiment contain."""
        files = [
            client(root).download_artifacts(run.info.run_id, "model/tiny.distill") for run in runs_of(root, experiment)
        ]
        return {Path(file).read_text() for file in files}

    def train(root: Path, fingerprint: str) -> list[str]:
        """Train, and return the warnings. The model file is in the project."""
        caplog.clear()
        model = tmp_path / "tiny.distill"
        model.write_text(fingerprint)
        record(root, fingerprint)
        track_model(root, fingerprint, model)
        newest = client(root).get_model_version_by_alias("tiny", "newest")
        source = Path(url2pathname(urlsplit(newest.source).path))
        assert source.resolve() == root / "mlruns" / newest.run_id / "artifacts/model"
        return warnings_of(caplog)

    first.mkdir(parents=True)
    shutil.copy(database, first)
    assert train(first, "f00d") == []
    moved.parent.mkdir()
    first.rename(moved)
    page_command(moved, 5000)
    (warning,) = warnings_of(caplog)
    assert warning.endswith(f"`ln -s '{moved}' '{first}'` shows the files of earlier runs, too")
    first.symlink_to(moved)  # as it says
    page_command(moved, 5000)
    assert warnings_of(caplog) == [warning]
    first.unlink()
    assert train(moved, "cafe") == [warning]
    assert not first.exists()
    first.symlink_to(moved)
    assert (models(moved, "distill"), models(moved, f"distill in {moved}")) == ({"f00d"}, {"cafe"})
    shutil.copytree(moved, copied)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copied / 'mlflow.db'}")
    record(copied, "a11")
    assert len(client(copied).search_experiments()) == 3
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert len(train(copied, "beef")) == 1
    assert train(moved, "babe") == []
    assert (models(copied, f"distill in {copied}"), models(moved, f"distill in {moved}")) == (
        {"beef"},
        {"cafe", "babe"},
    )
    first.unlink()
    moved.rename(first)
    assert train(first, "face") == []
    assert models(first, "distill") == {"f00d", "face"}


def test_the_experiment_that_the_environment_names_is_used_by_name_and_by_id(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that the store does not have is said, and training goes on."""
    by_id = client(root).create_experiment("team-b")
    for fingerprint, name, number in (("f0", "", ""), ("f1", "team-a", ""), ("f2", "team-a", by_id)):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
        record(root, fingerprint)
    found = [
        [run.data.tags["distill.fingerprint"] for run in runs_of(root, n)] for n in ("distill", "team-a", "team-b")
    ]
    assert found == [["f0"], ["f1"], ["f2"]]
    caplog.clear()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987")
    record(root, "f3")
    (warning,) = warnings_of(caplog)
    assert "No Experiment with id=987 exists" in warning
    assert warning.endswith("training continues without it")


def test_the_address_of_the_page_is_that_of_the_table_of_the_best_once_there_is_a_run(root: Path) -> None:
    assert runs_address(root, 5001) == "http://127.0.0.1:5001"
    with Tracker(root, "train_prior", "f00d", {"a": 1}) as tracker:
        tracker.log_best({"val_bits_per_second": 9.0, "val_perplexity": 4.0, "epoch": 1}, {})
        tracker.metrics({f"audition/{verdict}": 1.0 for verdict in ("new", "close", "copies")}, 0)
    store, run = stored(root)
    number = run.info.experiment_id
    assert runs_address(root, 5001) == (
        f"http://127.0.0.1:5001/#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=best"
    )
    view = json.loads(store.get_experiment(number).tags["mlflow.sharedViewState.best"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best/val_bits_per_second`", True)
    assert {f"metrics.`{name}`" for name in run.data.metrics} == set(view["selectedColumns"])


def test_a_port_that_is_taken_and_a_store_that_mlflow_cannot_read_are_sentences(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        with pytest.raises(DistillError) as refused:
            serve()
    said = f"PORT: expected a port of 127.0.0.1 that is free, found {port} taken \\(.+\\); take another one, such as make mlflow PORT="
    assert re.match(said, str(refused.value))
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'ffffffffffff'")  # of a newer MLflow
    with pytest.raises(
        DistillError, match=r"mlflow\.db: expected a store of this version of MLflow, found: .*ffffffffffff"
    ):
        serve()
    Path("mlflow.db").write_text(BROKEN)
    with pytest.raises(
        DistillError, match=r"mlflow\.db: expected a store of this version of MLflow, found: .*not a database"
    ):
        serve()


def test_a_server_that_the_environment_names_is_named_and_no_other_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert serve() == 0
    assert capsys.readouterr().out == (
        "MLFLOW_TRACKING_URI names a server, which shows the runs itself: open http://127.0.0.1:9\n"
    )


@pytest.mark.parametrize("port", ["x", "65536"])
def test_a_wrong_port_is_a_sentence(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(ParamsError, match=f"^PORT: expected a number from 1 to 65535, found '{port}'$"):
        serve()
