"""Finish the sounds of an instrument: resample, trim silence, loop steady sounds, match levels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.audio.measure import level_db
from distill.audio.output import Output, resampled
from distill.generate.decoding import in_channels
from distill.generate.selection.faults import Samples
from distill.generate.selection.rejection import GeneratedSound
from distill.kit.kit import ONE_SHOT, Play, held, held_by
from distill.kit.loops import looped_alike
from distill.novelty.verdict import Novelty

PEAK_DB = -1.0  # dBFS, highest peak of an instrument
FADE_SECONDS = 0.02  # fade-out
LEAD_SECONDS = 0.001  # fade-in before the first sample that is loud enough to stay


def finish(samples: Samples, sample_rate: int) -> Samples:
    """Trim silence at both ends of samples `[N]` or `[N, 2]`, which are not all silent, and fade the end."""
    magnitude = np.abs(samples).reshape(len(samples), -1).max(axis=1)
    first, last = np.flatnonzero(magnitude >= float(magnitude.max()) * _gain(-60.0))[
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
    """Samples, playback, novelty, level before normalisation, and dB below the requested loudness."""

    samples: Samples
    play: Play
    novelty: Novelty | None
    level_db: float
    under_db: float


def finish_instrument(
    sounds: Sequence[GeneratedSound], sample_rate: int, output: Output
) -> list[Finished]:
    """Finish the sounds of an instrument, made at `sample_rate`: all mono or all stereo, all or none looped.

    Resamples, trims and loops the sounds, and matches their level or loudness.
    """
    rate = output.sample_rate
    channels = max((sound.samples.ndim for sound in sounds), default=1)
    whole = [resampled(in_channels(sound.samples, channels), sample_rate, rate) for sound in sounds]
    made = dict(enumerate(finish(samples, rate) for samples in whole))
    plays = dict.fromkeys(made, ONE_SHOT)
    tunes = {
        number: round(100 * (sound.note - sound.pitch))
        for number, sound in enumerate(sounds)
        if sound.note is not None and sound.pitch is not None
    }
    looped = looped_alike([made[number] for number in tunes], rate, int(FADE_SECONDS * rate))
    for (number, tune), (samples, loop) in zip(tunes.items(), looped, strict=True):
        made[number] = samples
        plays[number] = held_by(loop, tune, rate) if loop else held(tune)
    even = [output.of(samples, rate) for samples in at_one_level(list(made.values()), rate)]
    return [
        Finished(level.samples, play, sound.novelty, level_db(samples, rate), level.under_db)
        for level, play, sound, samples in zip(even, plays.values(), sounds, whole, strict=True)
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
