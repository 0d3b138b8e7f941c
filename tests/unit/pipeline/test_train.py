"""A folder to a model file in process: what is left, what is not, and that a stop in between changes nothing."""

import errno
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock, patch

import numpy as np
import pytest
import soundfile

import distill
from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.errors import ArtifactError, AudioError, Interrupted, ParamsError
from distill.execution import Execution
from distill.generate.presentation.audition import audition
from distill.model_file.build import facts
from distill.model_file.format import load_bundle, save_bundle
from distill.params import Params, default_params
from distill.pipeline.train import (
    TrainedModel,
    _with_codec_split,
    add_prior,
    train_model,
    train_prior,
    work_key,
)
from distill.pipeline.workspace import LOCK, locked, remember_corpus, workplace
from distill.prior.training import PriorTraining
from distill.storage.work import Executor
from distill.training import PriorEpochMetrics, PriorTrainingCompleteEvent
from distill.training.events import kept_weights
from distill.training.trainer import Trainer
from unit.tiny import write_model, write_tone

EXECUTION = Execution("cpu", "fp32", 2)
SECTIONS: dict[str, dict[str, Any]] = {
    "corpus": {"path": "unused", "sample_rate": 16_000},
    "vqvae": {
        **{"epochs": 3, "codebook_size": 8, "num_quantizers": 6, "hidden_size": 16, "num_layers": 1},
        **{"latent_size": 8, "crop_seconds": 0.25},
    },
    "prior": {
        **{"epochs": 3, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "depth_layers": 1, "batch_size": 2},
        "context_seconds": 0.5,
    },
    "codes": {"views": 2},
}
PARAMS = default_params(**SECTIONS)


def train(sounds: Path, model: Path, params: Params = PARAMS, **more: Any) -> TrainedModel:
    """Train a model file, with work in progress beside it."""
    return train_model(sounds, model, params, EXECUTION, Executor(2), **{"state": model.parent / "state", **more})


def add(model: Path, output: Path, sounds: Path | None, params: Params = PARAMS, **more: Any) -> PriorTraining:
    """Add a prior to a model file, with work in progress beside the output."""
    return add_prior(
        model, output, sounds, params, EXECUTION, Executor(2), **{"state": output.parent / "state", **more}
    )


def key(folder: Path, params: Params) -> str:
    return work_key("train", folder, params)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def after_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], list[int]]:
    """Lets something be done after a step of a training, and lists the steps."""

    def patch(number: int, act: Callable[[], object]) -> list[int]:
        original, steps = Trainer._train_step, list[int]()

        def stepped(trainer: Trainer[Any], epoch: int, batch: Any) -> None:
            original(trainer, epoch, batch)
            steps.append(epoch)
            if len(steps) == number:
                act()

        monkeypatch.setattr(Trainer, "_train_step", stepped)
        return steps

    return patch


@pytest.fixture(autouse=True, scope="module")
def steady() -> Iterator[None]:
    """No tracking, the same date in every file, and codecs fitted to fewer views."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.codec.initialise.VIEWS", 2)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("SOURCE_DATE_EPOCH", "0")
        yield


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(5):
        write_tone(folder / f"{number}.wav", 0.4 + 0.1 * number, pitch=200.0 * (number + 1))
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(scope="module")
def finished(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return train(sounds, tmp_path_factory.mktemp("finished") / "a.distill")


def test_the_model_is_a_codec_alone_and_nothing_else_is_left(finished: TrainedModel, sounds: Path) -> None:
    bundle = load_bundle(finished.path)
    metadata = bundle.metadata
    assert bundle.prior is None
    assert not metadata.has_prior
    assert metadata.training_config["vqvae"]["epochs"] == 3
    kept = kept_weights(finished.codec.result.best_epoch, 3)
    about = {"recordings": 5, "tier": "small", "codec_weights": kept, "written": "1970-01-01T00:00:00Z"}
    assert metadata.metadata == about
    losses = {f"{side}_{kind}loss" for side in ("train", "val") for kind in ("", "recon_", "commit_")}
    assert set(metadata.loss_curve_history) == {f"vqvae/{name}" for name in losses}
    assert len(metadata.loss_curve_history["vqvae/val_commit_loss"]) == len(finished.codec.result.history)
    assert set(metadata.codebook_health_snapshot) == {f"level_{level}" for level in range(6)}
    assert metadata.provenance.codec_fingerprint
    assert names(finished.path.parent) == ["a.distill", "a.distill.md", "state"]
    assert names(finished.path.parent / "state") == ["corpora"]
    assert [one["path"] for one in finished.corpus["rejected"]] == ["broken.wav"]
    text = json.dumps(metadata.model_dump(mode="json"))
    assert str(sounds) not in text
    assert "model-" not in text


def test_a_stop_and_a_crash_lose_nothing_and_the_same_call_under_another_name_gives_the_same_bytes(
    finished: TrainedModel, sounds: Path, tmp_path: Path, after_step: Any
) -> None:
    """The crash comes after training, before the model file: neither fit, nor training, nor measures are repeated."""
    steps = after_step(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        Interrupted, match=r"training is saved after step 3 of .*; run the same command to continue"
    ) as caught:
        train(sounds, tmp_path / "model-1.distill")
    assert caught.value.exit_code == 130
    with (
        patch("distill.codec.training.initialise") as fit,
        patch("distill.pipeline.train.bundle_artifacts", side_effect=MemoryError),
        pytest.raises(MemoryError),
    ):
        train(sounds, tmp_path / "model-2.distill")
    (checkpoints,) = (tmp_path / "state" / "checkpoints").iterdir()
    assert {name.partition("_")[0] for name in names(checkpoints)} == {"step", "fitted.safetensors", "fidelity"}
    assert not list(tmp_path.glob("*.distill"))
    measures = ("held_out_fidelity", "write_previews")
    with patch.multiple("distill.codec.training", **dict.fromkeys(measures, DEFAULT)) as repeated:
        again = train(sounds, tmp_path / "model-3.distill")
    assert not any(work.called for work in (fit, *repeated.values()))
    assert len(steps) == 3 * len(finished.codec.result.history)  # three steps an epoch, none of them twice
    assert (tmp_path / "model-3.distill").read_bytes() == finished.path.read_bytes()
    assert again.codec.metrics == finished.codec.metrics
    assert again.codec.result.remarks == finished.codec.result.remarks
    assert names(tmp_path) == ["model-3.distill", "model-3.distill.md", "state"]
    assert names(tmp_path / "state") == ["corpora"]


def test_a_model_that_something_else_wrote_meanwhile_is_not_replaced(sounds: Path, tmp_path: Path) -> None:
    model = tmp_path / "a.distill"
    with (
        patch("distill.pipeline.train.train_codec", side_effect=lambda *_: model.write_text("another model")),
        pytest.raises(
            ParamsError, match=r"a\.distill: expected no file, as when this training began, found .* with another name"
        ),
    ):
        train(sounds, model)
    assert model.read_text() == "another model"


def test_other_settings_are_other_work(sounds: Path, tmp_path: Path) -> None:
    renamed = PARAMS.model_copy(update={"bundle": PARAMS.bundle.model_copy(update={"name": "other"})})
    assert key(sounds, PARAMS) == key(sounds, renamed)
    assert key(sounds, PARAMS) != key(sounds, PARAMS.model_copy(update={"seed": 1}))
    assert key(sounds, PARAMS) != key(tmp_path, PARAMS)


def test_a_folder_that_makes_no_corpus_is_a_sentence_and_leaves_other_work_alone(tmp_path: Path) -> None:
    write_tone(tmp_path / "sounds" / "one.wav")
    (tmp_path / "state" / "train" / "other").mkdir(parents=True)
    (tmp_path / "state" / "train" / "other" / "kept").touch()
    with pytest.raises(AudioError, match=r"found 1 usable recording of 0\.3 s; at least 2 are needed"):
        train(tmp_path / "sounds", tmp_path / "a.distill")
    assert (tmp_path / "state" / "train" / "other" / "kept").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_the_same_training_twice_at_once_and_a_file_where_work_belongs_are_refused(
    sounds: Path, tmp_path: Path
) -> None:
    held = "expected no other process with the same training, found one that holds the lock"
    with workplace(tmp_path / "state" / "train" / key(sounds, PARAMS)), pytest.raises(ParamsError, match=held):
        train(sounds, tmp_path / "a.distill")
    (tmp_path / "file").touch()
    with pytest.raises(
        ParamsError, match=r"file.*: expected a folder for work in progress, found a file; move it away"
    ):
        train(sounds, tmp_path / "a.distill", state=tmp_path / "file")


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_work_goes_on_with_one_warning_where_the_drive_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    import fcntl

    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(number, os.strerror(number))))
    for _ in range(2):
        with workplace(tmp_path / "work"), locked(tmp_path / "work" / LOCK, waits=True) as is_held:
            assert is_held
        assert not (tmp_path / "work").exists()
    (warning,) = caplog.messages
    assert warning == (
        f"{tmp_path / 'work'}: expected a drive with locks, found: {os.strerror(number)}; nothing keeps two commands "
        "from changing the same files: run them one after the other"
    )
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / LOCK):
        pass


def test_codec_and_prior_in_one_go_or_one_after_the_other_are_the_same_model(
    finished: TrainedModel, sounds: Path, tmp_path: Path, after_step: Any
) -> None:
    """Also if the prior is interrupted. By default it is trained on the codec's recordings, with the codec's seed."""
    assert train(sounds, tmp_path / "a.distill", prior=True).prior is not None
    model, state = tmp_path / "b.distill", tmp_path / "other"
    model.write_bytes(finished.path.read_bytes())
    other_seed = PARAMS.model_copy(update={"seed": 9})
    after_step(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted, match="training is saved after step 2"):
        add(model, model, sounds, other_seed, state=state)
    assert model.read_bytes() == finished.path.read_bytes()
    added = add(model, model, sounds, other_seed, state=state)
    assert model.read_bytes() == (tmp_path / "a.distill").read_bytes()
    bundle = load_bundle(model)
    assert bundle.prior is not None
    assert bundle.metadata.prior_metadata is not None
    assert bundle.metadata.prior_metadata.epochs_trained == 3 == added.metrics["epochs_trained"]
    assert bundle.metadata.metadata["recordings"] == 5
    assert names(state) == ["corpora"]
    add(model, tmp_path / "c.distill", None, state=state)
    assert (tmp_path / "c.distill").read_bytes() == model.read_bytes()


def test_a_prior_takes_corpus_and_split_of_its_codec(tmp_path: Path) -> None:
    """A stereo codec without trimming, at the rate that suits its recordings: others would be refused."""
    auto = {**SECTIONS, "corpus": {"path": "unused", "trim": False}}
    given = default_params(**auto)
    assert given.corpus.sample_rate == "auto"
    (tmp_path / "wide").mkdir()
    for number in range(4):
        time = np.arange(12_000) / 48_000
        tone = np.sin(2700 * (1 + number) * time) * np.exp(-8 * time)
        tone += 0.1 * np.random.default_rng(number).standard_normal(12_000)
        both = np.stack([0.5 * tone, 0.5 * tone * (-1 if number else 1)], axis=1)  # the first one is mono
        soundfile.write(tmp_path / "wide" / f"{number}.wav", np.pad(both, ((12_000, 0), (0, 0))), 48_000)
    finished = train(tmp_path / "wide", tmp_path / "a.distill", given)
    assert (finished.corpus["channels"], finished.corpus["sample_rate"]) == ("stereo", 48_000)
    metadata = load_bundle(finished.path).metadata
    assert (metadata.is_stereo, metadata.trim) == (True, False)
    add(finished.path, tmp_path / "b.distill", None)
    bundle = load_bundle(tmp_path / "b.distill")
    assert bundle.codec.spectrogram.sample_rate == 48_000
    assert bundle.reference is not None
    images = [about.image for about in bundle.reference.side_info]
    lengths = dict(zip(bundle.reference.names, map(len, images), strict=True))
    assert lengths == {name: int(name != "0.wav") for name in lengths}
    assert bundle.metadata.metadata["stereo_recordings"] == sum(lengths.values()) > 0
    assert ("sound", "stereo by images, 48000 Hz") in facts(bundle.metadata)


@pytest.mark.parametrize("is_stereo", [True, False])
def test_settings_of_a_prior_are_those_of_its_codec(tmp_path: Path, is_stereo: bool) -> None:
    write_model(tmp_path / "a.distill")
    bundle = load_bundle(tmp_path / "a.distill")
    split = {"seed": 5, "val_fraction": 0.25, "trim": False, "stereo": is_stereo}
    metadata = bundle.metadata.model_copy(update={"training_config": {"split": split}})
    params = _with_codec_split(default_params(), replace(bundle, metadata=metadata))
    assert (params.seed, params.split.val_fraction, params.corpus.trim) == (5, 0.25, False)
    assert params.corpus.sample_rate == metadata.spectrogram_config.sample_rate
    assert params.corpus.channels == (default_params().corpus.channels if is_stereo else "mono")


def trained_paths(model: Path) -> set[str]:
    """The recordings that a model has heard."""
    reference = load_bundle(model).reference
    assert reference is not None
    return set(reference.names)


def write_plucks(path: Path, seeds: range, gain: float = 1.0) -> None:
    """Decaying tones with noise, half a second each."""
    time, parts = np.arange(8_000) / 16_000, []
    for seed in seeds:
        random = np.random.default_rng(seed)
        tone = np.sin(2 * np.pi * random.uniform(100, 900) * time) * np.exp(-random.uniform(3, 20) * time)
        parts.append(0.3 * tone + 0.2 * random.standard_normal(8_000) * np.exp(-random.uniform(5, 40) * time))
    write_audio(path, (gain * np.concatenate(parts)).astype(np.float32), 16_000)


SHORT = default_params(**{**SECTIONS, **{name: {**SECTIONS[name], "epochs": 1} for name in ("vqvae", "prior")}})
LABELLED = SHORT.model_copy(update={"corpus": SHORT.corpus.model_copy(update={"labels": "folder"})})


def test_two_recordings_are_enough(tmp_path: Path) -> None:
    for number in range(2):
        write_tone(tmp_path / "sounds" / f"{number}.wav", 0.4, pitch=200.0 * (number + 1))
    trained = train(tmp_path / "sounds", tmp_path / "a.distill", SHORT, prior=True)
    assert len(trained_paths(trained.path)) == 1


def test_one_long_recording_is_trained_on_but_for_its_end(tmp_path: Path) -> None:
    write_plucks(tmp_path / "sounds" / "take.wav", range(24))
    trained = train(tmp_path / "sounds", tmp_path / "a.distill", SHORT, prior=True)
    assert trained.codec.warnings[0] == (
        "held out: 1.2 of 12.0 s (10%, asked 20%); the end of take.wav is held out, from 10.8 s on"
    )
    assert trained.prior is not None
    assert (trained.codec.recordings, trained.prior.recordings) == (1, 1)
    model = distill.load(trained.path)
    reference = model.bundle.reference
    assert reference is not None
    rate = model.bundle.codec.spectrogram.frame_rate
    assert [len(codes) for codes in reference.codes] == [pytest.approx(10.8 * rate, abs=1)]
    assert [len(codes) for codes in reference.held_out] == [pytest.approx(1.2 * rate, abs=1)]
    ingest(tmp_path / "sounds", tmp_path / "corpus", 16_000, 0.0)
    settings = SHORT.audition.model_copy(update={"count": 1, "max_seconds": 0.5})
    measured, _ = audition(model.context, load_corpus(tmp_path / "corpus"), settings, 0, tmp_path / "audition")
    assert measured["tonal_rate_originals"] == 0


def test_no_label_is_lost_whoever_trains_with_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A prior holds out the recordings of its codec, also where the codec was trained without labels."""
    labels = ["bass", "kick", "pad", "snare"]
    for number, label in enumerate(labels):
        write_plucks(tmp_path / "sounds" / label / "1.wav", range(10 * number, 10 * number + number + 1))
    train(tmp_path / "sounds", tmp_path / "labelled.distill", LABELLED)
    add(tmp_path / "labelled.distill", tmp_path / "a.distill", tmp_path / "sounds", LABELLED)
    assert distill.load(tmp_path / "a.distill").labels == labels
    every = {f"{label}/1.wav" for label in labels}
    assert trained_paths(tmp_path / "a.distill") == every
    plain = train(tmp_path / "sounds", tmp_path / "plain.distill", SHORT).path
    capsys.readouterr()
    add(plain, tmp_path / "b.distill", tmp_path / "sounds", LABELLED)
    heard = trained_paths(tmp_path / "b.distill")
    assert heard < every
    lost = ", ".join(sorted(name.split("/")[0] for name in every - heard))
    assert (
        f"warning: labels {lost}: expected a recording of each to train on, found that the codec, which was trained "
        "without labels, holds them out; train the codec with labels, too"
    ) in capsys.readouterr().err


def test_unknown_and_changed_recordings_and_an_unknown_split_are_sentences(
    finished: TrainedModel, sounds: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.distill"
    with pytest.raises(ParamsError, match=r"expected the folder of its recordings.*name it with --data"):
        add(finished.path, output, None)
    for number in range(4):
        write_tone(tmp_path / "changed" / f"{number}.wav", 0.4, pitch=150.0 * (number + 1))
    bundle = load_bundle(finished.path)
    remember_corpus(tmp_path / "state", bundle.metadata.provenance.data_sha256, str(tmp_path / "changed"))
    with pytest.raises(ParamsError, match=r"changed: expected the training recordings of .*, found others"):
        add(finished.path, output, None)
    save_bundle(
        tmp_path / "old.distill", bundle.codec, None, bundle.metadata.model_copy(update={"training_config": {}})
    )
    with pytest.raises(
        ArtifactError, match=r"expected training_config\.split with the codec's seed and val_fraction, found none"
    ):
        add(tmp_path / "old.distill", output, sounds)
    assert not output.exists()


def test_more_levels_train_encode_decode_and_generate(sounds: Path, tmp_path: Path) -> None:
    vqvae = {**SECTIONS["vqvae"], "quality": "high", "num_quantizers": "auto", "epochs": 2}
    trained = train(sounds, tmp_path / "a.distill", default_params(**{**SECTIONS, "vqvae": vqvae}), prior=True)
    assert trained.prior is not None
    curve = [row["val_loss"] for row in trained.prior.result.history]
    assert curve[-1] < curve[0]
    model = distill.load(trained.path)
    falling = np.cumsum(np.linspace(0.2, 0.1, 8_000))  # by an octave, so that notes change
    tone = (np.sin(falling) * np.exp(-np.arange(8_000) / 800)).astype(np.float32)
    codes = model.encode(tone)
    assert codes.shape[1] == 16
    assert all(len(np.unique(codes[:, level])) > 1 for level in range(2))
    assert len(model.decode(codes)) >= len(tone)
    assert np.array_equal(codes, model.encode(tone))
    (sound,) = model.generate(n=1, seconds=0.3, seed=0).sounds
    assert np.isfinite(sound).all()
    assert len(sound)


def test_a_prior_trained_from_python_reports_saves_itself_as_the_command_does_and_can_be_cancelled(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SOURCE_DATE_EPOCH", "86400"), ("DISTILL_DEVICE", "cpu"), ("DISTILL_PRECISION", "fp32")):
        monkeypatch.setenv(name, value)
    add(finished.path, tmp_path / "a.distill", sounds, default_params(**{**SECTIONS, "codes": {}}))
    events: list[Any] = []
    training = train_prior(finished.path, sounds, PARAMS.prior_config(5), events.append)
    assert [event.epoch for event in events if isinstance(event, PriorEpochMetrics)] == [0, 1, 2]
    assert isinstance(events[-1], PriorTrainingCompleteEvent)
    assert load_bundle(finished.path).prior is None
    assert training.facts.training == PARAMS.prior_config(5)
    written = training.save(tmp_path / "b.distill")
    expected, found = (load_bundle(tmp_path / f"{name}.distill").metadata for name in "ab")
    assert written == found
    assert found.model_copy(update={"provenance": expected.provenance}) == expected  # this one has no fingerprint
    assert (tmp_path / "b.distill.md").exists()
    assert load_bundle(tmp_path / "b.distill").reference is not None
    training.save(str(tmp_path / "b.distill"), reference=False)
    assert load_bundle(tmp_path / "b.distill").reference is None

    cancel = threading.Event()
    cancel.set()
    stopped = train_prior(str(finished.path), str(sounds), PARAMS.prior_config(5), cancel_event=cancel)
    assert stopped.result.counts["stopped_as_asked"]


def test_the_date_is_all_that_differs_between_two_trainings(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (1, 2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(day * 86_400))
        add(finished.path, tmp_path / f"{day}.distill", sounds, state=tmp_path / f"state-{day}")
    one, two = (load_bundle(tmp_path / f"{day}.distill").metadata for day in (1, 2))
    assert one.metadata["written"] == "1970-01-02T00:00:00Z"
    assert one.prior_metadata is not None
    assert one.prior_metadata.training_date == one.metadata["written"]
    assert "| written | 1970-01-03" in (tmp_path / "2.distill.md").read_text()
    first, second = ((tmp_path / f"{day}.distill").read_bytes() for day in (1, 2))
    hashes = [re.findall(rb"metadata_sha256[^0-9a-f]+([0-9a-f]{64})", data)[0] for data in (first, second)]
    assert second.replace(b"1970-01-03", b"1970-01-02").replace(hashes[1], hashes[0]) == first
    assert one.payload_sha256 == two.payload_sha256
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(ParamsError, match="SOURCE_DATE_EPOCH: expected whole seconds since 1970, found 'soon'"):
        train(sounds, tmp_path / "c.distill")
    assert not (tmp_path / "state").exists()


def test_a_codec_that_is_stopped_within_its_first_epoch_makes_a_model(
    sounds: Path, tmp_path: Path, after_step: Any
) -> None:
    after_step(1, (tmp_path / "state" / "stop").touch)
    trained = train(sounds, tmp_path / "a.distill")
    assert trained.codec.result.history == []
    assert load_bundle(tmp_path / "a.distill").metadata.loss_curve_history == {}
    assert distill.load(tmp_path / "a.distill").history.empty
    assert distill.load(tmp_path / "a.distill").encode(np.zeros(4000)).shape[1] == 6
