"""Practice: the decoder learns from synthetic sounds alone, and goes on where it was stopped."""

from pathlib import Path

import pytest
import torch

from distill.codec import initialise as codec_start
from distill.execution import Execution
from distill.pretraining import codec as practice
from distill.pretraining.codec import pretrain_codec
from distill.progress import ProgressReport
from distill.training.fabric import make_fabric

FABRIC = make_fabric(Execution("cpu", "fp32"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, value in {
        "SOUNDS": 24,
        "HELD_OUT": 8,
        "CORPORA": 2,
        "CORPUS_SOUNDS": (8, 12),
        "STEPS_PER_EPOCH": 6,
    }.items():
        monkeypatch.setattr(practice, name, value)
    monkeypatch.setattr(practice._PretrainingTask, "steps_per_epoch", 6)
    monkeypatch.setattr(codec_start, "STARTS", tmp_path / "starts")
    return tmp_path


def test_practice_lowers_the_held_out_loss_and_leaves_a_start(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = pretrain_codec(8_000, 3, 0, FABRIC, None)
    losses = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().err.splitlines() if "held out" in line]
    assert losses[-1] < 0.95 * losses[0]
    start = small / "starts" / f"n_fft_{codec.spectrogram.n_fft}.safetensors"
    first = start.read_bytes()
    further = pretrain_codec(8_000, 1, 1, FABRIC, None)
    assert not torch.equal(further.head.weight, codec.head.weight)
    start.unlink()
    again = pretrain_codec(8_000, 3, 0, FABRIC, None)
    assert torch.equal(again.head.weight, codec.head.weight)
    assert start.read_bytes() == first


@pytest.mark.usefixtures("small")
def test_practice_goes_on_from_the_start_that_lies_there() -> None:
    with ProgressReport("practice") as progress:
        task = practice._PretrainingTask(8_000, 0, FABRIC, progress)
        with torch.no_grad():
            task.codec.head.weight.fill_(0.25)
        practice.write_pretrained(task.codec)
        again = practice._PretrainingTask(8_000, 1, FABRIC, progress)
    assert torch.equal(again.codec.head.weight, task.codec.head.weight)
