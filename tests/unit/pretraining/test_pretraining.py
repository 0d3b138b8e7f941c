"""Pre-training of codec and prior on synthetic sounds: the loss falls, and the same command gives the same bytes."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distill.codec import coordinates
from distill.codec import initialise as initialise_module
from distill.execution import Execution
from distill.prior import pretrained
from distill.prior.pretrained import LABELS, is_own
from distill.progress import ProgressReport
from distill.storage.work import Executor
from distill.training.distributed import make_fabric
from pretraining import codec as codec_pretraining
from pretraining import coded_collections as collections
from pretraining import prior as pretraining
from pretraining.codec import pretrain_codec
from pretraining.prior import pretrain_prior
from pretraining.recordings import synthetic_collection

FABRIC = make_fabric(Execution("cpu", "fp32"))
COUNT = 3


@pytest.mark.parametrize("seed", range(12))
def test_recordings_begin_and_end_as_recordings_do(seed: int) -> None:
    made = synthetic_collection(np.random.default_rng(seed), 8_000, 4, 8.0)
    again = synthetic_collection(np.random.default_rng(seed), 8_000, 4, 8.0)
    assert 1 <= len(made) <= 4
    for one, other in zip(made, again, strict=True):
        assert np.array_equal(one.samples, other.samples)
        assert 0.04 * 8_000 <= len(one.samples) <= 9 * 8_000
        assert np.isfinite(one.samples).all()
        assert np.abs(one.samples).max() <= 1
    assert any(np.abs(one.samples).max() > 0.05 for one in made)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    sizes = {"SAMPLE_RATES": (8_000, 16_000), "LEVELS": (6, 7, 8), "CODEBOOK_SIZES": (8, 12)}
    for name, value in {**sizes, "RECORDINGS": (4, 8), "MAX_SECONDS": 4.0, "FIT_ROUNDS": 1}.items():
        monkeypatch.setattr(collections, name, value)
    monkeypatch.setattr(pretraining, "STEPS_PER_EPOCH", 4)
    monkeypatch.setattr(pretraining._PretrainingTask, "steps_per_epoch", 4)
    monkeypatch.setattr(pretraining, "BATCH_CODES", 600)
    monkeypatch.setattr(pretraining, "HELD_OUT", COUNT)
    monkeypatch.setattr(coordinates, "PATH", tmp_path / "coordinates.safetensors")
    monkeypatch.setattr(pretrained, "PATH", tmp_path / "frame.safetensors")
    threads = torch.get_num_threads()
    collections.coded_collections(tmp_path / "collections", COUNT, 0, Executor(), lambda *_: None)
    yield tmp_path
    torch.set_num_threads(threads)


def test_pretraining_lowers_its_loss_and_the_same_command_gives_the_same_bytes(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain_prior(COUNT, 5, 0, FABRIC, Executor(), small)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    written = [path.read_bytes() for path in (coordinates.PATH, pretrained.PATH)]
    tensors = load_file(pretrained.PATH)
    assert LABELS in tensors
    assert not any(is_own(name) for name in tensors)
    assert all(value.dtype == torch.float16 and bool(value.isfinite().all()) for value in tensors.values())
    pretrain_prior(COUNT, 5, 0, FABRIC, Executor(), small)
    assert [path.read_bytes() for path in (coordinates.PATH, pretrained.PATH)] == written


@pytest.fixture
def small_codec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    sizes = {"SOUNDS": 24, "HELD_OUT": 8, "CORPORA": 2, "CORPUS_SOUNDS": (8, 12), "STEPS_PER_EPOCH": 6}
    for name, value in {**sizes, "CORPUS_CODEWORDS": (64, 32), "CORPUS_LEVELS": (4, 3)}.items():
        monkeypatch.setattr(codec_pretraining, name, value)
    monkeypatch.setattr(codec_pretraining._PretrainingTask, "steps_per_epoch", 6)
    monkeypatch.setattr(initialise_module, "PRETRAINED", tmp_path / "pretrained")
    return tmp_path


def test_pretraining_lowers_the_held_out_loss_and_writes_the_same_weights_each_time(
    small_codec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = pretrain_codec(8_000, 4, 0, FABRIC, None)
    losses = [float(found) for found in re.findall(r"^epoch .*held out ([0-9.]+)", capsys.readouterr().err, re.M)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    weights = small_codec / "pretrained" / f"n_fft_{codec.spectrogram.n_fft}.safetensors"
    first = weights.read_bytes()
    weights.unlink()
    pretrain_codec(8_000, 4, 0, FABRIC, None)
    assert weights.read_bytes() == first


@pytest.mark.usefixtures("small_codec")
def test_pretraining_starts_from_the_weights_that_are_there() -> None:
    with ProgressReport("pretraining") as progress:
        task = codec_pretraining._PretrainingTask(8_000, 0, FABRIC, progress)
        with torch.no_grad():
            task.codec.head.weight.fill_(0.25)
        codec_pretraining.write_pretrained(task.codec)
        again = codec_pretraining._PretrainingTask(8_000, 1, FABRIC, progress)
    assert torch.equal(again.codec.head.weight, task.codec.head.weight)
