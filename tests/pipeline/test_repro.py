"""The pipeline as people run it: real DVC, real files. Tests share one finished project and leave it as it was."""

import json
import time
from pathlib import Path

import soundfile
from pipeline.conftest import Finished
from pipeline.project import Project, executed, hashes

from distill.audio.corpus import read_manifest
from distill.codes.held_out import read_split
from distill.codes.store import CodesReader
from distill.model_file.format import load_bundle

AFTER_PRIOR = ["train_prior", "bundle", "audition"]


def test_the_first_run_leaves_every_artefact(finished: Project) -> None:
    folder = finished.folder
    rows = read_manifest(folder / "artifacts/corpus/manifest.parquet")
    assert [row.status for row in rows] == ["used"] * 8
    codes = CodesReader(folder / "artifacts/codes")
    assert len([row for row in codes.rows if row.view == 0]) == 8
    held_out = {row.recording_id for row in read_split(folder / "artifacts/split/split.parquet") if row.side == "val"}
    for recording in {row.recording_id for row in codes.rows}:
        views = [row.view for row in codes.rows if row.recording_id == recording]
        assert views == ([0] if recording in held_out else [0, 1, 2])
    for row in codes.rows:
        assert codes.codes(row).shape == (row.frames, 2)
        assert codes.codes(row).max() < 16
    assert {row.side for row in read_split(folder / "artifacts/split/split.parquet")} == {"train", "val"}
    bundle = load_bundle(folder / "models/tiny.distill")
    assert bundle.prior is not None
    assert bundle.metadata.payload_sha256 in (folder / "models/tiny.distill.md").read_text()
    assert bundle.metadata.codec_sha256 == codes.config.codec_sha256
    report = json.loads((folder / "artifacts/audition/report.json").read_text())
    measured = json.loads((folder / "metrics/ingest.json").read_text())
    assert (measured["sample_rate"], measured["treble_share"] > 0.05) == (44_100, True)  # these have cymbals
    for row in report["generated"]:
        samples, rate = soundfile.read(folder / "artifacts/audition" / row["file"])
        assert rate == measured["sample_rate"]
        assert abs(samples).max() <= 1
        assert row["verdict"] in {"new", "close", "copy"}
        assert (folder / "artifacts/audition" / row["picture"]).stat().st_size > 1000
    labels = [row["label"] for row in report["generated"]]
    assert len(set(labels)) == len(labels) == 2
    page = (folder / "artifacts/audition/index.html").read_text()
    assert page.count("<audio") == 2 * len(report["generated"])
    assert all(label in page for label in labels)


def test_the_summary_says_what_came_out(first_run: Finished) -> None:
    for line in ("held-out sound", "recordings", "generated", "models/tiny.distill", "artifacts/audition/index.html"):
        assert line in first_run.summary


def test_the_split_is_the_codecs_own(finished: Project) -> None:
    """Previews show held-out recordings only, and those are the prior's held-out ones."""
    split = {row.recording_id: row.side for row in read_split(finished.folder / "artifacts/split/split.parquet")}
    config = json.loads((finished.folder / "artifacts/vqvae/config.json").read_text())
    assert config["recordings"] == len(split)
    assert len(list((finished.folder / "artifacts/vqvae/previews").glob("*_original.wav"))) == min(
        4, sum(side == "val" for side in split.values())
    )


def test_a_second_run_does_nothing(finished: Project) -> None:
    done = finished.dvc("repro")
    assert done.returncode == 0
    assert executed(done) == []


def test_execution_settings_rerun_nothing(finished: Project) -> None:
    assert executed(finished.dvc("repro", DISTILL_PRECISION="fp32", DISTILL_WORKERS="1")) == []


def test_runs_are_in_mlflow_with_curves_and_sounds(finished: Project) -> None:
    script = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
runs = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
out = {}
for run in runs:
    stage = run.data.tags["dvc.stage"]
    out[stage] = {
        "status": run.info.status,
        "curve": [m.value for m in client.get_metric_history(run.info.run_id, "val_loss")],
        "metrics": sorted(run.data.metrics),
        "params": run.data.params,
        "artifacts": [f.path for f in client.list_artifacts(run.info.run_id)],
    }
print(json.dumps([len(runs), out]))
"""
    done = finished.run(str(finished.python), "-W", "ignore", "-c", script)
    assert done.returncode == 0, done.stderr
    count, runs = json.loads(done.stdout.splitlines()[-1])
    assert count == 2
    assert set(runs) == {"train_vqvae", "train_prior"}
    for run in runs.values():
        assert run["status"] == "FINISHED"
        assert len(run["curve"]) == 2
        assert "checkpoint" in run["artifacts"]
    audited = {f"audition/{name}" for name in ("mean_agreement", "mean_percentile_codes", "mean_percentile_spectra")}
    assert {"val_perplexity", "val_bits_per_second", "train_loss", *audited} <= set(runs["train_prior"]["metrics"])
    assert "audition" in runs["train_prior"]["artifacts"]
    assert "codebook/level_0/utilization" in runs["train_vqvae"]["metrics"]
    assert "previews" in runs["train_vqvae"]["artifacts"]
    assert runs["train_prior"]["params"]["hidden_size"] == "16"


def test_a_changed_parameter_reruns_what_depends_on_it_and_a_stop_file_ends_it(finished: Project) -> None:
    """The prior would train for hours; told to stop, it ends with its best weights and DVC goes on with what follows."""
    folder = finished.folder
    before = hashes(folder)
    changes = ("-S", "prior.epochs=100000", "-S", "prior.patience=0", "--name", "long")
    process = finished.start(str(finished.python), "-m", "dvc", "exp", "run", *changes)
    deadline = time.monotonic() + 120
    while not finished.steps("prior"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder / ".distill/stop").touch()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")] == AFTER_PRIOR
    assert "stopped as asked after" in output
    assert not (folder / ".distill/stop").exists()
    metrics = json.loads((folder / "metrics/train_prior.json").read_text())
    assert metrics["stopped_as_asked"] == 1
    assert metrics["epochs_trained"] < 100_000
    after = hashes(folder)
    changed = {name for name in before if after.get(name) != before[name]}
    assert all(name.startswith(("artifacts/prior", "artifacts/audition", "models", "metrics")) for name in changed)
    finished.set(prior={"epochs": 2, "patience": "auto"})
    assert executed(finished.dvc("repro")) == []  # DVC remembers the first run


def test_a_model_can_go_without_the_codes_of_its_recordings(finished: Project) -> None:
    finished.set(bundle={"reference": False})
    done = finished.dvc("repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert executed(done) == ["bundle", "audition"]
    report = json.loads((finished.folder / "artifacts/audition/report.json").read_text())
    assert all(row["verdict"] in ("new", "close", "copy") for row in report["generated"])
    asked = (
        "generate",
        "models/tiny.distill",
        "--seconds",
        "0.2",
        "--label",
        report["generated"][1]["label"],
        "--json",
    )
    made = finished.python_m("distill", *asked)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["sounds"][0]["novelty"] is None
    refused = finished.python_m("distill", *asked, "--min-novelty", "new")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "expected a model with the codes of its training recordings" in refused.stderr
    finished.set(bundle={"reference": True})
    assert executed(finished.dvc("repro")) == []


def test_plots_draw(finished: Project) -> None:
    done = finished.dvc("plots", "show", "--out", "plots")
    assert done.returncode == 0, done.stderr
    page = (finished.folder / "plots/index.html").read_text()
    assert "val_perplexity" in page


def test_the_command_line_uses_the_model(finished: Project) -> None:
    model = "models/tiny.distill"
    done = finished.python_m("distill", "inspect", model, "--json")
    assert json.loads(done.stdout)["has_prior"] is True
    arguments = ("generate", model, "-n", "2", "--seconds", "0.3", "--seed", "5", "--json", "--out")
    outputs = []
    for name in ("one", "two"):
        done = finished.python_m("distill", *arguments, name)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert [row["seconds"] for row in answer["sounds"]] == [0.3, 0.3]
        outputs.append([(finished.folder / row["file"]).read_bytes() for row in answer["sounds"]])
    assert outputs[0] == outputs[1]
    assert outputs[0][0] != outputs[0][1]


def mlflow_runs(project: Project) -> dict[str, list[list[str]]]:
    """By stage, the files below `checkpoint` of each of its runs, the newest run first."""
    script = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("distill").experiment_id
out = {}
for run in client.search_runs([experiment], order_by=["attributes.start_time DESC"]):
    files = [f.path for f in client.list_artifacts(run.info.run_id, "checkpoint")]
    out.setdefault(run.data.tags["dvc.stage"], []).append(files)
print(json.dumps(out))
"""
    done = project.run(str(project.python), "-W", "ignore", "-c", script)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_two_processes_train_a_stage_as_one(finished: Project) -> None:
    """One MLflow run, one artefact, no checkpoints left behind; and nearly the result of one process."""
    stages, log = ("train_vqvae", "train_prior"), finished.folder / ".distill/stages.jsonl"
    runs, lines = mlflow_runs(finished), len(log.read_text().splitlines())
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for stage in stages:
        metrics, artefact = finished.folder / f"metrics/{stage}.json", finished.folder / "artifacts" / stage[6:]
        original = metrics.read_text()
        done = finished.python_m(*torchrun, "-m", f"stages.{stage}")
        assert done.returncode == 0, done.stderr[-3000:]
        before, after = json.loads(original), json.loads(metrics.read_text())
        assert after["epochs_trained"] == before["epochs_trained"]
        assert abs(after["val_loss"] / before["val_loss"] - 1) < 0.1  # dropout differs
        assert {"model.safetensors", "config.json", "history.parquet"} <= {path.name for path in artefact.iterdir()}
        metrics.write_text(original)
    found = mlflow_runs(finished)
    for stage in stages:
        assert len(found[stage]) == len(runs[stage]) + 1
        assert {Path(name).name for name in found[stage][0]} == {"model.safetensors", "config.json", "history.parquet"}
    assert len(log.read_text().splitlines()) == lines + len(stages)
    assert not list((finished.folder / ".distill/checkpoints").glob("*"))
    assert finished.dvc("checkout", "--force").returncode == 0


def test_a_prior_is_trained_on_the_recordings_of_the_pipeline_without_naming_them(finished: Project) -> None:
    arguments = ("train-prior", "models/tiny.distill", "--epochs", "1", "-o", "other.distill", "--json")
    done = finished.python_m("distill", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["recordings"] == 8
    (finished.folder / "other.distill").unlink()
    (finished.folder / "other.distill.md").unlink()
