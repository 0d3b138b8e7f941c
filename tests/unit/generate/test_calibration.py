"""Calibration: sounds of the prior begin, go on and end as the recordings do."""

import signal
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from unit.tiny import prior_shape
from unit.training.coded import FABRIC, pretrained_start

from distill.codes.sequences import CodedRecording, eos_token
from distill.codes.store import Codes
from distill.errors import Interrupted
from distill.generate.calibration import ROUNDS, calibrate
from distill.generate.sampling import Sequences, follow_courses, sample_codes
from distill.prior.artifact import build_prior
from distill.prior.frame import LONGER, FramePrior, FrameShape
from distill.prior.training import fit_prior, whole_courses
from distill.split import END
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


def sampled(model: FramePrior, count: int, max_frames: int, **wanted: Any) -> list[Codes]:
    """Sounds from a seed, which follow courses where the prior has them."""
    sequences, generator = Sequences(count, max_frames, **wanted), torch.Generator().manual_seed(1)
    return sample_codes(model, sequences, generator, follow_courses(model, sequences, generator))


def ends_loud(codes: Codes) -> bool:
    return bool(codes[-1, 0] >= codes[:, 0].max() - 4)


def test_drawn_sounds_become_like_the_recordings() -> None:
    model, recordings = untrained(), decaying(60)
    before = sampled(model, 64, 24)
    reported: list[tuple[int, int]] = []
    distances = calibrate(model, recordings, 0, lambda done, total, _: reported.append((done, total)))
    after = sampled(model, 64, 24)
    assert len(distances) == ROUNDS + 1
    assert min(distances) < 0.7 * distances[0]
    assert reported == sorted(reported)
    assert reported[-1][0] <= reported[-1][1]
    assert np.mean([codes[0, 0] for codes in after]) > 1.3 * np.mean([codes[0, 0] for codes in before])
    assert np.mean([ends_loud(codes) for codes in before]) > 0.15
    assert np.mean([ends_loud(codes) for codes in after]) < 0.1
    assert model.most_frames == 16 * LONGER


def test_the_same_seed_gives_the_same_table() -> None:
    recordings, models = decaying(20), [untrained() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        calibrate(model, recordings, seed, lambda *_: None)
    one, same, other = (model.loudness_course.table for model in models)  # type: ignore[union-attr]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_sounds_follow_few_recordings() -> None:
    """Their courses are stretched by half an octave and moved by 3 dB at most; labels, lengths and prompts count."""
    model, fades, swell = untrained(), decaying(2), np.array([[5, 0], [20, 0], [40, 0], [60, 0]])
    recordings = [*fades, swell]
    model.longest.fill_(max(map(len, recordings)))
    model.begin_courses([*map(len, recordings)]).fit(recordings, [1, 1, 2])
    faded, swelled = (sampled(model, 32, 40, label=label) for label in (1, 2))
    assert {len(codes) for codes in swelled} == {3, 4, 5, 6}
    assert all(8 <= len(codes) <= 23 for codes in faded)
    assert all(61 <= codes[0, 0] <= 70 and codes[-1, 0] <= 6 for codes in faded)
    assert all(np.all(np.diff(codes[:, 0]) > 0) for codes in swelled)
    assert len({codes.tobytes() for codes in faded}) == 32
    on = sampled(model, 32, 40, label=1, prompt=fades[0][:5])
    assert all(abs(codes[0, 0] - fades[0][4, 0]) <= 8 and codes[-1, 0] <= 8 and len(codes) <= 18 for codes in on)
    model.courses.labels[0] = 0.0  # type: ignore[index,union-attr]
    assert {*range(3, 7)} < {len(codes) for codes in sampled(model, 64, 40)}  # any label
    model.courses.labels[0] = 1.0  # type: ignore[index,union-attr]
    assert {len(codes) for codes in sampled(model, 8, 6, label=1)} == {6}  # so that they end
    late = sampled(model, 8, 40, label=2, prompt=np.concatenate(fades))
    assert {len(codes) for codes in late} == {1}
    asked = sampled(model, 8, 30, natural_ending=False, label=2)
    assert all(len(codes) == 30 and np.all(np.diff(codes[:, 0]) >= 0) and codes[-1, 0] > 50 for codes in asked)


def test_up_to_few_recordings_are_followed_and_more_are_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    prior_data, settings = pretrained_start()
    cancel = threading.Event()
    cancel.set()
    for few in (len(prior_data.train), len(prior_data.train) - 1):
        monkeypatch.setattr("distill.prior.training.FEW", few)
        training = fit_prior(prior_data, settings, 0, Run(FABRIC, cancel=cancel.is_set), lambda *_: [0.5])
        shape = training.model.shape
        assert isinstance(shape, FrameShape)
        assert (
            shape.courses == [len(one.codes) for one in prior_data.train][: few if few == len(prior_data.train) else 0]
        )
        assert training.calibration == ([] if shape.courses else [0.5])


def test_a_sound_ends_before_its_course_where_the_prior_is_sure() -> None:
    model, recordings = untrained(), decaying(2)
    model.begin_courses([*map(len, recordings)]).fit(recordings, [0, 0])
    model.pointer_mixture.copy_nothing(0)
    lengths = []
    for logit in (2.0, 8.0):
        with torch.no_grad():
            model.bias[0, 0, eos_token(max(SIZES))] = logit
        lengths.append({len(codes) for codes in sampled(model, 16, 40)})
    assert min(lengths[0]) >= 8
    assert max(lengths[1]) < 8
    assert min(lengths[1]) > 1  # not while it is loud


def test_the_course_of_a_recording_goes_on_to_its_held_out_end() -> None:
    prior_data, _ = pretrained_start()
    cut = CodedRecording(prior_data.train[0].views, group="long")
    end = CodedRecording([prior_data.held_out[0].codes], group="long" + END)
    courses = whole_courses(replace(prior_data, train=[cut, *prior_data.train[1:]], held_out=[end]))
    assert courses[0][:, 0].tolist() == [*cut.codes[:, 0], *end.codes[:, 0]]
    assert courses[1][:, 0].tolist() == prior_data.train[1].codes[:, 0].tolist()


def test_an_interrupted_calibration_says_what_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.prior.training.FEW", 0)
    interruption = Interruption()
    prior_data, settings = pretrained_start()

    def stop(*_: object) -> None:
        interruption.signal = signal.SIGINT

    run = Run(FABRIC, interruption=interruption, console=stop)  # type: ignore[arg-type]
    with pytest.raises(
        Interrupted, match="interrupted by SIGINT: training is saved, the calibration is not; run the same"
    ):
        fit_prior(prior_data, settings, 0, run, calibrate)
