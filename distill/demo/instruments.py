"""Synthesis of the demo corpus's instruments: each function makes one sound from a few physical settings.

Every instrument returns float64 samples `[N]` at `DEMO_SAMPLE_RATE`, of no particular level. `seconds` is both the
length and the time in which the slowest part falls by `_RING_DB`, so a sound ends when it has decayed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import signal

DEMO_SAMPLE_RATE = 44100

Samples = NDArray[np.float64]  # [N]

_RING_DB = 42.0


def plucked_string(
    rng: Generator, frequency: float, seconds: float, brightness: float, pick_position: float
) -> Samples:
    """Extended Karplus-Strong string (Jaffe and Smith 1983) plucked at `pick_position` of its length, with a body.

    `frequency` in Hz; `brightness` 0 to 1 opens the pluck and lowers the string's loss at high frequencies.
    """
    radians = 2 * np.pi * frequency / DEMO_SAMPLE_RATE
    period = DEMO_SAMPLE_RATE / frequency
    loss = np.array([1, 1]) / 2 + np.array([1, -1]) * (
        0.1 + 0.3 * brightness
    )  # two-tap average of the loop
    response = loss[0] + loss[1] * np.exp(-1j * radians)
    loss *= 10 ** (-_RING_DB / 20 / (frequency * seconds)) / np.abs(response)

    # The loop is one period long: whole samples, the averager's phase delay, and an all-pass for the remaining
    # fraction, kept in 0.3 to 1.3 samples where its delay is flat.
    rest = period + np.angle(response) / radians
    delay = int(rest - 0.3)
    fraction = rest - delay
    allpass = np.sin((1 - fraction) * radians / 2) / np.sin((1 + fraction) * radians / 2)
    forward = np.array([1.0, allpass])
    feedback = np.zeros(delay + 3)
    feedback[:2] = forward
    feedback[delay:] -= np.convolve(loss, forward[::-1])

    pluck = np.zeros(_time(seconds).size)
    pluck[: int(period)] = rng.standard_normal(int(period))
    pluck[0] += 0.7 * np.sqrt(period)
    pluck = _filter(pluck, "lowpass", 2 * frequency * 10**brightness, order=1)
    shift = max(1, round(pick_position * period))
    pluck[shift:] -= pluck[:-shift].copy()
    string: Samples = signal.lfilter(forward, feedback, pluck)
    body = (
        (104.0, 8.0, 1.2),
        (207.0, 12.0, 0.9),
        (392.0, 14.0, 0.5),
    )  # Hz, Q, gain of resonances: a small guitar
    return string + sum(
        gain * np.asarray(signal.lfilter(*signal.iirpeak(hertz, quality, DEMO_SAMPLE_RATE), string))
        for hertz, quality, gain in body
    )


def struck_bar(
    rng: Generator,
    frequency: float,
    seconds: float,
    ratios: Sequence[float],
    hardness: float,
    tremolo: float = 0.0,
) -> Samples:
    """Bar whose modes lie at `ratios` times `frequency` (Hz), hit by a mallet of `hardness` 0 to 1.

    A hard mallet touches the bar for a shorter time, so it excites higher modes and knocks louder. `tremolo` is the
    depth, 0 to 1, of a vibraphone's rotating resonator discs.
    """
    stretch = np.asarray(ratios)
    contact_seconds = 0.0015 * 0.05**hardness
    strike = 1 / (1 + (2 * frequency * stretch * contact_seconds) ** 2)
    bar = _modes(
        frequency * stretch,
        strike * rng.uniform(0.8, 1.2, stretch.size),
        seconds / stretch**0.8,
        seconds,
    )
    knock = _filter(rng.standard_normal(bar.size), "lowpass", 0.5 / contact_seconds)
    bar += (0.1 + 0.3 * hardness) * knock * _decay(0.03, seconds)
    discs = 0.5 - 0.5 * np.cos(2 * np.pi * 5.5 * _time(seconds))
    return np.asarray(bar * (1 - tremolo * discs))


def kick(rng: Generator, frequency: float, seconds: float, sweep: float, click: float) -> Samples:
    """Kick drum: a sine that falls from `sweep` times `frequency` (Hz) down to it, and a beater's `click` 0 to 1."""
    glide = frequency * (1 + (sweep - 1) * _decay(0.2 * seconds, seconds))
    drum = np.sin(2 * np.pi * np.cumsum(glide) / DEMO_SAMPLE_RATE) * _decay(seconds, seconds)
    beater = _filter(rng.standard_normal(drum.size), "bandpass", (1500, 6000))
    return drum + click * beater * _decay(0.02, seconds)


def tom(rng: Generator, frequency: float, seconds: float) -> Samples:
    """Tom: the modes of a circular membrane, tightened by the blow so that the pitch sags, and the stick's noise."""
    ratios = np.array([1.0, 1.59, 2.14, 2.30, 2.65, 2.92])  # zeros of the Bessel functions
    amplitudes = 0.55 ** np.arange(ratios.size) * rng.uniform(0.8, 1.2, ratios.size)
    head = _modes(frequency * ratios, amplitudes, seconds / ratios**1.5, seconds, bend=0.12)
    stick = _filter(rng.standard_normal(head.size), "bandpass", (400, 5000))
    return head + 0.8 * stick * _decay(0.05, seconds)


def snare(rng: Generator, frequency: float, seconds: float, wires: float) -> Samples:
    """Snare: two shell modes from `frequency` (Hz) and the rattle of the wires, whose level is `wires` 0 to 1."""
    modes, levels = frequency * np.array([1, 1.62]), np.array([1, 0.6])
    shell = _modes(modes, levels, np.array([0.5, 0.4]) * seconds, seconds, bend=0.1)
    rattle = _filter(rng.standard_normal(shell.size), "bandpass", (1200, 11000), order=1)
    crack = _filter(rng.standard_normal(shell.size), "highpass", 2500)
    return (
        shell
        + 1.5 * wires * rattle * _decay(seconds, seconds)
        + 0.6 * crack * _decay(0.03, seconds)
    )


def hat(rng: Generator, seconds: float, cutoff: float) -> Samples:
    """Hi-hat: the odd harmonics of six clashing square waves and some noise, above `cutoff` Hz."""
    oscillators = (205.3, 304.4, 369.6, 522.7, 540.0, 800.0)  # Hz, of the TR-808 cymbal
    harmonics = np.arange(1, 80, 2)
    frequencies = np.outer(oscillators, harmonics)
    audible = (frequencies > cutoff / 2) & (frequencies < 18000)
    amplitudes = (np.ones((len(oscillators), 1)) / harmonics)[audible]
    phases = rng.uniform(0, 2 * np.pi, amplitudes.size)
    metal = _modes(frequencies[audible], amplitudes, np.array(seconds), seconds, phases)
    hiss = rng.standard_normal(metal.size) * _decay(0.7 * seconds, seconds)
    return _filter(metal / metal.std() + 0.5 * hiss / hiss.std(), "highpass", cutoff, order=4)


def clap(rng: Generator, seconds: float, frequency: float) -> Samples:
    """Hand clap: three bursts of noise around `frequency` (Hz) about 11 ms apart, and a quieter one that decays."""
    time = _time(seconds)
    onsets = np.concatenate([[0], np.cumsum(rng.uniform(0.009, 0.013, 3))])
    rings, levels = np.array([0.03, 0.03, 0.03, seconds]), np.array([1.0, 1.0, 1.0, 0.6])
    latest = np.searchsorted(onsets, time, side="right") - 1
    envelope = levels[latest] * 10 ** (-_RING_DB / 20 * (time - onsets[latest]) / rings[latest])
    noise = _filter(rng.standard_normal(time.size), "bandpass", (0.7 * frequency, 2.2 * frequency))
    return np.asarray(envelope * noise)


def fm_bell(
    rng: Generator, frequency: float, seconds: float, ratio: float, index: float
) -> Samples:
    """Bell by frequency modulation (Chowning 1973): inharmonic `ratio` of modulator to carrier, decaying `index`.

    The modulator is tuned a fraction of a hertz off, because the partials of a cast bell come in beating pairs.
    """
    time = _time(seconds)
    modulators = ratio * frequency + rng.uniform(0.3, 0.9) * np.array([[-1.0], [1.0]])  # [2, 1] Hz
    depth = index * _decay(1.6 * seconds, seconds)
    pair = np.sin(
        2 * np.pi * frequency * time + depth * np.sin(2 * np.pi * modulators * time)
    )  # [2, N]
    hum = 0.15 * np.sin(np.pi * frequency * time)
    return np.asarray((pair.mean(axis=0) + hum) * _decay(seconds, seconds))


def noise_sweep(
    rng: Generator, seconds: float, centres: Sequence[float], resonance: float, peak: float
) -> Samples:
    """White noise through a resonant band-pass that glides through `centres` (Hz), loudest at `peak` (0 to 1) of it.

    The filter is applied as the gain of two resonators of Q `resonance` in series on short-time spectra.
    """
    framing = {"fs": DEMO_SAMPLE_RATE, "nperseg": 1024, "noverlap": 768}
    noise = rng.standard_normal(_time(seconds).size)
    hertz, times, spectra = signal.stft(noise, **framing)  # [F, frames]
    centre = np.exp(np.interp(times, np.linspace(0, seconds, len(centres)), np.log(centres)))
    ratio = np.maximum(hertz, hertz[1] / 2)[:, None] / centre
    gain = 1 / (1 + (resonance * (ratio - 1 / ratio)) ** 2)
    _, swept = signal.istft(spectra * gain, **framing)
    position = _time(seconds) / seconds
    swell = np.minimum(position / peak, (1 - position) / (1 - peak)) ** 2
    return np.asarray(swept[: noise.size] * swell)


def chord(
    rng: Generator, frequencies: Sequence[float], seconds: float, brightness: float, attack: float
) -> Samples:
    """Pad: three slightly detuned voices with their own vibrato for each of `frequencies` (Hz).

    `brightness` 0 to 1 sets how slowly the harmonics fall off; `attack` is the rise in seconds.
    """
    time = _time(seconds)
    total = np.zeros(time.size)
    for frequency in frequencies:
        for detune_cents in (-6.0, 0.0, 6.0):
            rate, start = rng.uniform(4.6, 5.8), rng.uniform(0, 2 * np.pi)
            cents = detune_cents + rng.normal(0, 1) + 5 * np.sin(2 * np.pi * rate * time + start)
            total += _harmonics(
                rng, frequency * 2 ** (cents / 1200), frequency, 2.2 - 1.2 * brightness
            )
    return total * _swell(seconds, attack, 0.35 * seconds)


def blown_pipe(
    rng: Generator, frequency: float, seconds: float, breath: float, brightness: float
) -> Samples:
    """Flute: a tone held at `frequency` (Hz) that starts a little flat, then vibrates, in the noise of the breath.

    `breath` is the level of the noise next to the tone, which is louder at the start; `brightness` is as for `chord`.
    """
    time = _time(seconds)
    vibrato = np.sin(2 * np.pi * rng.uniform(4.8, 5.6) * time) * (time / 0.6).clip(0, 1)
    hertz = frequency * 2 ** ((8 * vibrato - 30 * _decay(0.15, seconds)) / 1200)
    tone = _harmonics(rng, hertz, frequency, 3.0 - 1.2 * brightness) * (1 + 0.1 * vibrato)
    air = _filter(
        rng.standard_normal(time.size), "bandpass", (0.8 * frequency, 9 * frequency), order=1
    )
    return np.asarray(
        (tone + breath * air * (1 + 3 * _decay(0.2, seconds))) * _swell(seconds, 0.06, 0.2)
    )


def glide(
    rng: Generator, frequencies: Sequence[float], seconds: float, brightness: float, hold: float
) -> Samples:
    """Synthesiser whose pitch glides through `frequencies` (Hz), each held `hold` times as long as a glide takes."""
    ends = np.cumsum([part for _ in frequencies for part in (hold, 1.0)][:-1])
    times = np.concatenate([[0.0], ends]) / ends[-1] * seconds
    hertz = np.exp(np.interp(_time(seconds), times, np.repeat(np.log(frequencies), 2)))
    tone = _harmonics(rng, hertz, max(frequencies), 2.4 - 1.2 * brightness)
    return tone * _swell(seconds, 0.02, 0.15)


def _time(seconds: float) -> Samples:
    return np.arange(round(seconds * DEMO_SAMPLE_RATE)) / DEMO_SAMPLE_RATE


def _swell(seconds: float, rise: float, fall: float) -> Samples:
    """Envelope `[N]` that rises for `rise` and falls for `fall` seconds."""
    time = _time(seconds)
    edges = np.minimum(time / rise, (seconds - time) / fall).clip(0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * edges))


def _harmonics(rng: Generator, hertz: Samples, highest: float, slope: float) -> Samples:
    """Harmonics of a pitch `[N]` that is at most about `highest` Hz; their amplitudes fall by the power `slope`."""
    numbers = np.arange(1, 33)
    phase = 2 * np.pi * np.cumsum(hertz) / DEMO_SAMPLE_RATE
    weights = numbers**-slope * np.exp(1j * rng.uniform(0, 2 * np.pi, numbers.size))
    weights[numbers * highest > 0.45 * DEMO_SAMPLE_RATE] = 0
    # Harmonic k is the k-th power of the fundamental's rotation, so the sum is a polynomial in it.
    return np.asarray(
        np.polynomial.polynomial.polyval(np.exp(1j * phase), np.concatenate([[0], weights])).imag
    )


def _decay(ring: float, seconds: float) -> Samples:
    """Exponential envelope `[N]` of length `seconds` that falls by `_RING_DB` in `ring` seconds."""
    return 10 ** (-_RING_DB / 20 * _time(seconds) / ring)


def _modes(
    frequencies: Samples,
    amplitudes: Samples,
    rings: Samples,
    seconds: float,
    phases: Any = 0.0,
    bend: float = 0.0,
) -> Samples:
    """Sum of decaying sines `[N]`, one for each entry of `[modes]` arrays; `bend` raises their initial pitch."""
    bent = _time(seconds) + bend * np.cumsum(_decay(0.3, seconds)) / DEMO_SAMPLE_RATE
    total = np.zeros(bent.size)
    modes = np.broadcast_arrays(frequencies, amplitudes, rings, phases)
    for frequency, amplitude, ring, start in zip(*modes, strict=True):
        if frequency < 0.45 * DEMO_SAMPLE_RATE:
            total += (
                amplitude * np.sin(2 * np.pi * frequency * bent + start) * _decay(ring, seconds)
            )
    return total


def _filter(samples: Samples, kind: str, hertz: ArrayLike, order: int = 2) -> Samples:
    sections = signal.butter(order, hertz, kind, fs=DEMO_SAMPLE_RATE, output="sos")
    return np.asarray(signal.sosfilt(sections, samples))
