"""Synthetic drums and percussion, to pre-train a prior on: an instrument is drawn once, and no two hits are equal.

A hit has a velocity. Harder ones are louder, brighter and a little longer, and noise is drawn anew for each.
"""

import numpy as np
from numpy.random import Generator
from scipy import signal

from distill.audio.synthetic_sounds import HIGHEST_SHARE, Samples, log_uniform
from pretraining.instruments import Play

# Frequencies of a circular membrane's modes, as multiples of the lowest (zeros of Bessel functions).
MEMBRANE = np.array((1.0, 1.593, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501, 3.6, 4.06))


def _velocity(take: Generator) -> float:
    return float(take.beta(2.5, 1.2))


def _level(velocity: float) -> float:
    return float(10 ** (-24.0 * (1 - velocity) / 20))


def _decay(time: Samples, seconds: float) -> Samples:
    return np.exp(-time / seconds)


def _band(
    take: Generator, sample_rate: int, length: int, low: float, high: float, order: int = 2
) -> Samples:
    """White noise between two frequencies, of deviation 1."""
    high = min(high, HIGHEST_SHARE * sample_rate)
    low = min(low, high / 1.5)
    sections = signal.butter(order, (low, high), "bandpass", fs=sample_rate, output="sos")
    noise: Samples = signal.sosfilt(sections, take.standard_normal(length))
    return noise / max(1e-9, float(noise.std()))


def _time(sample_rate: int, seconds: float) -> Samples:
    return np.arange(int(sample_rate * seconds)) / sample_rate


def kick(rng: Generator, sample_rate: int) -> Play:
    """A bass drum: a sine that falls to its pitch, and a beater."""
    pitch, depth, fall = (
        log_uniform(rng, 38, 95),
        log_uniform(rng, 0.3, 9),
        log_uniform(rng, 0.004, 0.06),
    )
    ring, drive = log_uniform(rng, 0.04, 0.5), rng.uniform(0, 3) if rng.random() < 0.5 else 0.0
    beater, beater_ring = log_uniform(rng, 0.01, 0.5), log_uniform(rng, 0.001, 0.012)
    low = log_uniform(rng, 300, 3000)
    body, body_ring, phase = (
        log_uniform(rng, 0.005, 0.15),
        log_uniform(rng, 0.02, 0.15),
        rng.uniform(0, 1.6),
    )

    def play(take: Generator) -> Samples:
        velocity = _velocity(take)
        decay = ring * take.uniform(0.9, 1.1) * (0.7 + 0.3 * velocity)
        time = _time(sample_rate, 7 * decay + 0.02)
        frequency = pitch * take.normal(1, 0.004) * (1 + depth * velocity * _decay(time, fall))
        sound = np.sin(2 * np.pi * np.cumsum(frequency) / sample_rate + phase) * _decay(time, decay)
        sound *= np.minimum(1, (time * sample_rate + 1) / (0.001 * sample_rate))
        if drive:
            sound = np.tanh(sound * (1 + drive * velocity))
        sound += (
            beater
            * velocity
            * _band(take, sample_rate, len(time), low, 4 * low)
            * _decay(time, beater_ring)
        )
        sound += body * _band(take, sample_rate, len(time), 80, 700) * _decay(time, body_ring)
        return sound * _level(velocity)

    return play


def membrane(rng: Generator, sample_rate: int) -> Play:
    """A tom, a conga or another skin: modes of a membrane, the stick, and a pitch that falls after hard hits."""
    pitch, ring, slope = (
        log_uniform(rng, 60, 450),
        log_uniform(rng, 0.05, 0.6),
        rng.uniform(0.2, 1.2),
    )
    levels = rng.uniform(0.1, 1, len(MEMBRANE)) * MEMBRANE ** -rng.uniform(0.2, 2)
    detune = rng.normal(1, 0.02, len(MEMBRANE))
    stick, stick_ring, low = (
        log_uniform(rng, 0.01, 0.5),
        log_uniform(rng, 0.001, 0.01),
        log_uniform(rng, 500, 4000),
    )
    bend, bend_seconds = rng.uniform(0, 0.25), rng.uniform(0.01, 0.08)

    def play(take: Generator) -> Samples:
        velocity = _velocity(take)
        time = _time(sample_rate, 6 * ring + 0.02)
        bent = np.cumsum(1 + bend * velocity * _decay(time, bend_seconds))
        cycles = bent * pitch * take.normal(1, 0.005) / sample_rate
        places = levels * np.exp(
            take.normal(0, 0.25, len(levels))
        )  # the stick hits elsewhere each time
        sound = np.zeros(len(time))
        for ratio, level in zip(MEMBRANE * detune, places, strict=True):
            if pitch * ratio * (1 + bend) < HIGHEST_SHARE * sample_rate:
                mode = np.sin(2 * np.pi * cycles * ratio) * _decay(time, ring / ratio**slope)
                sound += level * velocity ** (0.3 * (ratio - 1)) * mode
        sound += (
            stick
            * velocity
            * _band(take, sample_rate, len(time), low, 3 * low)
            * _decay(time, stick_ring)
        )
        return sound * _level(velocity)

    return play


def snare(rng: Generator, sample_rate: int) -> Play:
    """A skin with wires below it: noise that follows the skin."""
    skin = membrane(rng, sample_rate)
    low, high = log_uniform(rng, 400, 3000), log_uniform(rng, 5000, 18_000)
    wires, ring, second = (
        log_uniform(rng, 0.2, 2.5),
        log_uniform(rng, 0.025, 0.25),
        rng.uniform(0.05, 0.4),
    )
    delay, stop = rng.uniform(0, 0.004), log_uniform(rng, 0.05, 0.4)

    def play(take: Generator) -> Samples:
        velocity = _velocity(take)
        time = _time(sample_rate, max(6 * ring, 0.1))
        decay = (1 - second) * _decay(time, ring * (0.7 + 0.3 * velocity)) + second * _decay(
            time, 2.5 * ring
        )
        noise = _band(take, sample_rate, len(time), low, high) * decay * 0.3
        noise = np.pad(noise, (int(delay * sample_rate), 0))
        hit = skin(take)
        hit *= _decay(np.arange(len(hit)) / sample_rate, stop)
        sound = np.zeros(max(len(noise), len(hit)))
        sound[: len(hit)] += hit
        sound[: len(noise)] += wires * noise * _level(velocity)
        return sound

    return play


def cymbal(rng: Generator, sample_rate: int) -> Play:
    """A hi-hat, ride or crash: many modes and bands of noise, each with a decay of its own."""
    ring = log_uniform(rng, 0.015, 1.6)
    count = int(rng.integers(0, 60))
    lowest = log_uniform(rng, 250, 4000)
    modes = lowest * np.exp(rng.uniform(0, 1, count) * np.log(16_000 / lowest))
    modes = modes[modes < HIGHEST_SHARE * sample_rate]
    mode_levels, mode_rings = (
        rng.uniform(0.05, 1, len(modes)),
        ring * np.exp(rng.normal(0, 0.5, len(modes))),
    )
    tonal = log_uniform(rng, 0.02, 1)
    edges = np.exp(np.linspace(np.log(lowest), np.log(HIGHEST_SHARE * sample_rate), 6))
    levels, rings = 10 ** (rng.uniform(-24, 0, 5) / 20), ring * np.exp(rng.normal(0, 0.4, 5))
    rise, choke = rng.exponential(0.002), log_uniform(rng, 0.02, 0.3) if rng.random() < 0.2 else 0.0

    def play(take: Generator) -> Samples:
        velocity = _velocity(take)
        longer = take.uniform(0.8, 1.2) * (0.6 + 0.4 * velocity)
        time = _time(sample_rate, min(5.0, 5 * ring * longer + 0.03))
        sound = np.zeros(len(time))
        for low, high, level, decay in zip(edges, edges[1:], levels, rings, strict=False):
            sound += (
                level
                * _band(take, sample_rate, len(time), low, high)
                * _decay(time, decay * longer)
            )
        phases, loud = take.uniform(0, 6.3, len(modes)), np.exp(take.normal(0, 0.5, len(modes)))
        for mode, level, decay, phase in zip(
            modes, mode_levels * loud, mode_rings, phases, strict=True
        ):
            sound += (
                tonal
                * level
                * np.sin(2 * np.pi * mode * time + phase)
                * _decay(time, decay * longer)
            )
        sound *= 1 - _decay(time + 1 / sample_rate, max(rise, 1e-4))
        if choke:
            sound *= np.clip((choke * 3 - time) / 0.02, 0, 1)
        return sound * _level(velocity)

    return play


def clap(rng: Generator, sample_rate: int) -> Play:
    """Hands, or a machine's clap: a few bursts of noise, and a tail."""
    bursts, gap = int(rng.integers(1, 6)), rng.uniform(0.006, 0.02)
    low = log_uniform(rng, 500, 1800)
    high, burst_ring, tail = (
        low * rng.uniform(1.6, 8),
        log_uniform(rng, 0.002, 0.01),
        log_uniform(rng, 0.02, 0.3),
    )
    wet = rng.uniform(0.1, 0.8)

    def play(take: Generator) -> Samples:
        time = _time(sample_rate, bursts * gap + 6 * tail)
        envelope = np.zeros(len(time))
        for burst in range(bursts):
            late = time - (burst + take.normal(0, 0.1)) * gap
            level = wet if burst == bursts - 1 else 0.0
            shape = _decay(late.clip(0), burst_ring) + level * _decay(late.clip(0), tail)
            envelope = np.maximum(envelope, np.where(late >= 0, shape, 0))
        return _band(take, sample_rate, len(time), low, high) * envelope * _level(_velocity(take))

    return play


def block(rng: Generator, sample_rate: int) -> Play:
    """A rim, a stick, a woodblock, a bell: few modes."""
    count, pitch = int(rng.integers(1, 7)), log_uniform(rng, 300, 4500)
    ratios = np.concatenate([[1.0], rng.uniform(1.1, 6, count - 1)])
    rings = log_uniform(rng, 0.004, 0.4) / ratios ** rng.uniform(0, 1.2)
    levels = rng.uniform(0.1, 1, count)
    click, square = log_uniform(rng, 0.01, 0.6), rng.random() < 0.2

    def play(take: Generator) -> Samples:
        velocity = _velocity(take)
        time = _time(sample_rate, 7 * float(rings.max()) + 0.02)
        sound = np.zeros(len(time))
        for ratio, ring, level in zip(
            ratios, rings, levels * np.exp(take.normal(0, 0.3, count)), strict=True
        ):
            if pitch * ratio < HIGHEST_SHARE * sample_rate:
                mode = np.sin(2 * np.pi * pitch * ratio * take.normal(1, 0.002) * time)
                sound += level * (np.sign(mode) if square else mode) * _decay(time, ring)
        sound += (
            click
            * velocity
            * _band(take, sample_rate, len(time), 2000, 14_000)
            * _decay(time, 0.002)
        )
        return sound * _level(velocity)

    return play


def shaker(rng: Generator, sample_rate: int) -> Play:
    """A shaker, a tambourine, a brush: noise that swells and falls, once or a few times."""
    low = log_uniform(rng, 1500, 7000)
    rise, fall = log_uniform(rng, 0.004, 0.08), log_uniform(rng, 0.02, 0.2)
    strokes, gap = int(rng.choice((1, 1, 2, 4))), rng.uniform(0.08, 0.25)
    jingle = rng.uniform(0, 0.6) if rng.random() < 0.4 else 0.0
    jingles = rng.uniform(min(3500, 0.2 * sample_rate), 0.42 * sample_rate, 12)

    def play(take: Generator) -> Samples:
        time = _time(sample_rate, strokes * gap + 6 * fall + rise)
        envelope = np.zeros(len(time))
        for stroke in range(strokes):
            late = (time - (stroke * gap + take.exponential(0.005))).clip(0)
            loud = take.uniform(0.3, 1)
            envelope += loud * (1 - np.exp(-late / rise)) * np.exp(-late / fall)
        sound = _band(take, sample_rate, len(time), low, 18_000)
        if jingle:
            for pitch in jingles:
                sound += jingle * np.sin(2 * np.pi * pitch * time + take.uniform(0, 6.3))
        return sound * envelope * _level(_velocity(take))

    return play


DRUMS = (kick, snare, membrane, cymbal, cymbal, clap, block, shaker)
