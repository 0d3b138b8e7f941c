"""Fidelity of decoded sounds: loudness, hardness, sharpness and tonality compared with the originals.

A mel distance is almost blind to these (docs/benchmarks.md). It compares logarithms band by band, and rates a sound
3 dB too soft, a smeared attack, or noise in place of a tone as a good copy. Sounds are float arrays `[N]`; decibels are
decoded minus original.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow
from distill.audio.measure import window_energies
from distill.audio.partial_noise import NOISE, PartialNoise, partial_noise_summary
from distill.audio.partials import TONE, Tone, tone_summary
from distill.codec.data import CodecData, evenly_spaced
from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each

ENVELOPE_SECONDS, ENVELOPE_HOP_SECONDS = 0.002, 0.0005
ATTACK_LOW = 0.1  # of the envelope's peak
FLOOR = 1e-8  # -80 dB, relative to the energy of a sound or its loudest window
MAX_SECONDS = 10.0  # maximum length measured in a recording
PREFIX = "fidelity/"
NAN = float("nan")
SHOWN = (  # name of a measure, words, form of its values, unit
    ("level_db", "level", "+.1f", " dB"),
    ("peak_db", "peak", "+.1f", " dB"),
    ("attack_ms", "attack", "+.1f", " ms"),
    ("pre_attack_db", "before the attack", "+.1f", " dB"),
    ("envelope", "envelope", ".2f", ""),
    ("treble_db", "above 6 kHz", "+.1f", " dB"),
    ("flutter_db", "flutter", "+.1f", " dB"),
)

Samples = NDArray[np.floating]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Fidelity:
    """Measures of one decoded sound; NaN if there is nothing to measure (silence, no attack)."""

    level_db: float  # energy
    peak_db: float  # largest absolute sample
    envelope: float  # correlation of the envelopes
    # Time from a tenth to nine tenths of the envelope's peak, decoded minus original.
    attack_ms: float
    pre_attack_db: float  # proportion of energy in the 50 ms before the original's attack
    treble_db: float  # energy above 6 kHz
    flutter_db: float  # deviation of the level from a line where the original is steady, decoded minus original

    @classmethod
    def measure(cls, original: Samples, decoded: Samples, sample_rate: int) -> Self:
        """Compare `decoded` `[N]` with `original` `[N]`."""
        before, after = np.asarray(original, np.float64), np.asarray(decoded, np.float64)
        if not before.any():
            return cls(*[NAN] * len(fields(cls)))
        envelopes = envelope(before, sample_rate), envelope(after, sample_rate)
        energy = float(np.square(before).sum())
        return cls(
            level_db=_decibels(np.square(after).sum(), energy, FLOOR * energy),
            peak_db=2 * _decibels(np.abs(after).max(), np.abs(before).max(), FLOOR),
            envelope=_correlation(*envelopes),
            attack_ms=attack_ms(envelopes[1]) - attack_ms(envelopes[0]),
            pre_attack_db=_pre_attack_db(before, after, envelopes[0], sample_rate),
            treble_db=_decibels(
                _treble(after, sample_rate), _treble(before, sample_rate), FLOOR * energy
            ),
            flutter_db=_flutter_db(before, after, sample_rate),
        )


def envelope(sound: Samples, sample_rate: int) -> Doubles:
    """Root mean squares of a sound `[N]` in windows of 2 ms, every 0.5 ms."""
    window, hop = (
        max(1, round(seconds * sample_rate)) for seconds in (ENVELOPE_SECONDS, ENVELOPE_HOP_SECONDS)
    )
    return np.asarray(np.sqrt(_powers(np.pad(sound, window // 2), window, hop)))


def attack_ms(shape: Doubles) -> float:
    """Time in ms of the first rise of an envelope from a tenth to nine tenths of its peak; NaN in silence."""
    peak = shape.max()
    if peak <= 0:
        return NAN
    end = int(np.argmax(shape >= 0.9 * peak))
    soft = np.flatnonzero(shape[: end + 1] < ATTACK_LOW * peak)
    last_soft = int(soft.max(initial=-1))
    return (end - last_soft - 1) * ENVELOPE_HOP_SECONDS * 1000


def summary(measured: Iterable[Fidelity]) -> dict[str, float]:
    """Statistics `<measure>/median`, `/p10`, `/p90` over sounds, and `/mean_absolute` for levels.

    NaN values are ignored; a measure with only NaN values is left out.
    """
    statistics: dict[str, float] = {}
    columns = zip(*map(astuple, measured), strict=True)
    for field, column in zip(fields(Fidelity), columns, strict=False):
        values = np.array(column, dtype=np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            percentiles = np.percentile(values, (50, 10, 90)).tolist()
            names = (f"{field.name}/{name}" for name in ("median", "p10", "p90"))
            statistics |= zip(names, percentiles, strict=True)
            if field.name in ("level_db", "peak_db"):
                statistics[f"{field.name}/mean_absolute"] = float(np.abs(values).mean())
    return statistics


def decoded_pairs(
    codec: VQVAE, corpus: Corpus, entries: Sequence[ManifestRow], seconds: float = MAX_SECONDS
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield original and decoded samples `[N]` of the first `seconds` of each recording, in bounded memory."""
    longest = round(seconds * corpus.sample_rate)

    def sounds() -> Iterator[Tensor]:
        return (waveform(corpus, entry, 0, min(entry.samples, longest)) for entry in entries)

    seconds_of = (min(entry.samples, longest) / corpus.sample_rate for entry in entries)
    side_info = (
        corpus.side_info(entry).cut(0.0, length).in_mono
        for entry, length in zip(entries, seconds_of, strict=True)
    )
    made = decode_each(codec, encode_each(codec, sounds()), side_info)
    for original, decoded in zip(sounds(), made, strict=True):
        yield original.numpy(), decoded[: len(original)].float().cpu().numpy()


def held_out_fidelity(codec: VQVAE, data: CodecData) -> dict[str, float]:
    """Metrics `fidelity/<measure>/<statistic>`, `tone/<measure>`, `partial_noise/<measure>` of held-out recordings.

    They cover up to 64 recordings of 10 s, and about 4 minutes in total.
    """
    rate, gain, held_out = data.corpus.sample_rate, data.corpus.gain, data.held_out
    seconds = sum(min(MAX_SECONDS, entry.samples / rate) for entry in held_out)
    most = max(1, min(64, int(240.0 * len(held_out) / seconds)))
    chosen = [held_out[index] for index in evenly_spaced(len(held_out), most)]
    pairs = [(gain * one, gain * other) for one, other in decoded_pairs(codec, data.corpus, chosen)]
    measured = {
        PREFIX: summary([Fidelity.measure(*pair, rate) for pair in pairs]),
        TONE: tone_summary([Tone.measure(*pair, rate) for pair in pairs]),
        NOISE: partial_noise_summary(
            [PartialNoise.measure(one, rate, other) for one, other in pairs]
        ),
    }
    return {
        f"{prefix}{name}": value
        for prefix, found in measured.items()
        for name, value in found.items()
    }


def fidelity_line(metrics: Mapping[str, float]) -> str:
    """One line of text with the metrics of `held_out_fidelity`; "" without metrics."""
    shown = []
    for name, words, form, unit in SHOWN:
        if f"{PREFIX}{name}/median" in metrics:
            middle, low, high = (
                f"{metrics[f'{PREFIX}{name}/{one}']:{form}}" for one in ("median", "p10", "p90")
            )
            shown.append(f"{words} {middle}{unit} ({low} to {high})")
    about = "medians, and from the 10th to the 90th percentile, decoded beside original"
    return f"held-out sound: {', '.join(shown)} ({about})" if shown else ""


def _powers(sound: Samples, window: int, hop: int) -> Doubles:
    """Mean squares of windows that lie inside a sound `[N]`."""
    return np.asarray(np.maximum(0.0, window_energies(sound, window)[::hop]) / window)


def _flutter_db(before: Samples, after: Samples, sample_rate: int) -> float:
    """Mean flutter over all quarter-second windows where the original is steady; NaN if it is never steady.
    Steady: the level deviates from a line by less than 0.5 dB (standard deviation), within 40 dB of the loudest level.
    """
    hop, steady_hops = round(0.01 * sample_rate), 25
    powers = [_powers(sound, 2 * hop, hop) for sound in (before, after)]
    if len(powers[0]) < steady_hops or not powers[0].any():
        return NAN
    floor = FLOOR * powers[0].max()
    levels = [10 * np.log10(np.maximum(power, floor)) for power in powers]
    spans = [np.lib.stride_tricks.sliding_window_view(level, steady_hops) for level in levels]
    deviations = [_deviation_from_a_line(span) for span in spans]
    steady = (deviations[0] < 0.5) & (spans[0].min(axis=1) > levels[0].max() - 40.0)
    return float((deviations[1] - deviations[0])[steady].mean()) if steady.any() else NAN


def _deviation_from_a_line(rows: Doubles) -> Doubles:
    """Standard deviation `[n]` of rows `[n, T]` around their best-fitting lines."""
    time = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    return np.asarray((rows - np.outer(rows @ time / (time @ time), time)).std(axis=1))


def _decibels(value: float, reference: float, floor: float) -> float:
    return float(10 * np.log10(max(float(value), floor) / max(float(reference), floor)))


def _correlation(one: Doubles, other: Doubles) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return float((one * other).sum()) / scale if scale > 0 else NAN


def _pre_attack_db(before: Samples, after: Samples, shape: Doubles, sample_rate: int) -> float:
    """Relative energy in the 50 ms before the attack, decoded minus original in dB; NaN with less than 10 ms."""
    start = (
        int(np.argmax(shape >= ATTACK_LOW * shape.max())) * ENVELOPE_HOP_SECONDS - ENVELOPE_SECONDS
    )
    stop, first = round(start * sample_rate), round(max(0.0, start - 0.05) * sample_rate)
    if stop - first < 0.01 * sample_rate:
        return NAN
    shares = [
        float(np.square(x[first:stop]).sum() / max(1e-20, np.square(x).sum()))
        for x in (after, before)
    ]
    return _decibels(shares[0], shares[1], FLOOR)


def _treble(sound: Samples, sample_rate: int) -> float:
    """Energy above 6 kHz, in squared samples."""
    power = np.square(np.abs(np.fft.rfft(sound)))
    return float(
        2 * power[np.fft.rfftfreq(len(sound), 1 / sample_rate) > 6000.0].sum() / len(sound)
    )
