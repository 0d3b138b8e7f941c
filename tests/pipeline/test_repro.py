"""The pipeline as people run it: real DVC, real files. Tests work in one finished project and leave it as it was."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import soundfile
import yaml
from docs import experiments
from mlflow.tracking import MlflowClient

from distill.audio.corpus import read_manifest
from distill.codes.store import CodesReader, out_of_range, read_split
from distill.model_file.format import load_bundle
from distill.storage.tables import read_frame
from pipeline.conftest import Finished
from pipeline.project import Project, executed
from programs import ROOT, until


@pytest.fixture(scope="module")
def workplace(first_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A whole copy of the finished project."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(first_run.project.folder, folder)
    return Project(folder)


@pytest.fixture
def finished(workplace: Project, first_run: Finished) -> Iterator[Project]:
    """The finished project, which a test leaves with the bytes that it found."""
    yield workplace
    assert workplace.hashes() == first_run.hashes


def test_the_first_run_leaves_every_artefact_and_says_what_came_out(first_run: Finished) -> None:
    folder = first_run.project.folder
    rows = read_manifest(folder / "artifacts/corpus/manifest.parquet")
    assert [row.status for row in rows] == ["used"] * 8
    codes = CodesReader(folder / "artifacts/codes")
    split = {row.recording_id: row.side for row in read_split(folder / "artifacts/split/split.parquet")}
    assert set(split.values()) == {"train", "val"}
    assert {row.recording_id for row in codes.rows} == set(split)
    assert len(split) == 8
    for recording, side in split.items():
        views = [row.view for row in codes.rows if row.recording_id == recording]
        assert views == ([0] if side == "val" else [0, 1, 2])
    assert codes.config.codebook_sizes == (71, 128, 16, 127, 16, 16)
    for row in codes.rows:
        assert codes.codes(row).shape == (row.frames, 6)
        assert out_of_range(codes.codes(row), codes.config.codebook_sizes) == ""
    bundle = load_bundle(folder / "models/tiny.distill")
    assert bundle.prior is not None
    assert bundle.metadata.payload_sha256 in (folder / "models/tiny.distill.md").read_text()
    assert bundle.metadata.codec_sha256 == codes.config.codec_sha256
    assert json.loads((folder / "artifacts/vqvae/config.json").read_text())["recordings"] == len(split)
    previews = list((folder / "artifacts/vqvae/previews").glob("*_original.wav"))
    assert len(previews) == min(4, sum(side == "val" for side in split.values()))
    for said in ("held-out sound", "held-out tones", "recordings", "generated", "models/tiny.distill"):
        assert said in first_run.summary
    assert "artifacts/audition/index.html" in first_run.summary

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


@pytest.mark.filterwarnings("ignore")
def test_runs_are_in_mlflow_with_curves_and_sounds(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("distill").experiment_id])
    runs = {run.data.tags["dvc.stage"]: run for run in found}
    assert [run.info.experiment_id for run in found] == ["1", "1"]  # as docs/comparing-runs.md links to it
    assert set(runs) == {"train_vqvae", "train_prior"}
    files = {stage: {file.path for file in client.list_artifacts(run.info.run_id)} for stage, run in runs.items()}
    epochs = {"train_vqvae": [0, 1, 2], "train_prior": [1, 2]}  # this prior has no pretrained weights to keep
    for stage, run in runs.items():
        assert run.info.status == "FINISHED"
        curve = client.get_metric_history(run.info.run_id, "val_loss")
        assert [point.step for point in curve] == epochs[stage]
        history = read_frame(finished.folder / f"artifacts/{stage.removeprefix('train_')}/history.parquet", "a history")
        assert [*history["epoch"]] == epochs[stage]
        assert [*history["val_loss"]] == [point.value for point in curve]
        (best,) = client.get_metric_history(run.info.run_id, "best/val_loss")
        assert [*history["epoch"][history["is_kept"] == 1]] == [best.step]
        assert "checkpoint" in files[stage]
    figures = "mean_agreement mean_percentile_codes mean_percentile_spectra tonal_rate tonal_rate_originals"
    audited = {f"audition/{name}" for name in figures.split()}
    assert {"val_perplexity", "val_bits_per_second", "train_loss", *audited} <= set(runs["train_prior"].data.metrics)
    assert "audition" in files["train_prior"]
    codec = {"codebook/level_0/utilization", "best/tone/tonal_originals", "best/tone/tonal_decodes"}
    assert codec <= set(runs["train_vqvae"].data.metrics)
    assert "previews" in files["train_vqvae"]
    assert runs["train_prior"].data.params["hidden_size"] == "16"


def test_a_changed_parameter_reruns_what_depends_on_it_and_a_stop_file_ends_it(finished: Project) -> None:
    """The prior would train for hours; told to stop, it ends with its best weights and DVC goes on with what follows."""
    folder, before = finished.folder, finished.hashes()
    changes = ("-S", "prior.epochs=100000", "-S", "prior.patience=0", "-S", "bundle.reference=false", "--name", "long")
    process = finished.fork("dvc", "exp", "run", *changes)
    until(lambda: finished.steps("prior"), process)
    (folder / ".distill/stop").touch()
    printed, said = process.communicate()
    assert process.returncode == 0, printed + said
    assert executed(printed) == ["resolve", "train_prior", "bundle", "audition"]
    assert "stopped as asked after" in said
    assert not (folder / ".distill/stop").exists()
    metrics = json.loads((folder / "metrics/train_prior.json").read_text())
    assert metrics["stopped_as_asked"] == 1
    assert metrics["epochs_trained"] < 100_000
    after = finished.hashes()
    changed = {name for name in before if after.get(name) != before[name]}
    assert all(
        name.startswith(("artifacts/prior", "artifacts/settings", "artifacts/audition", "models", "metrics"))
        for name in changed
    )
    assert load_bundle(folder / "models/tiny.distill").reference is None
    report = json.loads((folder / "artifacts/audition/report.json").read_text())
    assert all(row["verdict"] in ("new", "close", "copy") for row in report["generated"])

    finished.set(prior={"epochs": 2, "patience": "auto"}, bundle={"reference": True})
    again = finished.dvc("repro", DISTILL_PRECISION="fp32", DISTILL_WORKERS="1")
    assert (again.returncode, executed(again.stdout)) == (0, [])  # DVC remembers the first run
    done = finished.dvc("plots", "show", "--out", "plots")
    assert done.returncode == 0, done.stderr
    assert "val_perplexity" in (folder / "plots/index.html").read_text()


def test_a_setting_of_a_tier_that_the_corpus_does_not_use_trains_nothing(finished: Project) -> None:
    tiers = yaml.safe_load((finished.folder / "params.yaml").read_text())["tiers"]
    other = {**tiers["large"], "vqvae": {**tiers["large"]["vqvae"], "dropout": 0.05}, "max_recordings": 1000}
    finished.set(tiers={"large": other})
    assert executed(finished.dvc("repro").stdout) == ["resolve"]
    finished.set(tiers={"large": tiers["large"]})
    assert executed(finished.dvc("repro").stdout) == []


@pytest.mark.filterwarnings("ignore")
def test_experiments_are_compared_as_the_page_on_it_says(finished: Project) -> None:
    """The page's commands to their end: priors in DVC's table, in its curves and in MLflow."""
    folder = finished.folder
    finished.commit()
    *trainings, show, diff, apply = experiments.commands((ROOT / experiments.PAGE).read_text())
    assert len(trainings) == 3
    widths = {words[words.index("--name") + 1]: words[-1].partition("=")[2] for words in trainings}
    left_out, _ = widths.popitem()  # a third takes as long again, and says no more
    best = {}
    for name, training in zip(widths, trainings[:-1], strict=True):
        done = finished.dvc(*training[1:])
        assert (done.returncode, executed(done.stdout)) == (0, ["resolve", "train_prior", "bundle", "audition"]), (
            done.stderr
        )
        best[name] = json.loads((folder / "metrics/train_prior.json").read_text())["val_perplexity"]

    table = finished.dvc(*show[1:], COLUMNS="100").stdout
    for name, width in widths.items():
        (row,) = (line for line in table.splitlines() if f"[{name}]" in line)
        assert (float(row.split()[-2]), row.split()[-1]) == (pytest.approx(best[name], rel=1e-3), width)
    done = finished.dvc(*(word for word in diff[1:] if word != left_out), "--json")
    (curves,) = json.loads(done.stdout)["data"][experiments.CURVES]
    assert {point["rev"] for point in curves["content"]["data"]["values"]} == {"HEAD", *widths}
    experiments.draw_curves(json.loads(done.stdout), folder / ".distill/curves.png")
    assert (folder / ".distill/curves.png").stat().st_size > 10_000

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (named,) = client.search_experiments(filter_string=f"name = 'distill in {folder}'")  # this project is a copy
    found = client.search_runs([named.experiment_id], experiments.PRIORS)
    runs = {run.data.tags["dvc.exp_name"]: run for run in found if "dvc.exp_name" in run.data.tags}
    for name in widths:
        assert f"train_prior {name}" in runs[name].info.run_name
        assert runs[name].data.metrics["best/val_perplexity"] == pytest.approx(best[name])

    done = finished.dvc(*apply[1:])
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "metrics/train_prior.json").read_text())["val_perplexity"] == best[apply[-1]]
    subprocess.run(["git", "restore", "."], cwd=folder, check=True)
    assert finished.dvc("checkout").returncode == 0  # the fixture sees that all is as before


def test_a_prior_is_trained_on_the_recordings_of_the_pipeline_without_naming_them(finished: Project) -> None:
    arguments = ("train-prior", "models/tiny.distill", "--epochs", "1", "-o", "other.distill", "--json")
    small = ("--hidden-size", "16", "--layers", "1", "--heads", "2")
    done = finished.fork("distill", *arguments, *small).end()
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["recordings"] == 8
    for name in ("other.distill", "other.distill.md"):
        (finished.folder / name).unlink()
