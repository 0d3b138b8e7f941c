"""Decode codes to finished sounds: stereo, fades at both ends, and a limiter."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from distill.audio.image import fold
from distill.audio.side_info import UNKNOWN, SideInfo
from distill.audio.upmix import upmixed
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.selection.faults import (
    Samples,
)

NEAREST_SECONDS = 8.0  # maximum length of the nearest recording that is played next to a sound
PEAK = 0.98  # maximum amplitude
MOST_SOFTER = 1.06  # maximum factor (half a decibel) of gain reduction; higher peaks are clipped
MOST_CUT = 2.0  # maximum factor (6 dB) of clipping
NO_SAMPLES: Samples = np.empty(0, np.float32)


def decode_sounds(
    codec: VQVAE,
    sounds: Iterable[Codes],
    length: int | None = None,
    side_info: Iterable[SideInfo] = itertools.repeat(UNKNOWN),
    width: float = 1.0,
) -> list[Samples]:
    """Decode codes `[F, Q]` of each sound to samples, faded at both ends and `limited`.

    Samples are `[N, 2]` if the side information is stereo and `width` is not 0, else `[N]`, cut to `length` if given.
    Raises ArtifactError if the codec gives NaN or infinite values.
    """
    return [samples for samples, _ in decoded_sounds(codec, sounds, length, side_info, width)]


def decoded_sounds(
    codec: VQVAE,
    sounds: Iterable[Codes],
    length: int | None = None,
    side_info: Iterable[SideInfo] = itertools.repeat(UNKNOWN),
    width: float = 1.0,
) -> Iterator[tuple[Samples, Samples]]:
    """Samples of each sound, see `decode_sounds`, and its mono samples `[N]`, which may be the same array."""
    rate = codec.spectrogram.sample_rate
    own, of_draws = itertools.tee(side_info if width else (about.in_mono for about in side_info))

    def finished(audio: torch.Tensor, about: SideInfo) -> tuple[Samples, Samples]:
        first, *other = np.atleast_2d(audio[..., :length].cpu().numpy().copy())
        if not np.isfinite(first).all():
            raise ArtifactError(
                "expected finite samples of the codec, found NaN or infinite values; train it again"
            )
        stereo = [upmixed(first, other[0], about.image, rate, width)] if other else []
        in_mono, *others = [limited(faded(samples, rate)) for samples in (first, *stereo)]
        return (*others, in_mono)[0], in_mono

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # finishes several sounds at once
        decoded = [*decode_each(codec, map(torch.from_numpy, sounds), of_draws)]
        yield from threads.map(finished, decoded, own)


def in_channels(samples: Samples, channels: int) -> Samples:
    """Copy mono samples `[N]` to two channels if `channels` is 2; samples `[N, 2]` stay."""
    return np.repeat(samples[:, None], 2, axis=1) if samples.ndim < channels else samples


def folded(samples: Samples, sample_rate: int) -> Samples:
    """Downmix to samples `[N]`, as loud as both channels together in every band; mono samples stay."""
    return samples if samples.ndim == 1 else fold(samples, sample_rate)


def faded(samples: Samples, sample_rate: int) -> Samples:
    """Fade samples `[N]` or `[N, 2]` at both ends, in place."""
    fade_in_seconds, fade_out_seconds = 0.0005, 0.005  # a longer fade-in softens attacks
    for seconds, part in ((fade_in_seconds, samples), (fade_out_seconds, samples[::-1])):
        fade = min(int(seconds * sample_rate), len(samples) // 2)
        part[:fade].T[...] *= np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
    return samples


def limited(samples: Samples) -> Samples:
    """Limit samples `[N]` or `[N, 2]` to peaks of PEAK: lower the gain by at most MOST_SOFTER, then clip.

    Codes do not hold phases, so decoded partials of a clipped recording add up to higher peaks. Level that clipping
    removes is restored. Clipping takes at most a factor of MOST_CUT from peaks; higher peaks lower the gain instead.
    """
    over = float(np.abs(samples).max(initial=0.0)) / PEAK
    if over <= MOST_SOFTER:
        return samples * np.float32(1 / max(1.0, over))
    samples = samples * np.float32(min(1 / MOST_SOFTER, MOST_CUT / over))
    level, rounds = np.linalg.norm(samples), 8
    for _ in range(rounds):
        cut = samples.clip(-PEAK, PEAK)
        samples = cut * (level / np.linalg.norm(cut))
    return samples.clip(-PEAK, PEAK)
