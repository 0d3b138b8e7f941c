"""Periods: pitches of harmonic sounds at any sample rate, none of noise, and voices that glide faster than spectra tell."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.codec.scales import hertz
from distill.codec.spectral import spectrogram_config_for
from distill.codec.tones import analysis
from distill.codec.tones.analysis import VOICED, PitchAnalysis
from distill.codec.tones.atoms import PartialSet, set_partials
from distill.codec.tones.periods import VOICES
from unit.codec.tonal import RATE, padded, untrained

FRAMES = 9


def found(sound: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Pitches and shares `[VOICES.most]` of the middle frame of a sound `[N]`, which fills the windows of all."""
    whole = PitchAnalysis(spectrogram_config_for(rate))
    pitches, shares = whole.voices(sound[None], whole.margin, whole.power(sound[None]))
    assert pitches.shape == shares.shape == (FRAMES, VOICES.most)
    return pitches[FRAMES // 2], shares[FRAMES // 2]


def seconds_of(rate: int) -> Tensor:
    """Times `[N]` in seconds of the samples of so many frames and of what windows reach beyond them."""
    config = spectrogram_config_for(rate)
    return torch.arange(2 * PitchAnalysis(config).margin + FRAMES * config.samples_per_frame).double() / rate


@pytest.mark.parametrize("rate", [4_000, 8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("pitch", [38.0, 45.3, 58.0, 66.0])
def test_the_likeliest_period_is_that_of_the_pitch(rate: int, pitch: float) -> None:
    time = seconds_of(rate)
    numbers = [number for number in range(1, 8) if number * hertz(pitch) < rate / 2]
    waves = [torch.sin(2 * math.pi * number * hertz(pitch) * time) / number for number in numbers]
    pitches, shares = found(torch.stack(waves).sum(dim=0).float(), rate)
    assert float(pitches[0]) == pytest.approx(pitch, abs=0.1)
    assert float(shares[0]) > 0.9


@pytest.mark.parametrize("seed", range(8))
def test_noise_repeats_after_no_period(seed: int) -> None:
    noise = torch.randn(len(seconds_of(RATE)), generator=torch.Generator().manual_seed(seed))
    assert float(found(noise, RATE)[1].max()) < VOICED


def test_silence_has_no_period() -> None:
    assert float(found(torch.zeros(len(seconds_of(RATE))), RATE)[1].max()) < VOICED


def test_what_lies_above_the_lower_rate_does_not_repeat() -> None:
    time = seconds_of(44_100)
    hum, hiss = torch.sin(2 * math.pi * 110 * time), torch.sin(2 * math.pi * 9_000 * time)
    assert float(found((hum + 0.1 * hiss).float(), 44_100)[1][0]) > VOICED
    assert float(found((hum + 1.5 * hiss).float(), 44_100)[1][0]) < VOICED


def bass(hertz: float, rate: int, loud: Callable[[int], float], stretch: float = 0.0) -> Tensor:
    """Samples `[N]` of 0.7 s of partials below 8 kHz, each as `loud` as its number says, of a string with stiffness."""
    time, total = torch.arange(round(0.7 * rate)).double() / rate, torch.zeros(round(0.7 * rate)).double()
    for number in range(1, int(min(8000, 0.45 * rate) / hertz)):
        ratio = number * math.sqrt((1 + stretch * number**2) / (1 + stretch))
        total += loud(number) * torch.sin(2 * math.pi * (ratio * hertz * time + 0.618 * number**2))
    return (0.4 * total / total.abs().max()).float()


@torch.no_grad()
@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("loud", "stretch"),
    [
        (lambda number: 1 / number, 0.0),
        (lambda number: number % 2 / number, 0.0),
        (lambda number: (number > 1) / number, 0.0),
        (lambda number: 1 / number**1.5, 1e-4),
    ],
    ids=["sawtooth", "square", "no fundamental", "stiff string"],
)
def test_held_basses_have_their_pitch_and_octave(rate: int, loud: Callable[[int], float], stretch: float) -> None:
    codec = untrained(rate)
    for frequency in (32.7, 36.7, 41.2, 55.0):
        tones = codec.flat_features(padded(codec, bass(frequency, rate, loud, stretch)))[1]
        cents = 1200 * (hertz(codec.tone.pitches(tones)[0, 3:-4]) / frequency).log2().abs()
        assert float((cents < 50).double().mean()) > 0.95, frequency
        assert float(cents.nanmedian()) < 10, frequency


@torch.no_grad()
def test_a_set_that_fits_melted_partials_does_not_move_a_bass() -> None:
    codec = untrained(44_100)
    ratios, amplitudes = np.array([1.497, 2.995, 4.485, 5.994, 7.493]), np.array([1.0, 0.17, 0.044, 0.028, 0.019])
    set_partials(codec.tone, [PartialSet(ratios, amplitudes)], len(codec.tone.ratios) - 1)
    tones = codec.flat_features(padded(codec, bass(36.7, 44_100, lambda number: 1 / number)))[1]
    cents = 1200 * (hertz(codec.tone.pitches(tones)[0, 3:-4]) / 36.7).log2().abs()
    assert float(cents.max()) < 50


@torch.no_grad()
@pytest.mark.parametrize("frequency", [66.0, 110.0, 147.0, 220.0, 1000.0])
def test_no_bass_is_an_octave_or_more_below_a_higher_tone(frequency: float) -> None:
    codec = untrained(44_100)
    sound = bass(frequency, 44_100, lambda number: 1 / number)
    tones = codec.flat_features(padded(codec, sound))[1]
    cents = 1200 * (hertz(codec.tone.pitches(tones)[0, 3:-4]) / frequency).log2().abs()
    assert float(cents.max()) < 50


def voice(course: Tensor) -> Tensor:
    """Samples `[N]` of harmonics through three formants, in noise, of a pitch `[N]` in semitones."""
    frequency = hertz(course)
    cycles, total = frequency.cumsum(0) / RATE, torch.zeros_like(course)
    formants = ((500, 200, 1.0), (1500, 250, 0.5), (2600, 300, 0.3))
    for number in range(1, 30):
        loud = sum(
            level * torch.exp(-(((number * frequency - middle) / width) ** 2)) for middle, width, level in formants
        )
        wave = torch.sin(2 * math.pi * number * cycles + number * number)
        total += (loud + 0.02) * wave * (number * frequency < 7000)
    total += 0.1 * torch.randn(len(course), generator=torch.Generator().manual_seed(0))
    return (0.4 * total / total.abs().max()).float()


@torch.no_grad()
@pytest.mark.parametrize("slope", [-24.0, 24.0], ids=["falling", "rising"])
@pytest.mark.parametrize("pitch", [46.0, 50.0, 54.0])
def test_harmonics_of_a_voice_that_glides_are_found_by_its_periods(
    monkeypatch: pytest.MonkeyPatch, slope: float, pitch: float
) -> None:
    """Two octaves a second, as in short words: windows of spectra hold more than a semitone."""
    codec, time = untrained(), torch.arange(round(0.4 * RATE)).double() / RATE
    course = pitch + slope * (time - 0.2)
    audio, middles = padded(codec, voice(course)), course[codec.spectrogram.samples_per_frame // 2 :]

    def share() -> float:
        """Of the first ten harmonics of each frame, that a partial is near."""
        partials = codec.tone.comb(codec.flat_features(audio)[1])[0].double().clamp_min(1.0)
        pitches = middles[:: codec.spectrogram.samples_per_frame]
        harmonics = hertz(pitches[:, None]) * torch.arange(1, 11)
        cents = 1200 * (partials[: len(pitches), None] / harmonics[..., None]).log2().abs().amin(dim=2)
        return float((cents < 35)[2:-2].double().mean())

    assert share() > 0.7
    monkeypatch.setattr(analysis, "VOICED", 2.0)
    assert share() < 0.7
