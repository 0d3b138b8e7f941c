"""Calibration: sounds of the prior begin, go on and end as the recordings do."""

import signal

import numpy as np
import pytest
import torch
from unit.tiny import prior_shape
from unit.training.coded import FABRIC, pretrained_start

from distill.codes.store import Codes
from distill.errors import Interrupted
from distill.generate.calibration import ROUNDS, calibrate
from distill.generate.sampling import Sampling, sample_codes
from distill.prior.artifact import build_prior
from distill.prior.frame import LONGER, FramePrior
from distill.prior.training import fit_prior
from distill.training.interruption import Interruption
from distill.training.run import Run

SIZES = (71, 36)  # the loudness has steps of 2 dB


def untrained() -> FramePrior:
    shape = prior_shape(codebook_sizes=SIZES, context_frames=64)
    torch.manual_seed(0)
    model = build_prior(shape).eval()
    assert isinstance(model, FramePrior)
    model.longest.fill_(16)
    return model


def decaying(count: int) -> list[Codes]:
    """Sounds that start loud, fall, and end when they are silent, after 12 to 16 frames."""
    rng = np.random.default_rng(0)
    sounds = []
    for _ in range(count):
        loudness = np.linspace(68, 0, rng.integers(12, 17)).round().astype(np.int64) + rng.integers(0, 3)
        sounds.append(np.stack([loudness, rng.integers(0, SIZES[1], len(loudness))], axis=1))
    return sounds


def ends_loud(codes: Codes) -> bool:
    return bool(codes[-1, 0] >= codes[:, 0].max() - 4)


def test_drawn_sounds_become_like_the_recordings() -> None:
    model, recordings = untrained(), decaying(60)
    before = sample_codes(model, 64, 24, 1, Sampling())
    reported: list[tuple[int, int]] = []
    distances = calibrate(model, recordings, 0, lambda done, total, _: reported.append((done, total)))
    after = sample_codes(model, 64, 24, 1, Sampling())
    assert len(distances) == ROUNDS + 1
    assert min(distances) < 0.7 * distances[0]
    assert reported == sorted(reported)
    assert reported[-1][0] <= reported[-1][1]
    assert np.mean([codes[0, 0] for codes in after]) > 1.3 * np.mean([codes[0, 0] for codes in before])
    assert np.mean([ends_loud(codes) for codes in before]) > 0.15
    assert np.mean([ends_loud(codes) for codes in after]) < 0.1
    assert model.most_frames == 16 * LONGER


@pytest.mark.parametrize(("recordings", "sounds"), [(1, 32), (3, 48), (20, 256)])
def test_few_recordings_are_calibrated_by_few_sounds(
    recordings: int, sounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def draw(_: FramePrior, count: int, *__: object, **___: object) -> list[Codes]:
        drawn.append(count)
        return decaying(count)

    monkeypatch.setattr("distill.generate.calibration.sample_codes", draw)
    calibrate(untrained(), decaying(recordings), 0, lambda *_: None)
    assert drawn == [sounds] * (ROUNDS + 1)


def test_the_same_seed_gives_the_same_table() -> None:
    recordings, models = decaying(20), [untrained() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        calibrate(model, recordings, seed, lambda *_: None)
    one, same, other = (model.loudness_course.table for model in models)  # type: ignore[union-attr]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_an_interrupted_calibration_says_what_is_saved() -> None:
    interruption = Interruption()
    prior_data, settings = pretrained_start()

    def stop(*_: object) -> None:
        interruption.signal = signal.SIGINT

    run = Run(FABRIC, interruption=interruption, console=stop)  # type: ignore[arg-type]
    with pytest.raises(
        Interrupted, match="interrupted by SIGINT: training is saved, the calibration is not; run the same"
    ):
        fit_prior(prior_data, settings, 0, run, calibrate)
