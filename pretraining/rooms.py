"""Rooms, microphones and cutting: what the recordings of one collection share."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import signal

from distill.audio.synthetic_sounds import HIGHEST_SHARE, Samples, log_uniform
from pretraining.instruments import normalised

MAX_SECONDS = 8.0

Finish = Callable[[Generator, Samples], NDArray[np.float32]]


def room_and_cutting(rng: Generator, sample_rate: int) -> Finish:
    """Draw how recordings are made: `finish(take, sound)` gives one in [-1, 1], of 16 bits."""
    is_roomy, is_dull, is_driven = rng.random() < 0.5, rng.random() < 0.15, rng.random() < 0.2
    response = _room(rng, sample_rate) if is_roomy else None
    tone = _tone_control(rng, sample_rate) if rng.random() < 0.5 else None
    highest = (
        0.46 * float(rng.choice((8_000, 11_025, 16_000, 22_050, 32_000)))
        if is_dull
        else sample_rate
    )
    drive = rng.uniform(1, 6) if is_driven else 0.0
    wet = rng.uniform(0.05, 0.8)
    levels, floor = (
        float(rng.choice((0.5, 3.0, 8.0))),
        float(rng.choice((0.0, 0.0, -90.0, -70.0, -50.0))),
    )
    hiss, hum = (
        _tone_control(rng, sample_rate),
        rng.choice((0.0, 50.0, 60.0), p=(0.85, 0.075, 0.075)),
    )
    is_trimmed, pads, is_even = rng.random() < 0.75, rng.random() < 0.25, rng.random() < 0.3
    keeps_levels = rng.random() < 0.5
    band = signal.ellip(
        6, 0.1, 70, min(highest, HIGHEST_SHARE * sample_rate), fs=sample_rate, output="sos"
    )

    def finish(take: Generator, sound: Samples) -> NDArray[np.float32]:
        level = min(1.0, float(np.abs(sound).max())) if keeps_levels else 1.0
        sound = normalised(sound)
        if response is not None:
            reverberation = normalised(signal.fftconvolve(sound, response))
            sound = np.pad(sound, (0, len(reverberation) - len(sound))) + wet * reverberation
        if tone is not None:
            sound = signal.sosfilt(tone, sound)
        if drive:
            sound = np.tanh(normalised(sound) * drive)
        if highest < HIGHEST_SHARE * sample_rate:
            sound = signal.sosfilt(band, sound)
        sound = normalised(sound)
        loud = np.flatnonzero(np.abs(sound) > 10 ** (-take.uniform(35, 80) / 20))
        if is_trimmed and len(loud):
            early = 0.0 if is_even else take.exponential(0.003)
            sound = sound[max(0, loud[0] - int(sample_rate * early)) : loud[-1] + 1]
        elif take.random() < 0.5:
            sound = np.pad(sound, (int(sample_rate * take.exponential(0.05)), 0))
        if pads and take.random() < 0.5:
            sound = np.pad(sound, (0, int(sample_rate * take.exponential(0.3))))
        sound = (
            sound[: int(sample_rate * MAX_SECONDS)]
            * level
            * 10 ** (-abs(take.normal(0, levels)) / 20)
        )
        if floor:
            noise = signal.sosfilt(hiss, take.standard_normal(len(sound)))
            if hum:
                noise += np.sin(
                    2 * np.pi * hum * np.arange(len(sound)) / sample_rate + take.uniform(0, 6.3)
                )
            sound = sound + 10 ** (floor / 20) * noise
        if take.random() < 0.7:
            fade = min(len(sound), int(sample_rate * take.exponential(0.01)) + 1)
            sound[-fade:] *= np.linspace(1, 0, fade)
        sound = np.pad(sound, (0, max(0, int(sample_rate * 0.04) - len(sound))))
        return (np.round(np.clip(np.nan_to_num(sound), -1, 1) * 32767) / 32768).astype(np.float32)

    return finish


def _room(rng: Generator, sample_rate: int) -> Samples:
    """An impulse response `[N]`: a few early reflections, and noise whose high bands decay first."""
    seconds, bands = log_uniform(rng, 0.04, 1.4), 5
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    response = np.zeros(len(time))
    edges = np.exp(np.linspace(np.log(60), np.log(HIGHEST_SHARE * sample_rate), bands + 1))
    decays = seconds / 6.9 * np.linspace(1, rng.uniform(0.15, 1), bands)
    levels = 10 ** (rng.uniform(-12, 0, bands) / 20)
    for low, high, level, decay in zip(edges, edges[1:], levels, decays, strict=False):
        sections = signal.butter(1, (low, high), "bandpass", fs=sample_rate, output="sos")
        response += (
            level * signal.sosfilt(sections, rng.standard_normal(len(time))) * np.exp(-time / decay)
        )
    response *= np.clip(time / log_uniform(rng, 0.001, 0.03), 0, 1)
    for reflection in (rng.exponential(0.012, int(rng.integers(0, 12))) * sample_rate).astype(int):
        if reflection < len(response):
            response[reflection] += rng.uniform(-1, 1) * 2 * response.std()
    return response


def _tone_control(rng: Generator, sample_rate: int) -> NDArray[np.float64]:
    """Second-order sections of a gentle slope at a random frequency."""
    frequency = log_uniform(rng, 100, HIGHEST_SHARE * sample_rate)
    kind = str(rng.choice(("lowpass", "highpass")))
    sections: NDArray[np.float64] = signal.butter(1, frequency, kind, fs=sample_rate, output="sos")
    gain = rng.uniform(0.1, 0.9)  # of the sound as it is, beside the filtered one
    sections[0, :3] = sections[0, :3] * (1 - gain) + sections[0, 3:] * gain
    return sections
