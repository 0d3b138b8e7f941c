"""Pre-training: the decoder learns from synthetic sounds alone, and starts from the weights that are there."""

import re
from pathlib import Path

import pytest
import torch

from distill.codec import initialise as initialise_module
from distill.execution import Execution
from distill.progress import ProgressReport
from distill.training.distributed import make_fabric
from pretraining import codec as pretraining
from pretraining.codec import pretrain_codec

FABRIC = make_fabric(Execution("cpu", "fp32"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    sizes = {"SOUNDS": 24, "HELD_OUT": 8, "CORPORA": 2, "CORPUS_SOUNDS": (8, 12), "STEPS_PER_EPOCH": 6}
    for name, value in {**sizes, "CORPUS_CODEWORDS": (64, 32), "CORPUS_LEVELS": (4, 3)}.items():
        monkeypatch.setattr(pretraining, name, value)
    monkeypatch.setattr(pretraining._PretrainingTask, "steps_per_epoch", 6)
    monkeypatch.setattr(initialise_module, "PRETRAINED", tmp_path / "pretrained")
    return tmp_path


def test_pretraining_lowers_the_held_out_loss_and_writes_the_same_weights_each_time(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = pretrain_codec(8_000, 4, 0, FABRIC, None)
    losses = [float(found) for found in re.findall(r"^epoch .*held out ([0-9.]+)", capsys.readouterr().err, re.M)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    weights = small / "pretrained" / f"n_fft_{codec.spectrogram.n_fft}.safetensors"
    first = weights.read_bytes()
    weights.unlink()
    pretrain_codec(8_000, 4, 0, FABRIC, None)
    assert weights.read_bytes() == first


@pytest.mark.usefixtures("small")
def test_pretraining_starts_from_the_weights_that_are_there() -> None:
    with ProgressReport("pretraining") as progress:
        task = pretraining._PretrainingTask(8_000, 0, FABRIC, progress)
        with torch.no_grad():
            task.codec.head.weight.fill_(0.25)
        pretraining.write_pretrained(task.codec)
        again = pretraining._PretrainingTask(8_000, 1, FABRIC, progress)
    assert torch.equal(again.codec.head.weight, task.codec.head.weight)
