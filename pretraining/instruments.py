"""Synthetic instruments, to pre-train a prior on: what is random about one is drawn once, then it is played."""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.random import Generator
from scipy import signal

from distill.audio.synthetic_sounds import (
    HIGHEST_SHARE,
    Samples,
    coloured_noise,
    frequency_modulation,
    glide,
    harmonic_wave,
    log_uniform,
    randomly_filtered,
    ringing_modes,
    sound_layer,
    struck_sound,
    synthetic_sound,
    voice_buzz,
)

Source = Callable[[Generator, int], Samples]
Play = Callable[[Generator], Samples]  # plays an instrument once
Make = Callable[[Generator, int], Play]  # draws an instrument for a sample rate


def resampled(sound: Samples, factor: float) -> Samples:
    """Play a sound `factor` times as fast."""
    played: Samples = np.interp(
        np.arange(max(16, int(len(sound) / factor))) * factor, np.arange(len(sound)), sound
    )
    return played


def normalised(sound: Samples) -> Samples:
    peak: float = np.abs(sound).max()
    return sound / peak if peak > 0 else sound


def struck(rng: Generator, sample_rate: int) -> Samples:
    return struck_sound(rng, sample_rate, int(sample_rate * log_uniform(rng, 0.15, 1.5)))


def noise_hit(rng: Generator, sample_rate: int) -> Samples:
    length = int(sample_rate * log_uniform(rng, 0.05, 1.2))
    time = np.arange(length) / sample_rate
    rise = np.minimum(1, (time + 1 / sample_rate) / max(1 / sample_rate, rng.exponential(0.002)))
    decay = np.exp(-time / log_uniform(rng, 0.01, 0.4))
    return (
        randomly_filtered(rng, sample_rate, coloured_noise(rng, sample_rate, length)) * rise * decay
    )


def tone(rng: Generator, sample_rate: int) -> Samples:
    """A plucked, struck or blown tone that decays."""
    length = int(sample_rate * log_uniform(rng, 0.25, 3.0))
    sources = (ringing_modes, harmonic_wave, frequency_modulation, glide)
    source = sources[int(rng.choice(len(sources), p=(0.35, 0.35, 0.2, 0.1)))]
    time = np.arange(length) / sample_rate
    rise = np.minimum(1, (time + 1 / sample_rate) / max(1 / sample_rate, rng.exponential(0.004)))
    tone = randomly_filtered(rng, sample_rate, source(rng, sample_rate, length))
    return tone * rise * np.exp(-time / log_uniform(rng, 0.04, 1.2))


def held(rng: Generator, sample_rate: int) -> Samples:
    """A sound that swells, holds and is released, some with tremolo."""
    length = int(sample_rate * log_uniform(rng, 0.4, 5.0))
    sources = (harmonic_wave, coloured_noise, voice_buzz, frequency_modulation)
    source = sources[int(rng.choice(len(sources), p=(0.45, 0.25, 0.15, 0.15)))]
    attack, release = rng.uniform(0.005, 0.5), rng.uniform(0.05, 0.5)
    knots = ([0, attack * (1 - release), 1 - release, 1], [0, 1, rng.uniform(0.4, 1), 0])
    envelope = np.interp(np.arange(length) / length, *knots)
    if rng.random() < 0.3:
        beats = np.sin(2 * np.pi * rng.uniform(1, 9) * np.arange(length) / sample_rate)
        envelope = envelope * (1 - rng.uniform(0.2, 0.9) * (0.5 + 0.5 * beats))
    return randomly_filtered(rng, sample_rate, source(rng, sample_rate, length)) * envelope


def texture(rng: Generator, sample_rate: int) -> Samples:
    return sound_layer(rng, sample_rate, int(sample_rate * log_uniform(rng, 0.6, 7.0)))


def anything(rng: Generator, sample_rate: int) -> Samples:
    return synthetic_sound(rng, sample_rate, int(sample_rate * log_uniform(rng, 0.2, 3.0))).astype(
        np.float64
    )


def glitch(rng: Generator, sample_rate: int) -> Samples:
    """Short pieces, each repeated a few times, some with gaps between."""
    parts = []
    for _ in range(int(rng.integers(1, 7))):
        piece = sound_layer(rng, sample_rate, int(sample_rate * log_uniform(rng, 0.01, 0.25)))
        parts += [piece] * int(rng.integers(1, 5))
        if rng.random() < 0.3:
            parts.append(np.zeros(int(sample_rate * rng.uniform(0.01, 0.1))))
    return np.concatenate(parts)


SOURCES: tuple[Source, ...] = (struck, tone, held, noise_hit, texture, anything, glitch)


def repeated(*sources: Source) -> Make:
    """Instruments that play one sound of one of `sources` at several pitches and velocities, shorter or filtered."""

    def make(rng: Generator, sample_rate: int) -> Play:
        source, seed = sources[int(rng.integers(len(sources)))], int(rng.integers(2**62))
        semitones, decibels = (
            float(rng.choice((0.0, 0.5, 3.0, 9.0))),
            float(rng.choice((0.0, 6.0, 18.0))),
        )

        def play(take: Generator) -> Samples:
            sound = source(np.random.default_rng(seed), sample_rate)
            if semitones:
                sound = resampled(
                    sound, 2 ** (float(np.clip(take.normal(0, semitones), -14, 14)) / 12)
                )
            if take.random() < 0.3:
                sound = sound * np.exp(
                    -np.arange(len(sound)) / sample_rate / log_uniform(take, 0.05, 1.0)
                )
            if take.random() < 0.3:
                sound = sound[: max(64, int(len(sound) * take.uniform(0.3, 1)))]
            if take.random() < 0.25:
                sound = randomly_filtered(take, sample_rate, sound)
            return normalised(sound) * 10 ** (-take.uniform(0, decibels) / 20)

        return play

    return make


def string(rng: Generator, sample_rate: int) -> Play:
    """A plucked or struck string: partials that the place of the pluck weakens, through the resonances of a body."""
    lowest, spread = log_uniform(rng, 40, 500), float(rng.choice((0.0, 2.0, 7.0)))
    stiffness, place = log_uniform(rng, 1e-6, 2e-3), rng.uniform(0.04, 0.5)
    slope, ring, faster = rng.uniform(0.3, 2), log_uniform(rng, 0.1, 2.5), log_uniform(rng, 0.02, 1)
    body, widths = log_uniform(rng, 1, 4) * np.array((100, 230, 450, 1100)), rng.uniform(2, 8, 4)
    strings, detune = int(rng.choice((1, 1, 2, 3))), rng.uniform(0, 0.002)
    noise, seconds = log_uniform(rng, 0.003, 0.2), log_uniform(rng, 0.3, 4)

    def play(take: Generator) -> Samples:
        pitch = lowest * 2 ** (float(np.clip(take.normal(0, spread), -12, 24)) / 12)
        strength, damped = take.uniform(0.2, 1), seconds * take.uniform(0.4, 1)
        time = np.arange(int(sample_rate * damped)) / sample_rate
        orders = np.arange(1, 1 + int(min(60, HIGHEST_SHARE * sample_rate / pitch)))
        plucked = np.abs(np.sin(np.pi * orders * (place + take.normal(0, 0.01))))
        levels = plucked * orders ** -(slope + 0.6 * (1 - strength))
        total = np.zeros(len(time))
        for order, level in zip(orders, levels, strict=True):
            frequency = pitch * order * np.sqrt(1 + stiffness * order**2)
            if frequency > HIGHEST_SHARE * sample_rate:
                break
            decay = ring / (1 + faster * order)
            for number in range(strings):
                cycles = frequency * (1 + detune * number) * time
                total += (
                    level
                    * np.sin(2 * np.pi * cycles + take.uniform(0, 6.3))
                    * np.exp(-time / decay)
                )
        attack = take.standard_normal(len(time)) * np.exp(-time / 0.006) * noise * strength
        total += _resonating(attack, sample_rate, body, widths) + 0.3 * _resonating(
            total, sample_rate, body, widths
        )
        return total * np.minimum(1, time / 0.0015) * strength

    return play


def _resonating(sound: Samples, sample_rate: int, frequencies: Samples, widths: Samples) -> Samples:
    """A sound through a few resonances in parallel."""
    parts = [
        signal.lfilter(
            *signal.iirpeak(min(frequency, HIGHEST_SHARE * sample_rate), width, sample_rate), sound
        )
        for frequency, width in zip(frequencies, widths, strict=True)
    ]
    return cast(Samples, np.sum(parts, axis=0))


def wind(rng: Generator, sample_rate: int) -> Play:
    """A blown or bowed note: harmonics under a fixed envelope of the spectrum, breath, an attack, vibrato."""
    lowest, spread = log_uniform(rng, 60, 900), float(rng.choice((0.0, 2.0, 7.0)))
    knots = np.log(np.array((30, 200, 500, 1200, 3000, 8000, 24_000)))
    shape = np.cumsum(rng.normal(-rng.uniform(4, 13), 5, len(knots)))  # dB
    odd, breath = rng.uniform(0, 1) if rng.random() < 0.3 else 1.0, log_uniform(rng, 0.002, 0.2)
    attack, release = log_uniform(rng, 0.01, 0.25), log_uniform(rng, 0.02, 0.3)
    vibrato, rate, late = rng.uniform(0, 0.015), rng.uniform(4, 7), rng.uniform(0, 0.6)
    seconds, brighter = log_uniform(rng, 0.25, 4), rng.uniform(0, 1.5)

    def play(take: Generator) -> Samples:
        pitch = lowest * 2 ** (float(np.clip(take.normal(0, spread), -12, 24)) / 12)
        time = np.arange(int(sample_rate * seconds * take.uniform(0.5, 1))) / sample_rate
        course = np.clip(time / attack, 0, 1) * np.clip((time[-1] - time) / release, 0, 1)
        loud = (
            course
            * take.uniform(0.3, 1)
            * (1 + 0.1 * np.cumsum(take.standard_normal(len(time))) / len(time) ** 0.5)
        )
        tune = 1 + vibrato * np.clip((time - late) / 0.4, 0, 1) * np.sin(2 * np.pi * rate * time)
        cycles = np.cumsum(pitch * tune * (1 - 0.02 * np.exp(-time / 0.03))) / sample_rate
        orders = np.arange(1, 1 + int(min(50, HIGHEST_SHARE * sample_rate / (1.03 * pitch))))
        levels = 10 ** (np.interp(np.log(pitch * orders), knots, shape) / 20)
        levels[1::2] *= odd
        turn, wave, total = (
            np.exp(2j * np.pi * cycles),
            np.ones(len(time), dtype=complex),
            np.zeros(len(time)),
        )
        dimmed = loud ** (brighter / 10)
        dim = np.ones(len(time))
        for level in levels:
            wave, dim = wave * turn, dim * dimmed
            total += level * wave.imag * dim
        hiss = randomly_filtered(take, sample_rate, take.standard_normal(len(time)))
        note: Samples = normalised(total) * loud + breath * hiss * course
        return note

    return play


def chirps(rng: Generator, sample_rate: int) -> Play:
    """Calls of birds, insects and machines: short glides, repeated."""
    low, high = log_uniform(rng, 400, 3000), log_uniform(rng, 1500, 9000)
    length, gap = log_uniform(rng, 0.02, 0.25), log_uniform(rng, 0.02, 0.3)
    bends, trill = rng.normal(0, 0.3, 3), rng.uniform(15, 60) if rng.random() < 0.3 else 0.0
    most = int(rng.integers(1, 9))

    def play(take: Generator) -> Samples:
        parts = []
        for _ in range(int(take.integers(1, most + 1))):
            time = np.arange(int(sample_rate * length * take.uniform(0.8, 1.2))) / sample_rate
            course = np.linspace(0, 1, len(time))
            bend = np.polynomial.polynomial.polyval(
                course, np.concatenate([[0], bends + take.normal(0, 0.03, 3)])
            )
            frequency = np.clip(
                (low + (high - low) * course) * 2**bend, 20, HIGHEST_SHARE * sample_rate
            )
            call = (
                np.sin(2 * np.pi * np.cumsum(frequency) / sample_rate)
                * np.hanning(len(time))
                * take.uniform(0.4, 1)
            )
            if trill:
                call *= 0.5 + 0.5 * np.sin(2 * np.pi * trill * time)
            parts += [call, np.zeros(int(sample_rate * gap * take.uniform(0.8, 1.2)))]
        return np.concatenate(parts)

    return play
