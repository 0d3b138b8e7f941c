"""Following: sounds have the loudness, the pitch and the beginnings of a recording, and the sound of the corpus."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.api import Model
from distill.codec.streaming import encode_each
from distill.errors import ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.following.contours import Followed, followed
from distill.generate.following.processors import follow_loudness, without_tone
from distill.generate.requests.follow import follow_request
from distill.generate.sampling.processors import SamplingStep
from distill.generate.selection.faults import Samples
from distill.novelty.reference import make_reference
from distill.novelty.scores import with_scores
from unit.pitched import RATE, networks

MELODY = (57, 60, 64, 60)
SECONDS = 0.5  # of each note


def voice(*pitches: float, vibrato: float = 0.0, gap: float = 0.05) -> Samples:
    """Sung notes of 0.5 s, with vibrato in semitones, each of which swells and ends before the next."""
    count = round(SECONDS * RATE)
    time = np.arange(count) / RATE
    envelope = np.minimum(1, time / 0.02) * np.clip((SECONDS - gap - time) / 0.03, 0, 1)
    sung = []
    for pitch in pitches:
        hertz = 440 * 2 ** ((pitch + vibrato * np.sin(2 * np.pi * 5.5 * time) - 69) / 12)
        cycles = np.cumsum(hertz) / RATE
        sung.append(
            envelope
            * sum(np.sin(2 * np.pi * k * cycles + k * k) / k for k in range(1, 12) if k * hertz.max() < RATE / 2)
        )
    return (0.3 * np.concatenate(sung)).astype(np.float32)


@cache
def course_of(vibrato: float = 0.0) -> Followed:
    codec, prior = networks()
    return followed(codec, GenerationContext(codec, prior).tuner.measure, voice(*MELODY, vibrato=vibrato))


def test_a_recording_is_cut_into_its_notes_and_has_their_pitches() -> None:
    course, (codec, _) = course_of(), networks()
    starts = np.array(course.starts[-3:]) / codec.spectrogram.frame_rate
    assert starts == pytest.approx([0.5, 1.0, 1.5], abs=1.5 / codec.spectrogram.frame_rate)
    for note, pitch in enumerate(MELODY, len(course.starts) - len(MELODY)):
        own = course.pitches[course.starts[note] : course.ends[note]]
        assert float(own.nanmedian()) == pytest.approx(pitch, abs=0.1)
    assert sum(map(course.frames, range(len(course.starts)))) == len(course.loudness)


def test_vibrato_begins_no_notes() -> None:
    assert course_of(0.5).starts == course_of().starts
    assert float(np.nanstd(course_of(0.5).pitches[5:15])) > 0.2


def test_what_is_followed_does_not_depend_on_how_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, prior = networks()
    course = course_of()
    monkeypatch.setattr("distill.generate.following.contours.CHUNK_FRAMES", 17)
    pieces = followed(codec, GenerationContext(codec, prior).tuner.measure, voice(*MELODY))
    torch.testing.assert_close(pieces.loudness, course.loudness)
    torch.testing.assert_close(pieces.envelopes, course.envelopes, equal_nan=True)
    assert pieces.starts == course.starts
    same = (pieces.pitches == course.pitches) | (pieces.pitches.isnan() & course.pitches.isnan())
    assert same.double().mean() > 0.95  # what is no tone may be decided by what lies far away


def test_sounds_have_pitch_loudness_and_length_of_what_they_follow(model: Model) -> None:
    for vibrato in (0.0, 0.5):
        sung = voice(*MELODY, vibrato=vibrato)
        made = model.generate(follow=sung, label="string", seed=1)
        assert [len(sound) for sound in made.sounds] == [len(sung)]
        wanted = course_of(vibrato)
        heard = followed(model.bundle.codec, model.tuner.measure, made.sounds[0])
        there = wanted.pitches.isfinite()
        away = (heard.pitches - wanted.pitches)[there].abs().nan_to_num(12.0)
        assert float(away.median()) < 0.15
        assert float((away < 0.5).double().mean()) > 0.9
        loud = [20 * course.loudness.clamp_min(course.loudness.max() - 2) for course in (heard, wanted)]
        assert float(torch.corrcoef(torch.stack(loud))[0, 1]) > 0.95


def test_equal_seeds_give_equal_sounds_and_others_others(model: Model) -> None:
    sung = voice(*MELODY)
    first = model.generate(n=2, follow=sung, label="string", seed=1)
    again = model.generate(n=1, follow=sung, label="string", seed=1)
    assert np.array_equal(first.codes[0], again.codes[0])
    assert np.array_equal(first.codes[0], model.follow(sung, label="string", seed=1).codes[0])
    assert not np.array_equal(first.codes[0], first.codes[1])


def test_a_loose_sound_departs_from_what_it_follows(model: Model) -> None:
    wanted = course_of()

    def distance(loose: float) -> float:
        made = model.generate(follow=voice(*MELODY), label="string", seed=1, loose=loose)
        loudness = torch.from_numpy(made.codes[0][:, 0]).double()
        own = wanted.codes_of_loudness
        return float(((loudness - own) - (loudness - own).mean()).abs().mean())

    assert distance(0.0) < distance(1.0)


def test_what_lies_beyond_the_corpus_is_moved_by_octaves_and_said(model: Model) -> None:
    high = model.generate(follow=voice(*[pitch + 24 for pitch in MELODY]), label="string", seed=1)
    assert any(remark.startswith("moved down 2 octaves, to the notes of the recordings, ") for remark in high.remarks)
    assert high.remarks[0] in high.lines([Path("a.wav")])
    assert high.json([Path("a.wav")])["remarks"] == list(high.remarks)
    heard = followed(model.bundle.codec, model.tuner.measure, high.sounds[0]).pitches
    assert float((heard - course_of().pitches).nanmedian()) == pytest.approx(0.0, abs=0.2)


def test_of_a_corpus_without_pitch_the_loudness_alone_is_followed(model: Model) -> None:
    made = model.generate(follow=voice(*MELODY), label="hiss", seed=1)
    assert made.remarks == ["few of the recordings have a pitch, so the loudness alone is followed"]
    heard, wanted = (
        course.loudness.clamp_min(course.loudness.max() - 2)
        for course in (followed(model.bundle.codec, model.tuner.measure, made.sounds[0]), course_of())
    )
    assert float(torch.corrcoef(torch.stack([heard, wanted]))[0, 1]) > 0.9


@pytest.mark.parametrize("sound", [voice(60)[:200], voice(60), 0.1 * np.random.default_rng(0).normal(size=RATE)])
def test_short_and_unpitched_sounds_are_followed(model: Model, sound: Samples) -> None:
    made = model.generate(follow=sound.astype(np.float32), seed=1)
    assert len(made.sounds[0]) == len(sound)
    assert np.isfinite(made.sounds[0]).all()


def test_silence_is_a_sentence(model: Model) -> None:
    with pytest.raises(ParamsError, match="follow: expected a sound, found silence; choose another recording"):
        model.generate(follow=np.zeros(RATE, np.float32))


def test_policies_of_what_is_followed() -> None:
    step = SamplingStep(
        0, 0, torch.arange(2), torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 4, 6, dtype=torch.long)
    )
    shares = torch.full((2, 73), 1.0)
    codes = torch.tensor([[40.0, 41.0], [50.0, math.nan]])
    exact = follow_loudness(codes, 72, 0.0)
    assert exact(shares, step).argmax(dim=1).tolist() == [40, 50]
    later = exact(shares, step._replace(frame=1))
    assert later.argmax(dim=1).tolist() == [41, 72]  # the second has ended
    near = follow_loudness(codes, 72, 0.5)(shares, step)
    assert near[0, 40] > near[0, 42] > near[0, 60]
    assert float(near[:, 72].max()) == 0.0
    tones = without_tone(torch.tensor([[True], [False]]), 0.0)(torch.full((2, 128), 1.0), step._replace(level=1))
    assert tones[0].nonzero().tolist() == [[0]]
    assert bool((tones[1] == 1).all())
    assert bool((replace(course_of(), loudness=course_of().loudness + 100).codes_of_loudness <= 70).all())


def test_a_rhythm_is_played_by_the_drums_that_it_is_like() -> None:
    """A beatbox is no drum: the darker of two kinds of hits is played by the darker label."""
    codec, prior = networks()
    time = np.arange(round(0.15 * RATE)) / RATE
    thud = 0.3 * np.sin(2 * np.pi * 150 * time) * np.exp(-30 * time)
    hiss = 0.1 * np.diff(np.random.default_rng(0).normal(size=len(time) + 1)) * np.exp(-30 * time)
    sounds = [torch.from_numpy(gain * hit).float() for hit in (hiss, thud) for gain in (0.6, 1.0)]
    coded = [codes.numpy() for codes in encode_each(codec, sounds)]
    names = ["drums/hat/a.wav", "drums/hat/b.wav", "drums/kick/a.wav", "drums/kick/b.wav"]
    reference = with_scores(make_reference(names, coded, coded[:1]), codec)
    context = GenerationContext(codec, prior, reference, ["drums/hat", "drums/kick"])
    gap = np.zeros(round(0.2 * RATE))
    beat = np.concatenate([part for hit in (thud, hiss, hiss, thud) for part in (hit, gap)]).astype(np.float32)
    (codes,) = encode_each(codec, [torch.from_numpy(beat)])
    recorded = Recorded(beat, codes.numpy())
    request, remarks = follow_request(context, recorded, count=1, label=0)
    assert remarks[0] == "hits are played by drums/kick (2), drums/hat (2)"
    assert list(request.labels) == [2, 1, 1, 2]
    assert not request.has_pitch
    asked, _ = follow_request(context, recorded, count=1, label=1)
    assert set(asked.labels) == {1}
    without, _ = follow_request(GenerationContext(codec, prior, None, context.labels), recorded, count=1, label=0)
    assert set(without.labels) == {0}
