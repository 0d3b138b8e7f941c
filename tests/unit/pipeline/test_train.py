"""A folder to a model file in process: what is left, what is not, and that a stop in between changes nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit.tiny import write_tone

import distill
from distill.audio.write import write_audio
from distill.errors import ArtifactError, AudioError, Interrupted, ParamsError
from distill.execution import Execution
from distill.model_file.format import load_bundle, save_bundle
from distill.params import Params, default_params
from distill.pipeline import train as standalone
from distill.pipeline.train import TrainedModel, add_prior, train_model, train_prior, work_key
from distill.pipeline.workspace import remember_corpus
from distill.training import PriorEpochMetrics, PriorTrainingCompleteEvent
from distill.training.trainer import Trainer

EXECUTION = Execution("cpu", "fp32", 2)
SECTIONS: dict[str, dict[str, Any]] = {
    "corpus": {"path": "unused", "sample_rate": 16_000},
    "vqvae": {
        **{"epochs": 4, "codebook_size": 8, "num_quantizers": 2, "hidden_size": 16, "num_layers": 1},
        **{"latent_size": 8, "crop_seconds": 0.25},
    },
    "prior": {
        **{"epochs": 3, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "depth_layers": 1, "batch_size": 2},
        "context_seconds": 0.5,
    },
    "codes": {"views": 2},
}
PARAMS = default_params(**SECTIONS)


def key(folder: Path, params: Params) -> str:
    return work_key("train", folder, params)


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(5):
        write_tone(folder / f"{number}.wav", 0.4 + 0.1 * number, pitch=200.0 * (number + 1))
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(scope="module")
def finished(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp("finished")
    return train_model(sounds, folder / "a.distill", PARAMS, EXECUTION, state=folder / "state")


def test_the_model_is_a_codec_alone_and_nothing_else_is_left(finished: TrainedModel, sounds: Path) -> None:
    bundle = load_bundle(finished.path)
    metadata = bundle.metadata
    assert bundle.prior is None
    assert not metadata.has_prior
    assert metadata.training_config["vqvae"]["epochs"] == 4
    assert metadata.metadata == {"recordings": 5, "tier": "small"}
    losses = {f"{side}_{kind}loss" for side in ("train", "val") for kind in ("", "recon_", "commit_")}
    assert set(metadata.loss_curve_history) == {f"vqvae/{name}" for name in losses}
    assert len(metadata.loss_curve_history["vqvae/val_commit_loss"]) == len(finished.codec.result.history)
    assert set(metadata.codebook_health_snapshot) == {"level_0", "level_1"}
    assert metadata.provenance.codec_fingerprint
    assert sorted(path.name for path in finished.path.parent.iterdir()) == ["a.distill", "a.distill.md", "state"]
    assert [path.name for path in (finished.path.parent / "state").iterdir()] == ["corpora.json"]
    assert finished.corpus.rejected == 1
    assert finished.corpus.rejections[0].startswith("broken.wav: ")
    text = json.dumps(metadata.model_dump(mode="json"))
    assert str(sounds) not in text
    assert "model-" not in text


def test_a_stop_and_the_same_call_under_another_name_give_the_same_bytes(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    original = Trainer._train_step

    def interrupted(fit: Any, epoch: int, batch: Any) -> None:
        nonlocal steps
        steps += 1
        original(fit, epoch, batch)
        if steps == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(
        Interrupted, match=r"training is saved after step 3 of .*; run the same command to continue"
    ) as caught:
        train_model(sounds, tmp_path / "model-1.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert caught.value.exit_code == 130
    assert not list(tmp_path.glob("*.distill"))
    train_model(sounds, tmp_path / "model-2.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert steps == len(finished.codec.result.history)  # one step an epoch, none of them twice
    assert (tmp_path / "model-2.distill").read_bytes() == finished.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-2.distill", "model-2.distill.md", "state"]
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["corpora.json"]


def test_a_model_that_something_else_wrote_meanwhile_is_not_replaced(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._train_step

    def written_meanwhile(fit: Any, epoch: int, batch: Any) -> None:
        (tmp_path / "a.distill").write_text("another model")
        original(fit, epoch, batch)

    monkeypatch.setattr(Trainer, "_train_step", written_meanwhile)
    with pytest.raises(
        ParamsError, match=r"a\.distill: expected no file, as when this training began, found .* with another name"
    ):
        train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert (tmp_path / "a.distill").read_text() == "another model"
    monkeypatch.setattr(Trainer, "_train_step", original)
    train_model(sounds, tmp_path / "b.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert (tmp_path / "b.distill").read_bytes() == finished.path.read_bytes()


def test_a_crash_before_the_model_file_loses_nothing(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(standalone, "bundle_artifacts", crash)
        with pytest.raises(MemoryError):
            train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    (state,) = (tmp_path / "state" / "checkpoints").iterdir()
    assert [path.name for path in state.iterdir()] == ["training.safetensors"]
    train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert (tmp_path / "a.distill").read_bytes() == finished.path.read_bytes()


def test_other_settings_are_other_work(sounds: Path, tmp_path: Path) -> None:
    renamed = PARAMS.model_copy(update={"bundle": PARAMS.bundle.model_copy(update={"name": "other"})})
    assert key(sounds, PARAMS) == key(sounds, renamed)
    assert key(sounds, PARAMS) != key(sounds, PARAMS.model_copy(update={"seed": 1}))
    assert key(sounds, PARAMS) != key(tmp_path, PARAMS)


def test_a_folder_that_makes_no_corpus_is_a_sentence_and_leaves_other_work_alone(tmp_path: Path) -> None:
    write_tone(tmp_path / "sounds" / "one.wav")
    (tmp_path / "state" / "train" / "other").mkdir(parents=True)
    (tmp_path / "state" / "train" / "other" / "kept").touch()
    with pytest.raises(AudioError, match="found 1 usable recording; at least 2 are needed"):
        train_model(tmp_path / "sounds", tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert [path.name for path in (tmp_path / "state").rglob("*")] == ["train", "other", "kept"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_the_same_training_twice_at_once_is_refused(sounds: Path, tmp_path: Path) -> None:
    work = tmp_path / "state" / "train" / key(sounds, PARAMS)
    work.mkdir(parents=True)
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", script, str(work / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(
            ParamsError, match="expected no other process with the same training, found one that holds the lock"
        ):
            train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
        other.communicate("\n")


def test_a_file_where_work_belongs_is_a_sentence(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(
        ParamsError, match=r"state.*: expected a folder for work in progress, found a file; move it away"
    ):
        train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")


def test_codec_and_prior_in_one_go_or_one_after_the_other_are_the_same_model(
    finished: TrainedModel, sounds: Path, tmp_path: Path
) -> None:
    at_once = train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, prior=True, state=tmp_path / "state")
    assert at_once.prior is not None
    model = tmp_path / "b.distill"
    model.write_bytes(finished.path.read_bytes())
    added = add_prior(model, model, sounds, PARAMS, EXECUTION, tmp_path / "other")
    assert model.read_bytes() == (tmp_path / "a.distill").read_bytes()
    bundle = load_bundle(model)
    assert bundle.prior is not None
    assert bundle.metadata.has_prior
    assert bundle.metadata.prior_metadata is not None
    assert bundle.metadata.prior_metadata.epochs_trained == 3 == added.metrics["epochs_trained"]
    assert bundle.metadata.metadata["recordings"] == 5
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["corpora.json"]


def test_a_prior_is_trained_on_the_recordings_of_the_codec_by_default(
    finished: TrainedModel, sounds: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    notes = finished.path.parent / "state" / "corpora.json"
    (state / "corpora.json").write_bytes(notes.read_bytes())
    copy = tmp_path / "copy.distill"
    add_prior(finished.path, copy, None, PARAMS, EXECUTION, state)
    assert load_bundle(copy).prior is not None
    assert load_bundle(finished.path).prior is None
    again = tmp_path / "again.distill"
    add_prior(copy, again, sounds, PARAMS, EXECUTION, state)  # replaces the prior
    assert again.read_bytes() == copy.read_bytes()


def test_folders_are_labels_with_labels_folder(finished: TrainedModel, tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / "sounds" / ("low", "high")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_tone(folder / f"{number}.wav", 0.4, pitch=200.0 * (number + 1))
    labelled = PARAMS.model_copy(update={"corpus": PARAMS.corpus.model_copy(update={"labels": "folder"})})
    add_prior(finished.path, tmp_path / "a.distill", tmp_path / "sounds", labelled, EXECUTION, tmp_path / "state")
    model = distill.load(tmp_path / "a.distill")
    assert model.labels == ["high", "low"]
    assert model.bundle.reference is not None
    assert {name.split("/")[0] for name in model.bundle.reference.names} == {"high", "low"}
    made = model.generate(n=2, seconds=0.2, seed=0, label="low")
    assert all(novelty is not None and novelty.codes.nearest.endswith(".wav") for novelty in made.novelty)


def test_unknown_and_changed_recordings_are_sentences(finished: TrainedModel, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"expected the folder of its recordings.*name it with --data"):
        add_prior(finished.path, tmp_path / "a.distill", None, PARAMS, EXECUTION, tmp_path / "state")
    for number in range(4):
        write_tone(tmp_path / "changed" / f"{number}.wav", 0.4, pitch=150.0 * (number + 1))
    data_sha256 = load_bundle(finished.path).metadata.provenance.data_sha256
    remember_corpus(tmp_path / "state", data_sha256, str(tmp_path / "changed"))
    with pytest.raises(ParamsError, match=r"changed: expected the training recordings of .*, found others"):
        add_prior(finished.path, tmp_path / "a.distill", None, PARAMS, EXECUTION, tmp_path / "state")
    assert not (tmp_path / "a.distill").exists()


def test_an_interrupted_prior_goes_on_and_loses_nothing(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, model = tmp_path / "expected.distill", tmp_path / "model.distill"
    add_prior(finished.path, expected, sounds, PARAMS, EXECUTION, tmp_path / "state")
    model.write_bytes(finished.path.read_bytes())
    original, steps = Trainer._train_step, []

    def interrupted(fit: Any, epoch: int, batch: Any) -> None:
        original(fit, epoch, batch)
        steps.append(epoch)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(Interrupted, match="training is saved after step 2"):
        add_prior(model, model, sounds, PARAMS, EXECUTION, tmp_path / "state")
    assert model.read_bytes() == finished.path.read_bytes()
    add_prior(model, model, sounds, PARAMS, EXECUTION, tmp_path / "state")
    assert model.read_bytes() == expected.read_bytes()


def test_more_levels_train_encode_decode_and_generate(sounds: Path, tmp_path: Path) -> None:
    vqvae = {**SECTIONS["vqvae"], "quality": "high", "num_quantizers": "auto"}
    params = default_params(**{**SECTIONS, "vqvae": vqvae})
    trained = train_model(sounds, tmp_path / "a.distill", params, EXECUTION, prior=True, state=tmp_path / "state")
    assert trained.prior is not None
    curve = [row["val_loss"] for row in trained.prior.result.history]
    assert curve[-1] < curve[0]
    model = distill.load(trained.path)
    tone = (np.sin(np.arange(8_000) * 0.1) * np.exp(-np.arange(8_000) / 800)).astype(np.float32)
    codes = model.encode(tone)
    assert codes.shape[1] == 16
    assert all(len(np.unique(codes[:, level])) > 1 for level in range(2))
    assert len(model.decode(codes)) >= len(tone)
    again = model.encode(tone)
    assert np.array_equal(codes, again)
    (sound,) = model.generate(n=1, seconds=0.3, seed=0).sounds
    assert np.isfinite(sound).all()
    assert len(sound)


def test_the_rate_of_auto_is_that_of_the_recordings_and_a_prior_takes_the_codecs(sounds: Path, tmp_path: Path) -> None:
    """The same settings resume the same work; a later prior reads other recordings at the codec's rate."""
    auto = default_params(**{**SECTIONS, "corpus": {"path": "unused"}})
    assert auto.corpus.sample_rate == "auto"
    assert key(sounds, auto) == key(sounds, auto) != key(sounds, PARAMS)
    bright = tmp_path / "bright"
    for number in range(4):
        hiss = 0.1 * np.random.default_rng(number).standard_normal(20_000).astype(np.float32)
        write_audio(bright / f"{number}.wav", hiss, 48_000)
    model = tmp_path / "a.distill"
    trained = train_model(bright, model, auto, EXECUTION, state=tmp_path / "state")
    assert trained.corpus.sample_rate == distill.load(model).sample_rate == 48_000
    assert (
        train_model(sounds, tmp_path / "b.distill", auto, EXECUTION, state=tmp_path / "state").corpus.sample_rate
        == 24_000
    )
    add_prior(model, tmp_path / "c.distill", sounds, auto, EXECUTION, tmp_path / "state")
    assert distill.load(tmp_path / "c.distill").sample_rate == 48_000


def test_training_from_python_reports_and_can_be_cancelled(finished: TrainedModel, sounds: Path) -> None:
    config = PARAMS.prior_config(5)
    events: list[Any] = []
    training = train_prior(finished.path, sounds, config, events.append)
    assert [event.epoch for event in events if isinstance(event, PriorEpochMetrics)] == [0, 1, 2]
    assert isinstance(events[-1], PriorTrainingCompleteEvent)
    assert training.model.num_quantizers == 2
    assert load_bundle(finished.path).prior is None
    cancel = threading.Event()
    cancel.set()
    assert train_prior(str(finished.path), str(sounds), config, cancel_event=cancel).result.counts["stopped_as_asked"]


def test_a_prior_trained_from_python_saves_itself_as_the_command_does(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    one_view = default_params(**{**SECTIONS, "codes": {}})
    add_prior(finished.path, tmp_path / "a.distill", sounds, one_view, EXECUTION, tmp_path / "state", dated=True)
    monkeypatch.setenv("DISTILL_DEVICE", "cpu")
    monkeypatch.setenv("DISTILL_PRECISION", "fp32")
    training = train_prior(finished.path, sounds, PARAMS.prior_config(5))
    assert training.config == PARAMS.prior_config(5)
    assert training.metadata.training_date == "1970-01-02T00:00:00Z"
    written = training.save(tmp_path / "b.distill")
    expected, found = (load_bundle(tmp_path / f"{name}.distill").metadata for name in "ab")
    assert written == found
    changes = {"provenance": expected.provenance}  # this training has no fingerprint
    assert found.model_copy(update=changes) == expected
    assert found.prior_metadata == training.metadata
    assert (tmp_path / "b.distill.md").exists()
    assert load_bundle(tmp_path / "b.distill").reference is not None
    training.save(str(tmp_path / "b.distill"), reference=False)
    assert load_bundle(tmp_path / "b.distill").reference is None


def test_the_date_is_all_that_differs_between_two_trainings(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (1, 2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(day * 86_400))
        state = tmp_path / f"state-{day}"
        add_prior(finished.path, tmp_path / f"{day}.distill", sounds, PARAMS, EXECUTION, state, dated=True)
    one, two = (load_bundle(tmp_path / f"{day}.distill").metadata for day in (1, 2))
    assert one.metadata["written"] == "1970-01-02T00:00:00Z"
    assert one.prior_metadata is not None
    assert one.prior_metadata.training_date == one.metadata["written"]
    assert "It was written on 1970-01-03" in (tmp_path / "2.distill.md").read_text()
    text = (tmp_path / "2.distill").read_bytes().replace(b"1970-01-03", b"1970-01-02")
    assert text == (tmp_path / "1.distill").read_bytes()
    assert one.payload_sha256 == two.payload_sha256
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(
        ParamsError, match="SOURCE_DATE_EPOCH: expected a date as whole seconds since 1970, found 'soon'"
    ):
        train_model(sounds, tmp_path / "c.distill", PARAMS, EXECUTION, state=tmp_path / "state", dated=True)
    assert not (tmp_path / "state").exists()


def test_a_model_that_does_not_say_what_was_held_out_is_refused(
    finished: TrainedModel, sounds: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(finished.path)
    metadata = bundle.metadata.model_copy(update={"training_config": {}})
    save_bundle(tmp_path / "old.distill", bundle.codec, None, metadata)
    with pytest.raises(
        ArtifactError, match=r"expected training_config\.split with the codec's seed and val_fraction, found none"
    ):
        add_prior(tmp_path / "old.distill", tmp_path / "new.distill", sounds, PARAMS, EXECUTION, tmp_path / "state")


def test_held_out_recordings_are_the_codecs_own(finished: TrainedModel, sounds: Path, tmp_path: Path) -> None:
    other_seed = PARAMS.model_copy(update={"seed": 9})
    one, two = (tmp_path / name for name in ("one.distill", "two.distill"))
    add_prior(finished.path, one, sounds, PARAMS, EXECUTION, tmp_path / "state")
    add_prior(finished.path, two, sounds, other_seed, EXECUTION, tmp_path / "state")
    assert one.read_bytes() == two.read_bytes()


def test_a_codec_that_is_stopped_within_its_first_epoch_makes_a_model(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.training.interruption.POLL_SECONDS", -1.0)
    original = Trainer._train_step

    def stopped(fit: Any, epoch: int, batch: Any) -> None:
        original(fit, epoch, batch)
        (tmp_path / "state" / "stop").touch()

    monkeypatch.setattr(Trainer, "_train_step", stopped)
    trained = train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert trained.codec.result.history == []
    metadata = load_bundle(tmp_path / "a.distill").metadata
    assert metadata.loss_curve_history == {}
    assert distill.load(tmp_path / "a.distill").history.empty
    assert distill.load(tmp_path / "a.distill").encode(np.zeros(4000)).shape[1] == 2
