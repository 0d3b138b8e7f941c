"""Pre-training of the prior: collections of recordings, codecs fitted to them, weights for any codec."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distill.codec import coordinates
from distill.execution import Execution
from distill.prior import pretrained
from distill.prior.pretrained import LABELS, is_own
from distill.storage.work import Here
from distill.training.distributed import make_fabric
from pretraining import coded_collections as collections
from pretraining import prior as pretraining
from pretraining.drums import DRUMS
from pretraining.instruments import Make, chirps, string, wind
from pretraining.prior import pretrain_prior
from pretraining.recordings import synthetic_collection
from pretraining.voices import speaking

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


@pytest.mark.parametrize("make", [*DRUMS, string, wind, chirps])
def test_no_two_takes_of_an_instrument_are_equal(make: Make) -> None:
    play = make(np.random.default_rng(0), 8_000)
    first, second = (play(np.random.default_rng(seed)) for seed in (1, 2))
    again = make(np.random.default_rng(0), 8_000)(np.random.default_rng(1))
    assert np.array_equal(first, again)
    shortest = min(len(first), len(second))
    assert not np.array_equal(first[:shortest], second[:shortest])
    assert np.isfinite(first).all()
    assert np.abs(first).max() > 0.001


def test_a_word_said_again_is_neither_equal_nor_another_word() -> None:
    say = speaking(np.random.default_rng(1), 8_000, 4)
    takes = [[say(np.random.default_rng(seed), word) for word in range(4)] for seed in range(6)]
    assert len({sounds[0].tobytes() for sounds in takes}) == 6
    for sounds in takes:
        lengths = [len(sound) for sound in sounds]
        assert lengths[3] < lengths[1] < lengths[0] < lengths[2]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    sizes = {"SAMPLE_RATES": (8_000, 16_000), "LEVELS": (2, 3, 4), "CODEBOOK_SIZES": ((4, 8), (1000, 12))}
    for name, value in {**sizes, "RECORDINGS": (4, 8), "MAX_SECONDS": 4.0, "FIT_ROUNDS": 1}.items():
        monkeypatch.setattr(collections, name, value)
    monkeypatch.setattr(pretraining, "STEPS_PER_EPOCH", 4)
    monkeypatch.setattr(pretraining._PretrainingTask, "steps_per_epoch", 4)
    monkeypatch.setattr(pretraining, "BATCH_CODES", 600)
    monkeypatch.setattr(pretraining, "HELD_OUT", COUNT)
    monkeypatch.setattr(coordinates, "PATH", tmp_path / "coordinates.safetensors")
    monkeypatch.setattr(pretrained, "PATH", tmp_path / "frame.safetensors")
    threads = torch.get_num_threads()
    collections.coded_collections(tmp_path / "collections", COUNT, 0, Here(), lambda *_: None)
    yield tmp_path
    torch.set_num_threads(threads)


def test_pretraining_lowers_its_loss_and_the_same_command_gives_the_same_bytes(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain_prior(COUNT, 5, 0, FABRIC, Here(), small)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    written = [path.read_bytes() for path in (coordinates.PATH, pretrained.PATH)]
    tensors = load_file(pretrained.PATH)
    assert LABELS in tensors
    assert not any(is_own(name) for name in tensors)
    assert all(value.dtype == torch.float16 and bool(value.isfinite().all()) for value in tensors.values())
    pretrain_prior(COUNT, 5, 0, FABRIC, Here(), small)
    assert [path.read_bytes() for path in (coordinates.PATH, pretrained.PATH)] == written


@pytest.mark.usefixtures("small")
def test_what_is_predicted_is_not_counted(small: Path) -> None:
    made = collections.coded_collections(small / "collections", COUNT, 0, Here(), lambda *_: None)
    for number, one in enumerate(made):
        for seed in range(20):
            known, others = pretraining._parted(np.random.default_rng(seed), one)
            assert sorted([*known, *others]) == list(range(len(one.recordings)))
            assert others, number
            fitted = [one.is_fitted[index] for index in known]
            assert fitted == sorted(fitted, reverse=True)
