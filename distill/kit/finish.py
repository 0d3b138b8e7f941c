"""Finish the sounds of an instrument: trim silence, loop steady sounds, match levels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.audio.measure import level_db
from distill.audio.output import Output
from distill.generate.faults import Samples
from distill.generate.rejection import GeneratedSound
from distill.kit.loops import Loop, looped_alike

TRIM_DB = -60.0  # relative to the peak; both ends are trimmed at this threshold


PEAK_DB = -1.0  # dBFS, highest peak of an instrument


FADE_SECONDS = 0.02  # fade-out


LEAD_SECONDS = 0.001  # fade-in before the first sample above the threshold


def finish(samples: Samples, sample_rate: int) -> Samples:
    """Trim silence at both ends of samples `[N]` or `[N, 2]`, which are not all silent, and fade the end."""
    magnitude = np.abs(samples).reshape(len(samples), -1).max(axis=1)
    first, last = np.flatnonzero(magnitude >= float(magnitude.max()) * _gain(TRIM_DB))[
        [0, -1]
    ].tolist()
    lead = min(first, int(LEAD_SECONDS * sample_rate))
    kept = samples[first - lead : last + 1].astype(np.float64)
    kept[:lead].T[...] *= np.linspace(0.0, 1.0, lead, endpoint=False)
    fade = min(int(FADE_SECONDS * sample_rate), len(kept) // 2)
    kept[len(kept) - fade :].T[...] *= np.linspace(1.0, 0.0, fade)
    trimmed: Samples = kept.astype(np.float32)
    return trimmed


def _gain(decibels: float) -> float:
    return float(10 ** (decibels / 20))


class Finished(NamedTuple):
    """Sound of a group, its samples to write, its loop if any, and dB below the requested loudness."""

    sound: GeneratedSound
    samples: Samples
    loop: Loop | None
    under_db: float


def finish_instrument(sounds: Sequence[GeneratedSound], output: Output) -> list[Finished]:
    """Finish the sounds of an instrument: trim, loop all or none, and match level or loudness."""
    rate = output.sample_rate
    trimmed = [finish(sound.samples, rate) for sound in sounds]
    held = [
        number
        for number, sound in enumerate(sounds)
        if sound.note is not None and sound.pitch is not None
    ]
    found = looped_alike([trimmed[number] for number in held], rate, int(FADE_SECONDS * rate))
    loops = dict(zip(held, found, strict=True))
    made = [loops.get(number, (samples, None)) for number, samples in enumerate(trimmed)]
    even = [
        output.of(samples, rate) for samples in at_one_level([samples for samples, _ in made], rate)
    ]
    return [
        Finished(sound, level.samples, loop, level.under_db)
        for sound, level, (_, loop) in zip(sounds, even, made, strict=True)
    ]


def at_one_level(sounds: Sequence[Samples], sample_rate: int) -> list[Samples]:
    """Scale sounds `[N]` or `[N, 2]`, none silent, to the highest common `level_db` with peaks up to PEAK_DB."""
    over = [
        level_db(samples, sample_rate) - 20 * np.log10(np.abs(samples).max()) for samples in sounds
    ]
    level = min(over, default=0.0) + PEAK_DB
    return [
        (samples * _gain(level - level_db(samples, sample_rate))).astype(np.float32)
        for samples in sounds
    ]
