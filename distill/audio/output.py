"""Output of sounds: sample rate, loudness and bit depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from distill.audio.pcm import F32
from distill.audio.write import AudioFormat, Bits, audio_file, with_sampler_chunk, with_tempo_chunk
from distill.text import several

CEILING_DB = -1.0  # dBFS: highest peak of a sound after loudness normalisation
UNDER_DB = 0.05  # smaller differences from the requested loudness are not reported


class Levelled(NamedTuple):
    """Samples `[N]` or `[N, 2]`, and how far they stay under the requested loudness, in dB."""

    samples: F32
    under_db: float = 0.0


class Tempo(NamedTuple):
    """Tempo of a loop in beats a minute, and its length in beats."""

    bpm: float
    beats: int


@dataclass(frozen=True)
class Output:
    """Sample rate in Hz, loudness in LUFS or None for no change, bits of a sample in a file, and tempo of a loop or None."""

    sample_rate: int
    loudness: float | None = None
    bits: Bits = 16
    tempo: Tempo | None = None

    def of(self, samples: F32, sample_rate: int) -> Levelled:
        """Convert samples `[N]` or `[N, 2]` from `sample_rate` Hz to this output's rate and loudness."""
        made = resampled(samples, sample_rate, self.sample_rate)
        return (
            Levelled(made)
            if self.loudness is None
            else levelled(made, self.sample_rate, self.loudness)
        )

    def file(self, path: Path, samples: F32, kind: AudioFormat, mark: str) -> bytes:
        """Encode samples `[N]` or `[N, 2]` as the bytes of an audio file; WAV files of loops hold tempo and loop points."""
        middle_c = 60  # MIDI key of a loop
        data = audio_file(path, samples, self.sample_rate, kind, mark, self.bits)
        if self.tempo is None or kind != "wav":
            return data
        data = with_tempo_chunk(data, self.tempo.bpm, self.tempo.beats)
        return with_sampler_chunk(data, self.sample_rate, middle_c, (0, len(samples) - 1))

    def lines(self, under_db: Sequence[float], kind: str = "sound") -> list[str]:
        """Message about sounds that stay under the loudness, as a list of one line or none."""
        under = [decibels for decibels in under_db if decibels >= UNDER_DB]
        if not under or self.loudness is None:
            return []
        return [
            f"{several(len(under), kind)} of {len(under_db)} up to {max(under):.1f} dB under {self.loudness:g} LUFS, where "
            f"peaks reach {CEILING_DB:g} dBFS; at {self.loudness - max(under) - UNDER_DB:.1f} LUFS all are equally loud"
        ]


def resampled(samples: F32, sample_rate: int, wanted: int) -> F32:
    """Resample `[N]` or `[N, 2]` to `wanted` Hz. If this raises the peak above full scale, scale the sound down."""
    if sample_rate == wanted:
        return samples
    made: F32 = soxr.resample(samples, sample_rate, wanted, "VHQ")
    over = float(np.abs(made).max(initial=0.0)) / max(1.0, float(np.abs(samples).max(initial=0.0)))
    return made / np.float32(max(1.0, over))


def levelled(samples: F32, sample_rate: int, loudness: float) -> Levelled:
    """Normalise samples `[N]` or `[N, 2]` to a loudness in LUFS, or less if their peak would exceed CEILING_DB.

    Silence is unchanged.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    own = integrated_loudness(samples / peak, sample_rate) if peak else -np.inf
    if not np.isfinite(own):
        return Levelled(samples)
    gain_db = min(loudness - own, CEILING_DB)  # relative to samples with peak 1
    scaled: F32 = (samples * (10 ** (gain_db / 20) / peak)).astype(np.float32)
    return Levelled(scaled, loudness - own - gain_db)


def integrated_loudness(samples: NDArray[np.floating], sample_rate: int) -> float:
    """Integrated loudness of samples `[N]` or `[N, 2]` in LUFS, by ITU-R BS.1770-4; -inf for silence.

    A sound shorter than a gating block of 0.4 s is one block. Filters are the recommendation's filters for 48 kHz.
    """
    from pyloudnorm import Meter  # SciPy takes a while to load

    rate, block, step = 48_000, 19_200, 4_800
    sound = soxr.resample(samples.astype(np.float64), sample_rate, rate, "HQ")
    whole_blocks = len(sound) - max(0, len(sound) - block) % step
    seconds = min(block, len(sound)) / rate
    padded = np.pad(
        sound[:whole_blocks], [(0, 1), (0, 0)][: sound.ndim]
    )  # rounding may need one more
    return float(Meter(rate, "DeMan", seconds).integrated_loudness(padded))
