"""Synthetic collections of whole recordings, to pre-train a prior on.

A collection is what one person might have in a folder: a few instruments played at several pitches, velocities and
lengths, in one room, cut in one way; or loops, rolls, melodies or syllables. Recordings begin, decay, repeat and end as
recordings do. No recording imitates a particular one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import signal

from distill.audio.synthetic_sounds import (
    Samples,
    coloured_noise,
    frequency_modulation,
    glide,
    harmonic_wave,
    randomly_filtered,
    ringing_modes,
    sound_layer,
    struck_sound,
    synthetic_sound,
    voice_buzz,
)

MAX_SECONDS = 8.0
MIN_SECONDS = 0.04
HIGHEST_SHARE = 0.45  # of the sample rate: the highest frequency of a filter

Source = Callable[[Generator, int], Samples]


class Recording(NamedTuple):
    """Samples `[N]` and the number of its instrument, or of its word, in the collection."""

    samples: NDArray[np.float32]
    instrument: int


def synthetic_collection(rng: Generator, sample_rate: int, count: int, max_seconds: float) -> list[Recording]:
    """Synthesise up to `count` recordings of up to `max_seconds` together."""
    shares, makers = zip(*_COLLECTIONS, strict=True)
    make = makers[int(rng.choice(len(makers), p=shares))]
    instruments = max(1, int(count / rng.choice((1, 2, 5, 12))))
    play, finish = make(rng, sample_rate, instruments), _finish(rng, sample_rate)
    recordings: list[Recording] = []
    seconds = 0.0
    while len(recordings) < count and seconds < max_seconds:
        instrument = int(rng.integers(instruments))
        samples = finish(rng, play(rng, instrument))
        recordings.append(Recording(samples, instrument))
        seconds += len(samples) / sample_rate
    return recordings


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _resampled(sound: Samples, factor: float) -> Samples:
    """Play a sound `factor` times as fast."""
    played: Samples = np.interp(np.arange(max(16, int(len(sound) / factor))) * factor, np.arange(len(sound)), sound)
    return played


def _normalised(sound: Samples) -> Samples:
    peak: float = np.abs(sound).max()
    return sound / peak if peak > 0 else sound


def _struck(rng: Generator, sample_rate: int) -> Samples:
    return struck_sound(rng, sample_rate, int(sample_rate * _log_uniform(rng, 0.15, 1.5)))


def _noise_hit(rng: Generator, sample_rate: int) -> Samples:
    length = int(sample_rate * _log_uniform(rng, 0.05, 1.2))
    time = np.arange(length) / sample_rate
    rise = np.minimum(1, (time + 1 / sample_rate) / max(1 / sample_rate, rng.exponential(0.002)))
    decay = np.exp(-time / _log_uniform(rng, 0.01, 0.4))
    return randomly_filtered(rng, sample_rate, coloured_noise(rng, sample_rate, length)) * rise * decay


def _tone(rng: Generator, sample_rate: int) -> Samples:
    """A plucked, struck or blown tone that decays."""
    length = int(sample_rate * _log_uniform(rng, 0.25, 3.0))
    sources = (ringing_modes, harmonic_wave, frequency_modulation, glide)
    source = sources[int(rng.choice(len(sources), p=(0.35, 0.35, 0.2, 0.1)))]
    time = np.arange(length) / sample_rate
    rise = np.minimum(1, (time + 1 / sample_rate) / max(1 / sample_rate, rng.exponential(0.004)))
    tone = randomly_filtered(rng, sample_rate, source(rng, sample_rate, length))
    return tone * rise * np.exp(-time / _log_uniform(rng, 0.04, 1.2))


def _held(rng: Generator, sample_rate: int) -> Samples:
    """A sound that swells, holds and is released, some with tremolo."""
    length = int(sample_rate * _log_uniform(rng, 0.4, 5.0))
    sources = (harmonic_wave, coloured_noise, voice_buzz, frequency_modulation)
    source = sources[int(rng.choice(len(sources), p=(0.45, 0.25, 0.15, 0.15)))]
    attack, release = rng.uniform(0.005, 0.5), rng.uniform(0.05, 0.5)
    knots = ([0, attack * (1 - release), 1 - release, 1], [0, 1, rng.uniform(0.4, 1), 0])
    envelope = np.interp(np.arange(length) / length, *knots)
    if rng.random() < 0.3:
        beats = np.sin(2 * np.pi * rng.uniform(1, 9) * np.arange(length) / sample_rate)
        envelope = envelope * (1 - rng.uniform(0.2, 0.9) * (0.5 + 0.5 * beats))
    return randomly_filtered(rng, sample_rate, source(rng, sample_rate, length)) * envelope


def _texture(rng: Generator, sample_rate: int) -> Samples:
    return sound_layer(rng, sample_rate, int(sample_rate * _log_uniform(rng, 0.6, 7.0)))


def _anything(rng: Generator, sample_rate: int) -> Samples:
    return synthetic_sound(rng, sample_rate, int(sample_rate * _log_uniform(rng, 0.2, 3.0))).astype(np.float64)


def _glitch(rng: Generator, sample_rate: int) -> Samples:
    """Short pieces, each repeated a few times, some with gaps between."""
    parts = []
    for _ in range(int(rng.integers(1, 7))):
        piece = sound_layer(rng, sample_rate, int(sample_rate * _log_uniform(rng, 0.01, 0.25)))
        parts += [piece] * int(rng.integers(1, 5))
        if rng.random() < 0.3:
            parts.append(np.zeros(int(sample_rate * rng.uniform(0.01, 0.1))))
    return np.concatenate(parts)


_SOURCES: tuple[Source, ...] = (_struck, _tone, _held, _noise_hit, _texture, _anything, _glitch)


@dataclass(frozen=True)
class _Instrument:
    """A source whose random choices are fixed, played at pitches `semitones` and velocities `decibels` apart."""

    source: Source
    seed: int
    semitones: float
    decibels: float

    @classmethod
    def draw(cls, rng: Generator, sources: tuple[Source, ...]) -> "_Instrument":
        """Draw an instrument of one of these kinds."""
        return cls(
            sources[int(rng.integers(len(sources)))],
            int(rng.integers(2**62)),
            float(rng.choice((0.0, 0.5, 3.0, 9.0))),
            float(rng.choice((0.0, 6.0, 18.0))),
        )

    def play(self, rng: Generator, sample_rate: int) -> Samples:
        """Play it once, of a peak of at most 1."""
        sound = self.source(np.random.default_rng(self.seed), sample_rate)
        if self.semitones:
            sound = _resampled(sound, 2 ** (float(np.clip(rng.normal(0, self.semitones), -14, 14)) / 12))
        if rng.random() < 0.3:
            sound = sound * np.exp(-np.arange(len(sound)) / sample_rate / _log_uniform(rng, 0.05, 1.0))
        if rng.random() < 0.3:
            sound = sound[: max(64, int(len(sound) * rng.uniform(0.3, 1)))]
        if rng.random() < 0.25:
            sound = randomly_filtered(rng, sample_rate, sound)
        return _normalised(sound) * 10 ** (-rng.uniform(0, self.decibels) / 20)


Play = Callable[[Generator, int], Samples]  # a recording of instrument `int`


def _instruments(rng: Generator, count: int, *sources: Source) -> list[_Instrument]:
    return [_Instrument.draw(rng, sources or _SOURCES) for _ in range(count)]


def _one_shots(*sources: Source) -> Callable[[Generator, int, int], Play]:
    """Collections of instruments that are played once in each recording."""

    def make(rng: Generator, sample_rate: int, count: int) -> Play:
        instruments = _instruments(rng, count, *sources)
        return lambda take, number: instruments[number].play(take, sample_rate)

    return make


def _loops(rng: Generator, sample_rate: int, count: int) -> Play:
    """Patterns of up to three instruments on a grid."""
    instruments = _instruments(rng, count, _struck, _noise_hit, _tone)

    def play(take: Generator, number: int) -> Samples:
        step, steps = take.uniform(0.07, 0.25), int(take.choice((4, 8, 16)))
        repeats = int(take.integers(1, 4))
        loop = np.zeros(int(sample_rate * min(MAX_SECONDS - 1, step * steps * repeats)))
        for voice in (number, *take.integers(count, size=int(take.integers(3)))):
            sound, level = instruments[voice].play(take, sample_rate), 10 ** (-take.uniform(0, 12) / 20)
            pattern = take.random(steps) < take.uniform(0.1, 0.7)
            for position in np.flatnonzero(np.tile(pattern, repeats)):
                _add(loop, int(position * step * sample_rate), sound, level * 10 ** (-take.exponential(1.5) / 20))
        return loop

    return play


def _rolls(rng: Generator, sample_rate: int, count: int) -> Play:
    """One instrument repeated quickly, faster or slower, louder or softer."""
    instruments = _instruments(rng, count, _struck, _noise_hit, _tone)

    def play(take: Generator, number: int) -> Samples:
        sound = instruments[number].play(take, sample_rate)
        gaps = take.uniform(0.03, 0.15) * take.uniform(0.93, 1.07) ** np.arange(int(take.integers(3, 20)))
        starts = (np.concatenate([[0.0], np.cumsum(gaps)]) * sample_rate).astype(int)
        roll = np.zeros(int(starts[-1]) + len(sound))
        first, last = take.uniform(0.2, 1, 2)
        for start, level in zip(starts, np.linspace(first, last, len(starts)), strict=True):
            _add(roll, int(start), sound, float(level))
        return roll

    return play


def _melodies(rng: Generator, sample_rate: int, count: int) -> Play:
    """A few notes of one instrument."""
    instruments = _instruments(rng, count, _tone, _held)

    def play(take: Generator, number: int) -> Samples:
        note = instruments[number].play(take, sample_rate)[: int(1.5 * sample_rate)]
        step = int(sample_rate * take.uniform(0.1, 0.5))
        pitches = take.choice((-5, -3, 0, 2, 4, 5, 7, 9, 12), int(take.integers(2, 9)))
        notes = [_resampled(note, 2 ** (float(pitch) / 12)) for pitch in pitches]
        melody = np.zeros(max(index * step + len(one) for index, one in enumerate(notes)))
        for index, one in enumerate(notes):
            _add(melody, index * step, one, 1.0)
        return melody

    return play


def _add(total: Samples, start: int, sound: Samples, level: float) -> None:
    if start < len(total):
        end = min(len(total), start + len(sound))
        total[start:end] += level * sound[: end - start]


def _voices(rng: Generator, sample_rate: int, count: int) -> Play:
    """Words of one to four syllables, each spoken several times by one of a few speakers."""
    speakers = [(rng.uniform(80, 320), rng.uniform(0.85, 1.25)) for _ in range(int(rng.integers(1, 4)))]
    words = rng.integers(2**62, size=count)

    def play(take: Generator, number: int) -> Samples:
        pitch, size = speakers[int(take.integers(len(speakers)))]
        pitch, size = pitch * take.uniform(0.93, 1.07), size * take.uniform(0.97, 1.03)
        return _word(np.random.default_rng(words[number]), sample_rate, pitch, size)

    return play


def _word(rng: Generator, sample_rate: int, pitch: float, size: float) -> Samples:
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.6:
            parts.append(_consonant(rng, sample_rate))
        if rng.random() < 0.3:
            parts.append(np.zeros(int(sample_rate * rng.uniform(0.02, 0.09))))
        parts.append(_vowel(rng, sample_rate, pitch, size))
    return np.concatenate(parts)


def _consonant(rng: Generator, sample_rate: int) -> Samples:
    length = int(sample_rate * rng.uniform(0.03, 0.14))
    centre = rng.uniform(1200, min(9000, 0.4 * sample_rate / 1.5))
    band = signal.butter(2, (centre / 1.5, centre * 1.5), "bandpass", fs=sample_rate, output="sos")
    burst: Samples = signal.sosfilt(band, rng.standard_normal(length)) * np.hanning(length)
    return burst * rng.uniform(0.3, 1.8)


def _vowel(rng: Generator, sample_rate: int, pitch: float, size: float) -> Samples:
    """A buzz through four formants that move from one vowel to another."""
    length = int(sample_rate * rng.uniform(0.08, 0.3))
    course = np.arange(length) / length
    melody = 1 + rng.uniform(-0.2, 0.2) * (1 - course) + rng.uniform(-0.1, 0.1) * np.sin(np.pi * course)
    phase = np.cumsum(pitch * melody) / sample_rate
    buzz = np.diff(np.floor(phase), prepend=0.0) + 0.01 * rng.standard_normal(length)
    buzz = signal.lfilter([1.0], [1.0, -0.96], buzz)
    vowel = np.zeros(length)
    for low, high, level in ((250, 850, 1.0), (800, 2400, 0.6), (2200, 3200, 0.35), (3300, 4300, 0.2)):
        width = rng.uniform(6, 14)
        first, last = (
            signal.lfilter(*signal.iirpeak(min(formant, HIGHEST_SHARE * sample_rate), width, sample_rate), buzz)
            for formant in rng.uniform(low, high, 2) * size
        )
        vowel += level * (first * (1 - course) + last * course)
    return _normalised(vowel * np.interp(course, [0, 0.15, 0.7, 1], [0, 1, 0.8, 0]) ** 0.7)


def _mixed(rng: Generator, sample_rate: int, count: int) -> Play:
    """A bit of everything."""
    makers = (_one_shots(), _one_shots(), _loops, _rolls, _melodies)
    plays = [make(rng, sample_rate, count) for make in makers]
    return lambda take, number: plays[int(take.integers(len(plays)))](take, number)


_COLLECTIONS = (
    (0.15, _one_shots()),
    (0.20, _one_shots(_struck, _struck, _noise_hit, _anything)),
    (0.15, _one_shots(_tone)),
    (0.10, _one_shots(_held, _texture)),
    (0.12, _voices),
    (0.08, _loops),
    (0.02, _rolls),
    (0.06, _melodies),
    (0.12, _mixed),
)  # with the share of each


def _finish(rng: Generator, sample_rate: int) -> Callable[[Generator, Samples], NDArray[np.float32]]:
    """Draw the room, the levels and the cutting that all recordings of a collection share."""
    drive = rng.uniform(1, 6) if rng.random() < 0.2 else 0.0
    tail = None
    if rng.random() < 0.35:
        tail = rng.standard_normal(int(sample_rate * rng.uniform(0.05, 1.2)))
        tail *= np.exp(-6.9 * np.arange(tail.size) / tail.size)
    wet = rng.uniform(0.05, 0.8)
    levels, floor = float(rng.choice((0.5, 3.0, 8.0))), float(rng.choice((0.0, 0.0, -90.0, -70.0, -55.0)))
    is_trimmed, pads = rng.random() < 0.75, rng.random() < 0.25

    def finish(take: Generator, sound: Samples) -> NDArray[np.float32]:
        sound = _normalised(sound)
        if tail is not None:
            reverberation = _normalised(signal.fftconvolve(sound, tail))
            sound = np.pad(sound, (0, len(reverberation) - len(sound))) + wet * reverberation
        if drive:
            sound = np.tanh(_normalised(sound) * drive)
        sound = _normalised(sound)
        loud = np.flatnonzero(np.abs(sound) > 10 ** (-take.uniform(35, 80) / 20))
        if is_trimmed and len(loud):
            sound = sound[max(0, loud[0] - int(sample_rate * take.exponential(0.003))) : loud[-1] + 1]
        elif take.random() < 0.5:
            sound = np.pad(sound, (int(sample_rate * take.exponential(0.05)), 0))
        if pads and take.random() < 0.5:
            sound = np.pad(sound, (0, int(sample_rate * take.exponential(0.3))))
        sound = sound[: int(sample_rate * MAX_SECONDS)] * 10 ** (-abs(take.normal(0, levels)) / 20)
        if floor:
            sound = sound + 10 ** (floor / 20) * take.standard_normal(len(sound))
        if take.random() < 0.7:
            fade = min(len(sound), int(sample_rate * take.exponential(0.01)) + 1)
            sound[-fade:] *= np.linspace(1, 0, fade)
        sound = np.pad(sound, (0, max(0, int(sample_rate * MIN_SECONDS) - len(sound))))
        return (np.round(np.clip(np.nan_to_num(sound), -1, 1) * 32767) / 32768).astype(np.float32)

    return finish
