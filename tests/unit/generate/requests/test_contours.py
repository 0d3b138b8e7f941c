"""Courses: the loudness of sounds follows that of a recording, stretched and moved, whatever the prior."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distill.codes.sequences import CodedRecording, eos_token
from distill.codes.store import Codes
from distill.generate.sampling.sampler import Sequences, generators, sample_along_courses, sample_codes
from distill.prior.architectures import ARCHITECTURES, ArchitectureName
from distill.prior.artifact import build_prior
from distill.prior.base import LONGER, Prior
from distill.prior.frame import FramePrior
from distill.prior.training import whole_courses
from distill.split import END
from unit.tiny import prior_shape
from unit.training.coded import fit, pretrained_start

SIZES = (71, 36)  # the loudness has steps of 2 dB
SWELL = np.array([[5, 0], [20, 0], [40, 0], [60, 0]])
FADING, SWELLING = 1, 2  # labels


def decaying(count: int) -> list[Codes]:
    """Sounds that start loud, fall, and end when they are silent, after 12 to 16 frames."""
    rng = np.random.default_rng(0)
    sounds = []
    for _ in range(count):
        loudness = np.linspace(68, 0, rng.integers(12, 17)).round().astype(np.int64) + rng.integers(0, 3)
        sounds.append(np.stack([loudness, rng.integers(0, SIZES[1], len(loudness))], axis=1))
    return sounds


FADES = decaying(2)


def following(recordings: list[tuple[Codes, int]], architecture: ArchitectureName = "frame") -> Prior:
    """An untrained prior with courses of recordings and their labels."""
    torch.manual_seed(0)
    model = build_prior(prior_shape(architecture, codebook_sizes=SIZES, context_frames=64)).eval()
    model.longest.fill_(max(len(codes) for codes, _ in recordings))
    model.begin_courses([len(codes) for codes, _ in recordings]).fit(recordings)
    return model


def sampled(model: Prior, count: int, max_frames: int, **wanted: Any) -> list[Codes]:
    """Sounds from a seed."""
    sequences, random = Sequences(count, max_frames, **wanted), generators(range(100, 100 + count))
    return [drawn.codes for drawn in sample_along_courses(model, sequences, random)]


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def model(request: pytest.FixtureRequest) -> Prior:
    return following([*((fade, FADING) for fade in FADES), (SWELL, SWELLING)], request.param)


def test_sounds_follow_recordings_of_their_label_stretched_and_moved(model: Prior) -> None:
    """By half an octave and 3 dB at most."""
    faded, swelled = (sampled(model, 32, 40, label=label) for label in (FADING, SWELLING))
    assert {len(codes) for codes in swelled} == {3, 4, 5, 6}
    assert all(8 <= len(codes) <= 23 for codes in faded)
    assert all(61 <= codes[0, 0] <= 70 and codes[-1, 0] <= 6 for codes in faded)
    assert all(np.all(np.diff(codes[:, 0]) > 0) for codes in swelled)
    assert len({codes.tobytes() for codes in faded}) == 32
    assert model.most_frames == round(LONGER * max(map(len, FADES)))


def test_a_course_fits_what_was_asked_for(model: Prior) -> None:
    assert {len(codes) for codes in sampled(model, 8, 6, label=FADING)} == {6}  # so that they end
    asked = sampled(model, 8, 30, natural_ending=False, label=SWELLING)
    assert all(len(codes) == 30 and np.all(np.diff(codes[:, 0]) >= 0) and codes[-1, 0] > 50 for codes in asked)


def test_after_a_prompt_a_sound_goes_on_as_a_longer_recording_does(model: Prior) -> None:
    on = sampled(model, 32, 40, label=FADING, prompt=FADES[0][:5])
    assert all(abs(codes[0, 0] - FADES[0][4, 0]) <= 8 and codes[-1, 0] <= 8 and len(codes) <= 18 for codes in on)
    late = sampled(model, 8, 40, label=SWELLING, prompt=np.concatenate(FADES))
    assert {len(codes) for codes in late} == {1}
    free = Sequences(8, 30, natural_ending=False, prompt=FADES[0][:5])
    alone, along = (sample(model, free, generators(range(8))) for sample in (sample_codes, sample_along_courses))
    assert all(len(one) == 30 and np.array_equal(one, other.codes) for one, other in zip(alone, along, strict=True))


def test_without_a_label_or_a_recording_that_has_it_any_is_followed() -> None:
    for labels, asked in (((0, FADING, SWELLING), 0), ((FADING, FADING, FADING), SWELLING)):
        some = following(list(zip([*FADES, SWELL], labels, strict=True)))
        lengths = {len(codes) for codes in sampled(some, 64, 40, label=asked)}
        assert {*range(3, 7)} < lengths


def test_a_sound_ends_before_its_course_where_it_is_soft_and_the_prior_is_sure() -> None:
    model = following([(fade, 0) for fade in FADES])
    assert isinstance(model, FramePrior)
    model.pointer_mixture.copy_nothing(0)
    lengths = []
    for logit in (2.0, 8.0):
        with torch.no_grad():
            model.bias[0, 0, eos_token(max(SIZES))] = logit
        lengths.append({len(codes) for codes in sampled(model, 16, 40)})
    assert min(lengths[0]) >= 8
    assert max(lengths[1]) < 8
    assert min(lengths[1]) > 1  # not while it is loud


@pytest.mark.parametrize("most", [1000, 3])
def test_a_trained_prior_has_courses_of_its_recordings_evenly_spaced(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("distill.prior.training.MOST_COURSES", most)
    prior_data, settings = pretrained_start()
    cancel = threading.Event()
    cancel.set()
    frames = [len(recording.codes) for recording in prior_data.train]
    courses = fit(prior_data, settings, cancel_event=cancel).model.shape.courses
    assert courses == frames[:: -(-len(frames) // most)]
    assert len(courses) == min(most, len(frames))


def test_the_course_of_a_recording_goes_on_to_its_held_out_end() -> None:
    prior_data, _ = pretrained_start()
    cut = CodedRecording(prior_data.train[0].views, group="long", label=SWELLING)
    end = CodedRecording([prior_data.held_out[0].codes], group="long" + END)
    courses = whole_courses(replace(prior_data, train=[cut, *prior_data.train[1:]], held_out=[end]))
    assert courses[0][0][:, 0].tolist() == [*cut.codes[:, 0], *end.codes[:, 0]]
    assert courses[0][1] == SWELLING
    assert courses[1][0][:, 0].tolist() == prior_data.train[1].codes[:, 0].tolist()
