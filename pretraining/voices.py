"""Synthetic speech and singing, to pre-train a prior on: harmonics and noise through formants that move.

Each phone of a word has targets, between which sounds move. Vowels: Peterson and Barney (1952), the means of men.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from distill.audio.synthetic_sounds import HIGHEST_SHARE, Samples, log_uniform

FRAME_SECONDS = 0.005
VOWELS = (
    (270.0, 2290.0, 3010.0),
    (390.0, 1990.0, 2550.0),
    (530.0, 1840.0, 2480.0),
    (660.0, 1720.0, 2410.0),
    (730.0, 1090.0, 2440.0),
    (570.0, 840.0, 2410.0),
    (440.0, 1020.0, 2240.0),
    (300.0, 870.0, 2240.0),
    (640.0, 1190.0, 2390.0),
    (490.0, 1350.0, 1690.0),
)
NASALS = ((250.0, 1100.0, 2200.0), (250.0, 1500.0, 2500.0))
GLIDES = (
    (300.0, 700.0, 2300.0),
    (280.0, 2200.0, 2900.0),
    (350.0, 1200.0, 1600.0),
    (360.0, 1100.0, 2700.0),
)
BANDWIDTHS = (70.0, 100.0, 150.0, 250.0, 350.0)


class _Phone(NamedTuple):
    """Targets of a phone: seconds, loudness of voice, of breath and of a band of noise (Hz), and three formants."""

    seconds: float
    voice: float
    breath: float
    hiss: float
    centre: float
    width: float
    formants: tuple[float, ...]


def _vowel(rng: Generator) -> list[_Phone]:
    targets = [
        VOWELS[int(rng.integers(len(VOWELS)))] for _ in range(2 if rng.random() < 0.3 else 1)
    ]
    seconds = log_uniform(rng, 0.06, 0.28) / len(targets)
    return [_Phone(seconds, 1.0, 0.05, 0.0, 3000.0, 1000.0, target) for target in targets]


def _consonant(rng: Generator) -> list[_Phone]:
    kind, near = rng.random(), VOWELS[int(rng.integers(len(VOWELS)))]
    if kind < 0.35:  # fricative
        is_voiced, centre = rng.random() < 0.35, log_uniform(rng, 1500, 8500)
        loud = log_uniform(rng, 0.05, 0.7)
        seconds, width = rng.uniform(0.05, 0.16), centre * rng.uniform(0.2, 0.8)
        return [_Phone(seconds, 0.25 * is_voiced, 0.0, loud, centre, width, near)]
    if kind < 0.65:  # plosive: closure, burst, breath
        is_voiced, centre = rng.random() < 0.5, log_uniform(rng, 500, 5000)
        closure = _Phone(rng.uniform(0.03, 0.09), 0.06 * is_voiced, 0.0, 0.0, centre, centre, near)
        burst = _Phone(0.012, 0.1 * is_voiced, 0.1, rng.uniform(0.2, 1), centre, 0.7 * centre, near)
        seconds = 0.01 if is_voiced else rng.uniform(0.02, 0.07)
        return [closure, burst, _Phone(seconds, 0.3 * is_voiced, 0.4, 0.05, centre, centre, near)]
    if kind < 0.82:
        target = NASALS[int(rng.integers(len(NASALS)))]
        return [_Phone(rng.uniform(0.04, 0.11), 0.45, 0.0, 0.0, 3000.0, 1000.0, target)]
    if kind < 0.94:
        target = GLIDES[int(rng.integers(len(GLIDES)))]
        return [_Phone(rng.uniform(0.04, 0.09), 0.6, 0.0, 0.0, 3000.0, 1000.0, target)]
    return [_Phone(rng.uniform(0.04, 0.09), 0.0, 0.5, 0.0, 3000.0, 1000.0, near)]


@dataclass(frozen=True)
class _Speaker:
    """Pitch in Hz and its range, size of the vocal tract, pace, breath, and the slope of the voice in dB an octave."""

    pitch: float
    melody: float
    size: float
    pace: float
    breath: float
    slope: float
    room: float

    @classmethod
    def draw(cls, rng: Generator) -> "_Speaker":
        pitch = log_uniform(rng, 80, 300)
        size = (0.9 + 0.25 * np.log2(pitch / 100) / 1.5) * rng.uniform(0.92, 1.08)
        return cls(
            pitch,
            rng.uniform(0.02, 0.25),
            float(size),
            rng.uniform(0.75, 1.4),
            log_uniform(rng, 0.2, 3),
            -rng.uniform(5, 14),
            log_uniform(rng, 0.001, 0.02),
        )


def word(rng: Generator) -> list[_Phone]:
    """Draw a word of one to four syllables."""
    phones: list[_Phone] = []
    for _ in range(int(rng.choice((1, 1, 2, 2, 3, 4)))):
        if rng.random() < 0.75:
            phones += _consonant(rng)
        phones += _vowel(rng)
        if rng.random() < 0.4:
            phones += _consonant(rng)
    return phones


def speaking(rng: Generator, sample_rate: int, count: int) -> Callable[[Generator, int], Samples]:
    """Words by one to six speakers: `play(take, number)` says word `number` once more."""
    speakers = [_Speaker.draw(rng) for _ in range(int(rng.choice((1, 1, 2, 3, 6))))]
    words = [word(rng) for _ in range(count)]
    most = int(rng.choice((1, 1, 1, 4)))

    def play(take: Generator, number: int) -> Samples:
        speaker = speakers[int(take.integers(len(speakers)))]
        said = list(words[number])
        for _ in range(int(take.integers(most))):
            said += words[int(take.integers(count))]
        return _say(take, sample_rate, speaker, said)

    return play


def singing(rng: Generator, sample_rate: int, count: int) -> Callable[[Generator, int], Samples]:
    """Held vowels of one or two singers, at several pitches, with vibrato."""
    singers = [_Speaker.draw(rng) for _ in range(int(rng.integers(1, 3)))]
    vowels = [VOWELS[int(rng.integers(len(VOWELS)))] for _ in range(count)]
    vibrato, scale = rng.uniform(0, 0.04), rng.uniform(1, 9)

    def play(take: Generator, number: int) -> Samples:
        singer = singers[int(take.integers(len(singers)))]
        pitch = singer.pitch * 2 ** (float(np.clip(take.normal(0, scale), -12, 18)) / 12)
        note = _Phone(log_uniform(take, 0.4, 3.5), 1.0, 0.1, 0.0, 3000.0, 1000.0, vowels[number])
        start = [_consonant(take)[-1]] if take.random() < 0.4 else []
        return _say(take, sample_rate, singer, [*start, note], pitch, vibrato)

    return play


def _say(
    take: Generator,
    sample_rate: int,
    speaker: _Speaker,
    phones: list[_Phone],
    pitch: float = 0.0,
    vibrato: float = 0.0,
) -> Samples:
    """Synthesise phones; `pitch` in Hz, if any, is sung."""
    pace = speaker.pace * (1.0 if pitch else take.uniform(0.88, 1.14))
    lengths = [
        max(2, round(phone.seconds * take.uniform(0.85, 1.18) / pace / FRAME_SECONDS))
        for phone in phones
    ]
    edge = int(take.integers(4, 24))
    lengths[-1] += edge
    steps = np.repeat(np.arange(len(phones)), lengths)
    values = np.array([[*phone[1:6], *phone.formants, 3500.0, 4500.0] for phone in phones])
    values[:, 5:] *= speaker.size * take.normal(1, 0.03, (len(phones), 5))
    values[:, :3] *= 10 ** (take.normal(0, 1.5, (len(phones), 1)) / 20)
    tracks = values[steps]
    tracks[-edge:, :3] *= np.exp(-np.linspace(0.2, 6, edge))[:, None]
    tracks[-1:, :3] = 0.0
    loud = 10 ** (
        np.interp(np.linspace(0, 1, len(tracks)), [0, 0.3, 1], take.uniform(-9, 0, 3)) / 20
    )
    tracks[:, :3] *= loud[:, None]
    course = np.arange(len(steps)) * FRAME_SECONDS
    for column, seconds in enumerate((0.02, 0.015, 0.008, 0.015, 0.015, *[0.045] * 5)):
        tracks[:, column] = _smoothed(tracks[:, column], seconds / pace)
    part = course / course[-1]
    if pitch:
        rate = take.uniform(4.5, 6.5)
        tune = 1 + vibrato * np.minimum(1, course / 0.4) * np.sin(2 * np.pi * rate * course)
        tune = tune * (1 - 0.06 * np.exp(-course / 0.04) * take.random())
    else:
        accent = take.uniform(0.1, 0.7)
        tune = 1 + speaker.melody * (
            np.exp(-(((part - accent) / 0.25) ** 2)) - 0.8 * part + take.normal(0, 0.3)
        )
    tune = tune * (1 + 0.006 * _smoothed(take.standard_normal(len(course)), 0.01))
    pitches = (pitch or speaker.pitch) * take.normal(1, 0.02) * tune
    return _rendered(take, sample_rate, speaker, np.maximum(pitches, 40.0), tracks)


def _smoothed(values: Samples, seconds: float) -> Samples:
    width = max(1, round(seconds / FRAME_SECONDS))
    window = np.hanning(2 * width + 3)[1:-1]
    padded = np.pad(values, width, mode="edge")
    return cast(Samples, np.convolve(padded, window / window.sum(), mode="valid"))


def _resonance(frequencies: Samples, formants: NDArray[np.float64]) -> Samples:
    """Gain `[frames, n]` of five formants `[frames, 5]` in a row, at frequencies `[n]` or `[frames, n]`."""
    gain = np.ones(np.broadcast_shapes(frequencies.shape, (len(formants), 1)))
    for formant, width in zip(formants.T, BANDWIDTHS, strict=True):
        centre = formant[:, None]
        power = (centre**2 - frequencies**2) ** 2 + (width * frequencies) ** 2
        gain = gain * centre**2 / np.sqrt(power)
    return gain


def _rendered(
    take: Generator, sample_rate: int, speaker: _Speaker, pitches: Samples, tracks: Samples
) -> Samples:
    """Samples of tracks `[frames, 10]`: voice, breath, hiss, its centre and width, formants."""
    hop = round(FRAME_SECONDS * sample_rate)
    length, frames = hop * len(tracks), np.arange(len(tracks)) * hop
    places = np.arange(length)
    cycles = np.cumsum(np.interp(places, frames, pitches)) / sample_rate
    formants = tracks[:, 5:]
    voiced = np.zeros(length)
    top = min(7000.0, HIGHEST_SHARE * sample_rate)
    orders = np.arange(1, int(top / pitches.min()) + 1)
    harmonics = pitches[:, None] * orders
    levels = _resonance(harmonics, formants) * orders ** (speaker.slope / 6.02) * (harmonics < top)
    levels *= tracks[:, :1]
    turn, wave = np.exp(2j * np.pi * cycles), np.ones(length, dtype=complex)
    for level in levels.T:
        wave = wave * turn
        voiced += np.interp(places, frames, level) * wave.imag
    frequencies = np.arange(hop + 1) * sample_rate / (2.0 * hop)
    breath = (
        _resonance(frequencies[None], formants)
        * (tracks[:, 1:2] + 0.03 * tracks[:, :1])
        * speaker.breath
    )
    centre, width = tracks[:, 3:4], tracks[:, 4:5]
    hiss = np.exp(-0.5 * ((frequencies - centre) / width) ** 2) + 0.03
    shape = 0.02 * breath + 0.35 * tracks[:, 2:3] * hiss + 0.01 * speaker.room
    noise, window = np.zeros(length + hop), np.hanning(2 * hop + 1)[:-1]
    for frame, spectrum in enumerate(shape):
        piece = np.fft.irfft(np.fft.rfft(take.standard_normal(2 * hop)) * spectrum)
        noise[frame * hop : frame * hop + 2 * hop] += window * piece
    loudest = max(1e-9, float(np.abs(voiced).max()))
    return voiced / loudest + noise[:length] * (1.0 if loudest > 1e-6 else 3.0)
