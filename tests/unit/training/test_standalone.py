"""A folder to a model file in process: what is left, what is not, and that a stop in between changes nothing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.tiny import write_tone

from distill.bundle import load_bundle
from distill.errors import AudioError, Interrupted, ParamsError
from distill.execution import Execution
from distill.params import CorpusParams, Params, VQVAEParams
from distill.training import standalone
from distill.training.engine import Fit
from distill.training.standalone import TrainedModel, train_model

EXECUTION = Execution("cpu", "fp32", 2)
TINY = VQVAEParams(
    epochs=4, codebook_size=8, num_quantizers=2, hidden_size=16, num_layers=1, latent_size=8, crop_seconds=0.25
)
PARAMS = Params(corpus=CorpusParams(path="unused", sample_rate=16_000), vqvae=TINY)


def key(folder: Path, params: Params) -> str:
    return standalone._key("train", os.fsencode(folder.resolve()).hex(), params)


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


def test_the_model_is_a_codec_alone_and_nothing_else_is_left(finished: TrainedModel) -> None:
    bundle = load_bundle(finished.path)
    metadata = bundle.metadata
    assert bundle.prior is None
    assert metadata.version == [2, 0]
    assert not metadata.has_prior
    assert metadata.training_config["vqvae"]["epochs"] == 4
    assert metadata.metadata == {"recordings": 5}
    assert len(metadata.loss_curve_history["vqvae/val_loss"]) == len(finished.codec.training.fit.history)
    assert set(metadata.codebook_health_snapshot) == {"level_0", "level_1"}
    assert metadata.provenance.codec_fingerprint
    assert sorted(path.name for path in finished.path.parent.iterdir()) == ["a.distill", "state"]
    assert [path.name for path in (finished.path.parent / "state").iterdir()] == ["corpora.json"]


def test_rejected_recordings_are_named(finished: TrainedModel) -> None:
    (line,) = finished.rejected
    assert line.startswith("broken.wav: ")
    assert finished.corpus.rejected == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_and_the_same_call_under_another_name_give_the_same_bytes(
    finished: TrainedModel, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    steps = 0
    original = Fit._train_step

    def interrupted(fit: Any, epoch: int, batch: Any) -> None:
        nonlocal steps
        steps += 1
        original(fit, epoch, batch)
        if steps == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(Fit, "_train_step", interrupted)
    with pytest.raises(
        Interrupted, match=r"training is saved after step 3 of .*; run the same command to go on"
    ) as caught:
        train_model(sounds, tmp_path / "model-1.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert caught.value.exit_code == code
    assert not list(tmp_path.glob("*.distill"))
    train_model(sounds, tmp_path / "model-2.distill", PARAMS, EXECUTION, state=tmp_path / "state")
    assert steps == len(finished.codec.training.fit.history)  # one step an epoch, none of them twice
    assert (tmp_path / "model-2.distill").read_bytes() == finished.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-2.distill", "state"]
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["corpora.json"]


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
    assert list(state.glob("best-*.safetensors"))
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
        with pytest.raises(ParamsError, match="found the same training at work already; wait until it ends"):
            train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")
        other.communicate("\n")


def test_a_file_where_work_belongs_is_a_sentence(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(
        ParamsError, match=r"state.*: expected a folder for work in progress, found a file; move it away"
    ):
        train_model(sounds, tmp_path / "a.distill", PARAMS, EXECUTION, state=tmp_path / "state")


def test_what_is_written_says_nothing_of_time_or_place(finished: TrainedModel, sounds: Path) -> None:
    text = json.dumps(load_bundle(finished.path).metadata.model_dump(mode="json"))
    assert str(sounds) not in text
    assert "model-" not in text
