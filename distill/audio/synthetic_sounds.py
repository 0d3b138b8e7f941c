"""Synthetic sounds of many kinds, to pre-train a decoder and fit codebooks.

A sound is the sum of a few layers at random times. A layer is a source (noise, harmonics, ringing modes, frequency
modulation, clicks, glides, a voice-like buzz) under an envelope and a filter. The sum may be overdriven, reverberated,
laid on a noise floor and low-pass filtered. No sound imitates a particular recording.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float64]  # [N]
T = TypeVar("T")

HIGHEST_SHARE = 0.45  # highest frequency, relative to the sample rate


def synthetic_sound(rng: Generator, sample_rate: int, length: int) -> NDArray[np.float32]:
    """Synthesise a sound `[length]` in [-1, 1] at `sample_rate` Hz, quantised to 16 bits as recordings are."""
    make = _drawn(rng, ((0.05, _bare_clicks), (0.25, _hits), (0.7, _layers)))
    total = make(rng, sample_rate, length)
    if make is not _bare_clicks:
        total = total / (np.abs(total).max() or 1.0)
        for chance, effect in _EFFECTS:
            if rng.random() < chance:
                total = effect(rng, sample_rate, total)
        total *= _level(rng, -40) / max(1e-9, np.abs(total).max())
        if rng.random() < 0.3:  # digital silence before or after
            edge = int(rng.integers(length))
            total[slice(0, edge) if rng.random() < 0.5 else slice(edge, length)] = 0.0
    return (np.round(total * 32767) / 32768).astype(np.float32)


def _drawn(rng: Generator, choices: Sequence[tuple[float, T]]) -> T:
    """Random choice from (probability, choice) pairs."""
    bounds = np.cumsum([chance for chance, _ in choices])
    return choices[int(np.searchsorted(bounds, rng.random(), side="right"))][1]


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Random number, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _level(rng: Generator, lowest: float, highest: float = 0) -> float:
    """Random amplitude, uniform in dB between `lowest` and `highest`."""
    return float(10 ** (rng.uniform(lowest, highest) / 20))


def _layers(rng: Generator, sample_rate: int, length: int) -> Samples:
    """A few layers, most of them at random times."""
    total = np.zeros(length)
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(length)) if rng.random() < 0.7 else 0
        total[start:] += sound_layer(rng, sample_rate, length - start) * _level(rng, -30)
    return total


def _bare_clicks(rng: Generator, sample_rate: int, length: int) -> Samples:  # noqa: ARG001 - as others
    """A few clicks of one to four samples in digital silence, up to 12 dB below full scale."""
    total = np.zeros(length)
    for start in rng.integers(0, max(1, length - 4), int(rng.integers(3, 12))):
        total[start : start + int(rng.integers(1, 5))] = rng.choice((-1.0, 1.0)) * _level(rng, -12)
    return total


def _hits(rng: Generator, sample_rate: int, length: int) -> Samples:
    """Struck sounds: the same sound in a rhythm, or different sounds at random times."""
    total = np.zeros(length)
    if rng.random() < 0.5:
        hit, gap = struck_sound(rng, sample_rate, length), int(sample_rate * rng.uniform(0.08, 0.8))
        for start in range(int(rng.integers(gap)), length, gap):
            total[start:] += hit[: length - start] * _level(rng, -9)
    else:
        for start in rng.integers(0, length, int(rng.integers(1, 5))):
            total[start:] += struck_sound(rng, sample_rate, length - int(start)) * _level(rng, -20)
    return total


def struck_sound(rng: Generator, sample_rate: int, length: int) -> Samples:
    """A struck sound: a tone that falls to its pitch and filtered noise, each with its own decay, and a click."""
    time = _time(sample_rate, length)
    shares = 10 ** (rng.uniform(-30, 0, 3) / 20)
    shares[int(rng.integers(2))] = 1.0
    pitch = _pitch(rng, sample_rate, high=400.0)
    fall = pitch * rng.uniform(0, 8) * np.exp(-time / rng.uniform(0.003, 0.06))
    tone = np.sin(2 * np.pi * np.cumsum(pitch + fall) / sample_rate + rng.choice((0.0, np.pi / 2)))
    tone *= np.exp(-time / log_uniform(rng, 0.02, 0.6))
    noise = randomly_filtered(rng, sample_rate, rng.standard_normal(length) / 3)
    noise *= np.exp(-time / log_uniform(rng, 0.004, 0.4))
    click = np.zeros(length)
    width = min(length, 1 + int(sample_rate * rng.uniform(0, 0.001)))
    click[:width] = np.hanning(width + 2)[1:-1]
    hit: Samples = shares[0] * tone + shares[1] * noise + shares[2] * click
    rise = int(sample_rate * rng.exponential(0.001))
    hit[:rise] *= np.linspace(0, 1, len(hit[:rise]))
    return hit


def sound_layer(rng: Generator, sample_rate: int, length: int) -> Samples:
    """A random source with an envelope and a filter, normalised to peak 1."""
    sources = (
        coloured_noise,
        harmonic_wave,
        ringing_modes,
        frequency_modulation,
        _clicks,
        glide,
        voice_buzz,
    )
    source = sources[int(rng.choice(len(sources), p=(0.27, 0.2, 0.18, 0.1, 0.06, 0.09, 0.1)))]
    sound = source(rng, sample_rate, length) * _envelope(rng, sample_rate, length)
    sound = randomly_filtered(rng, sample_rate, sound)
    return np.asarray(sound / (np.abs(sound).max() or 1.0))


def _pitch(rng: Generator, sample_rate: int, low: float = 30.0, high: float = 4000.0) -> float:
    """Random frequency in Hz, uniform in its logarithm."""
    return log_uniform(rng, low, min(high, HIGHEST_SHARE * sample_rate))


def _time(sample_rate: int, length: int) -> Samples:
    return np.arange(length) / sample_rate


def _wander(rng: Generator, sample_rate: int, length: int) -> Samples:
    """Pitch factor `[length]` around 1: constant, with vibrato, gliding or both."""
    time = _time(sample_rate, length)
    cents = np.zeros(length)
    if rng.random() < 0.4:
        cents += rng.uniform(2, 80) * np.sin(
            2 * np.pi * rng.uniform(1, 9) * time + rng.uniform(0, 6.3)
        )
    if rng.random() < 0.4:
        target, pace = rng.normal(0, 900), rng.uniform(0.02, 1.0)
        cents += target * (
            np.exp(-time / pace) if rng.random() < 0.7 else time / time[-1] if length > 1 else 0.0
        )
    return np.asarray(2 ** (cents / 1200))


def coloured_noise(rng: Generator, sample_rate: int, length: int) -> Samples:
    """White noise, or noise with a spectral slope of -12 to 3 dB an octave."""
    white = rng.standard_normal(length)
    if rng.random() < 0.3:
        return white
    spectrum = np.fft.rfft(white)
    ramp = np.maximum(np.fft.rfftfreq(length, 1 / sample_rate), 20.0) / 1000.0
    coloured: Samples = np.fft.irfft(spectrum * ramp ** rng.uniform(-2, 0.5), length)
    return coloured / max(1e-12, float(coloured.std()))


def harmonic_wave(rng: Generator, sample_rate: int, length: int) -> Samples:
    """One to three voices, each of up to 60 harmonics of falling level, some without even harmonics."""
    total = np.zeros(length)
    for _ in range(int(rng.integers(1, 4))):
        pitch = _pitch(rng, sample_rate, high=1500.0)
        factor = _wander(rng, sample_rate, length)
        rotation_factors = np.exp(2j * np.pi * np.cumsum(pitch * factor) / sample_rate)
        count = int(min(60, HIGHEST_SHARE * sample_rate / (pitch * factor.max())))
        order = np.arange(1, max(2, count + 1))
        weights = order ** -rng.uniform(0.5, 2.5) * np.exp(
            1j * rng.uniform(0, 2 * np.pi, order.size)
        )
        if rng.random() < 0.3:
            weights[1::2] = 0
        if rng.random() < 0.5:  # all harmonics together: a pulse
            weights = np.abs(weights).astype(complex)
        total += np.polynomial.polynomial.polyval(
            rotation_factors, np.concatenate([[0], weights])
        ).imag
    return total


def ringing_modes(rng: Generator, sample_rate: int, length: int) -> Samples:
    """Ringing modes of a struck object, harmonic or not; higher modes decay faster."""
    time = _time(sample_rate, length)
    count = int(rng.integers(1, 25))
    base = _pitch(rng, sample_rate)
    stretch = (
        np.arange(1, count + 1) ** rng.uniform(0.8, 1.6)
        if rng.random() < 0.5
        else rng.uniform(1, 12, count)
    )
    ring = rng.uniform(0.02, 2.0) / stretch ** rng.uniform(0, 1)
    total = np.zeros(length)
    for ratio, seconds in zip(stretch, ring, strict=True):
        if base * ratio < HIGHEST_SHARE * sample_rate:
            level = rng.uniform(0.1, 1) / ratio ** rng.uniform(0, 1)
            total += (
                level
                * np.sin(2 * np.pi * base * ratio * time + rng.uniform(0, 6.3))
                * np.exp(-time / seconds)
            )
    return total


def frequency_modulation(rng: Generator, sample_rate: int, length: int) -> Samples:
    """Two-operator frequency modulation with a decaying index."""
    time = _time(sample_rate, length)
    carrier = _pitch(rng, sample_rate, high=2500.0)
    index = rng.uniform(0.2, 8) * np.exp(-time / rng.uniform(0.05, 2))
    modulator = np.sin(2 * np.pi * carrier * rng.uniform(0.25, 5) * time)
    cycles = np.cumsum(carrier * _wander(rng, sample_rate, length)) / sample_rate
    return np.asarray(np.sin(2 * np.pi * cycles + index * modulator))


def _clicks(rng: Generator, sample_rate: int, length: int) -> Samples:
    """Impulses, regular or at random times."""
    train = np.zeros(length)
    if rng.random() < 0.5:
        train[:: max(2, int(sample_rate / rng.uniform(3, 120)))] = 1.0
    else:
        count = 1 + int(rng.exponential(8 * length / sample_rate))
        train[rng.integers(0, length, count)] = rng.uniform(-1, 1, count)
    return train


def glide(rng: Generator, sample_rate: int, length: int) -> Samples:
    """A sine that falls or rises exponentially, like kick drums, lasers and risers."""
    start, end = _pitch(rng, sample_rate, high=9000.0), _pitch(rng, sample_rate, high=3000.0)
    pace = rng.uniform(0.005, 0.5)
    frequency = end + (start - end) * np.exp(-_time(sample_rate, length) / pace)
    return np.asarray(np.sin(2 * np.pi * np.cumsum(frequency) / sample_rate + rng.uniform(0, 6.3)))


def voice_buzz(rng: Generator, sample_rate: int, length: int) -> Samples:
    """A breathy buzz through moving formants, like a voice."""
    pitch = rng.uniform(70, 400) * _wander(rng, sample_rate, length)
    phase = np.cumsum(pitch) / sample_rate
    buzz = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.standard_normal(length)
    total = np.zeros(length)
    for low, high in ((250, 900), (700, 2500), (1800, 3600)):
        width = rng.uniform(5, 15)
        frequencies = rng.uniform(low, high, 2)
        parts = [
            signal.lfilter(
                *signal.iirpeak(min(f, HIGHEST_SHARE * sample_rate), width, sample_rate), buzz
            )
            for f in frequencies
        ]
        blend = np.linspace(0, 1, length)
        total += parts[0] * (1 - blend) + parts[1] * blend
    return total


def _envelope(rng: Generator, sample_rate: int, length: int) -> Samples:
    """Envelope `[length]`: percussive, swelling, gated or held, some with tremolo."""
    time = _time(sample_rate, length)
    match _drawn(rng, ((0.5, "percussive"), (0.2, "swelling"), (0.1, "gated"), (0.2, "held"))):
        case "percussive":
            attack, decay = rng.exponential(0.003), log_uniform(rng, 0.01, 1.5)
            rise = np.minimum(1, (time + 1 / sample_rate) / max(attack, 1 / sample_rate))
            envelope = rise * np.exp(-time / decay)
        case "swelling":
            knots = np.sort(rng.uniform(0, time[-1] + 1e-3, 4))
            envelope = np.interp(time, knots, np.concatenate([[0], rng.uniform(0.3, 1, 2), [0]]))
        case "gated":
            period = rng.uniform(0.03, 0.4)
            envelope = ((time / period) % 1 < rng.uniform(0.2, 0.8)).astype(np.float64)
        case _:
            envelope = np.ones(length)
    if rng.random() < 0.15:
        envelope = envelope * (
            1 - rng.uniform(0.2, 1) * (0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 30) * time))
        )
    return np.asarray(envelope)


def randomly_filtered(rng: Generator, sample_rate: int, sound: Samples) -> Samples:
    """Low-pass, high-pass or band-pass filter at a random frequency, or none."""
    order, highest = 2, HIGHEST_SHARE * sample_rate
    edges: float | tuple[float, float]
    kind = _drawn(rng, ((0.35, "lowpass"), (0.1, "highpass"), (0.2, "bandpass"), (0.35, "")))
    match kind:
        case "lowpass":
            order, edges = int(rng.integers(1, 5)), _pitch(rng, sample_rate, 200, highest)
        case "highpass":
            edges = _pitch(rng, sample_rate, 60, 5000)
        case "bandpass":
            centre, width = _pitch(rng, sample_rate, 100, highest / 1.5), rng.uniform(1.1, 1.45)
            edges = centre / width, centre * width
        case _:
            return sound
    return np.asarray(
        signal.sosfilt(signal.butter(order, edges, kind, fs=sample_rate, output="sos"), sound)
    )


def _overdriven(rng: Generator, sample_rate: int, sound: Samples) -> Samples:  # noqa: ARG001 - as others
    return np.asarray(np.tanh(sound * rng.uniform(1, 8)))


def _reverberated(rng: Generator, sample_rate: int, sound: Samples) -> Samples:
    """Add the reverberation of a room: decaying noise as impulse response."""
    tail = rng.standard_normal(int(sample_rate * rng.uniform(0.05, 0.8)))
    tail *= np.exp(-6.9 * np.arange(tail.size) / tail.size)
    wet = signal.fftconvolve(sound, tail)[: sound.size]
    peak = np.abs(wet).max()
    return np.asarray(sound + wet * (rng.uniform(0.05, 1) / peak if peak > 0 else 0.0))


def _with_noise(rng: Generator, sample_rate: int, sound: Samples) -> Samples:
    """Lay a sound on a noise floor."""
    return np.asarray(sound + _level(rng, -100, -40) * coloured_noise(rng, sample_rate, sound.size))


def _band_limited(rng: Generator, sample_rate: int, sound: Samples) -> Samples:
    """Low-pass filter at 2 kHz or more, like a lower sample rate or a lossy file."""
    highest = log_uniform(rng, 2000.0, 0.48 * sample_rate)
    sections = signal.ellip(8, 0.1, 80, highest, fs=sample_rate, output="sos")
    return np.asarray(signal.sosfiltfilt(sections, sound, padlen=min(27, len(sound) - 1)))


_EFFECTS = ((0.2, _overdriven), (0.3, _reverberated), (0.6, _with_noise), (0.25, _band_limited))
