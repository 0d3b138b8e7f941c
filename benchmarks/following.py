"""How well sounds follow: phrases of known pitch and loudness, and what models make of them.

`python -m benchmarks.following MODEL[=LABEL]... [--write]`. Beside each stand the phrases themselves, sounds of the same
model and length that follow nothing, and how often the meter hears the note of a recording in its own decode. Pitch is
measured by YIN (de Cheveigné and Kawahara 2002), not by the meter that following itself uses, and beside it of the phrases
themselves: what it cannot hear of those it cannot hear of sounds. Both are compared in octaves, since bells and chords have more than one pitch. Timbre is compared by mean log-mel
spectra: is a sound nearer to a recording of the corpus, decoded, than to the phrase?
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import distill
from benchmarks.arguments import refusals_said
from distill.api import Model
from distill.codec.spectral import LogMel

RESULTS = Path(__file__).parent / "results" / "following.csv"
FRAME = 0.01  # seconds
LOWEST, HIGHEST = 50.0, 1500.0  # Hz
APERIODIC = 0.3  # of YIN, from which a frame has no pitch
HEARD_DB = 30.0  # below the loudest frame of a phrase, where its pitch is compared
FORMANTS = ((600.0, 120.0, 1.0), (1100.0, 150.0, 0.6), (2600.0, 250.0, 0.25), (3400.0, 300.0, 0.15))

Doubles = NDArray[np.float64]
Play = Callable[[np.random.Generator, Doubles, float, float], tuple[Doubles, Doubles]]


class Phrase(NamedTuple):
    """A phrase: samples `[N]`, pitch in semitones (MIDI) `[N]`, NaN in rests, and starts of notes in seconds."""

    samples: NDArray[np.float32]
    pitch: Doubles
    starts: list[float]


def phrases(sample_rate: int) -> Iterator[tuple[str, Phrase]]:
    """Sung and plucked phrases of eight notes, low, in the middle and high."""
    for low in (45, 57, 67):
        for seed in (1, 2):
            for kind, play in (("sung", sung_note), ("plucked", plucked_note)):
                yield kind, _phrase(np.random.default_rng((low, seed)), sample_rate, low, play)


def _phrase(rng: np.random.Generator, rate: int, low: int, play: Play) -> Phrase:
    keys = np.clip(low + np.cumsum(rng.choice([-4, -2, -1, 0, 2, 3, 4, 5], 8)), low - 5, low + 12)
    seconds, rests = rng.choice([0.25, 0.35, 0.5, 0.8], 8), rng.choice([0.0, 0.0, 0.08], 8)
    length = round((seconds.sum() + rests.sum() + 0.4) * rate)
    samples, pitch, starts, now = np.zeros(length), np.full(length, np.nan), list[float](), 0.1
    for key, duration, rest in zip(keys, seconds, rests, strict=True):
        first, count = round(now * rate), round(duration * rate)
        sound, course = play(rng, np.arange(count) / rate, float(key), float(duration))
        samples[first : first + count], pitch[first : first + count] = sound, course
        starts.append(now)
        now += duration + rest
    noisy = samples + 1e-4 * np.abs(samples).max() * rng.standard_normal(length)
    return Phrase((0.6 * noisy / np.abs(noisy).max()).astype(np.float32), pitch, starts)


def sung_note(
    rng: np.random.Generator, time: Doubles, key: float, duration: float
) -> tuple[Doubles, Doubles]:
    """A note with formants, vibrato of 40 cents and a scoop."""
    vibrato = (
        0.4
        * np.sin(2 * np.pi * 5.5 * time + rng.uniform(0, 6))
        * np.clip((time - 0.1) / 0.15, 0, 1)
    )
    pitch = key + vibrato - 0.8 * np.exp(-time / 0.03)
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    cycles = np.cumsum(hertz) * (time[1] - time[0])
    total = np.zeros(len(time))
    for number in range(1, 40):
        own = number * hertz
        gain = 0.02 + sum(
            level / (1 + np.square((own - centre) / width)) for centre, width, level in FORMANTS
        )
        total += (
            (own < 0.4 / (time[1] - time[0]))
            * gain
            * np.cos(2 * np.pi * number * cycles + number**2)
            / number**0.3
        )
    envelope = np.clip(time / 0.03, 0, 1) * np.clip((duration - time) / 0.05, 0, 1)
    return total * envelope * 10 ** (rng.uniform(-10, 0) / 20), pitch


def plucked_note(
    rng: np.random.Generator, time: Doubles, key: float, duration: float
) -> tuple[Doubles, Doubles]:
    """A note of partials that decay, the high ones first."""
    hertz = 440 * 2 ** ((key - 69) / 12)
    total = np.zeros(len(time))
    for number in range(1, 25):
        if number * hertz < 0.4 / (time[1] - time[0]):
            total += (
                np.sin(2 * np.pi * number * hertz * time + number)
                * np.exp(-time * (2 + 0.8 * number))
                / number**0.8
            )
    envelope = np.clip(time / 0.002, 0, 1) * np.clip((duration - time) / 0.01, 0, 1)
    return total * envelope * 10 ** (rng.uniform(-8, 0) / 20), np.full(len(time), key)


def yin(samples: NDArray[np.float32], sample_rate: int) -> Doubles:
    """Pitches `[T]` in semitones (MIDI) of samples `[N]`, one each FRAME, NaN for none."""
    longest, shortest, hop = (
        round(sample_rate / LOWEST),
        round(sample_rate / HIGHEST),
        round(FRAME * sample_rate),
    )
    size = 2 * longest
    padded = np.pad(samples.astype(np.float64), (longest, size + longest))
    found = []
    for window in sliding_window_view(padded, size + longest)[::hop][: 1 + len(samples) // hop]:
        own, shifted = window[:size], sliding_window_view(window, size)
        difference = np.square(shifted[: longest + 1] - own).sum(axis=1)
        means = (
            difference[1:]
            * np.arange(1, longest + 1)
            / np.maximum(np.cumsum(difference[1:]), 1e-12)
        )
        below = np.flatnonzero(means[shortest:] < APERIODIC)
        if not len(below):
            found.append(np.nan)
            continue
        lag = shortest + int(below[0])
        while lag + 1 < len(means) and means[lag + 1] < means[lag]:
            lag += 1
        left, middle, right = (
            means[min(max(lag + offset, 0), len(means) - 1)] for offset in (-1, 0, 1)
        )
        shift = 0.5 * (left - right) / max(left - 2 * middle + right, 1e-12)
        found.append(69 + 12 * np.log2(sample_rate / (lag + 1 + np.clip(shift, -0.5, 0.5)) / 440))
    return np.array(found)


@dataclass(frozen=True)
class Figures:
    """How well a sound follows a phrase; pitches but for whole octaves."""

    cents: float  # median
    within_50_cents: float  # share of voiced frames
    vibrato: float  # depth, of that of the phrase
    loudness: float  # correlation, in dB down to 40 below the loudest
    onset_ms: float  # median distance of the steepest rise from the start of a note
    timbre: float  # 1 where it is nearer to the corpus
    seconds: float  # to make it


def measured(
    model: Model, phrase: Phrase, sound: NDArray[np.float32], corpus: Doubles, seconds: float
) -> Figures:
    """Figures of a sound."""
    rate = model.sample_rate
    hop = round(FRAME * rate)
    own, levels = _levels(sound, hop), _levels(phrase.samples, hop)
    frames = min(len(own), len(levels))
    truth = phrase.pitch[: frames * hop : hop][:frames]
    heard = yin(sound, rate)[:frames]
    there = np.isfinite(truth) & (levels[:frames] > levels.max() - HEARD_DB)
    away = (heard - truth)[there]
    away -= 12 * np.round(away / 12)
    known = away[np.isfinite(away)]
    floors = [np.maximum(each[:frames], each.max() - 40) for each in (own, levels)]
    spectrum = _spectrum(sound, rate)
    nearest = float(np.square(corpus - spectrum).mean(axis=1).min())
    return Figures(
        cents=100 * float(np.median(np.abs(known))) if len(known) else 1200.0,
        within_50_cents=float((np.abs(known) <= 0.5).sum() / max(1, len(away))),
        vibrato=_depth(heard) / max(_depth(truth), 1e-6) if _depth(truth) > 0.05 else float("nan"),
        loudness=float(np.corrcoef(floors[0], floors[1])[0, 1]),
        onset_ms=1000 * float(np.median([_late(sound, start, rate) for start in phrase.starts])),
        timbre=float(nearest < float(np.square(_spectrum(phrase.samples, rate) - spectrum).mean())),
        seconds=seconds,
    )


def heard_share(model: Model, sound: NDArray[np.float32]) -> float:
    """The share of heard frames of a recording that YIN hears at its pitch, but for octaves; NaN without a clear pitch."""
    pitch, hop = model.tuner.measure(sound), round(FRAME * model.sample_rate)
    if pitch is None:
        return float("nan")
    heard, levels = yin(sound, model.sample_rate), _levels(sound, hop)
    frames = min(len(heard), len(levels))
    away = (heard[:frames] - pitch)[levels[:frames] > levels.max() - HEARD_DB]
    return float((np.abs(away - 12 * np.round(away / 12)) <= 0.5).mean())


def _levels(samples: NDArray[np.float32], hop: int) -> Doubles:
    powers = np.square(
        samples[: len(samples) // hop * hop].reshape(-1, hop), dtype=np.float64
    ).mean(axis=1)
    return np.asarray(10 * np.log10(powers + 1e-10))


def _depth(pitch: Doubles) -> float:
    """Median deviation of a pitch from its mean over a fifth of a second, in semitones."""
    windows = sliding_window_view(pitch, 20)
    whole = windows[np.isfinite(windows).all(axis=1)]
    steady = whole[np.ptp(whole, axis=1) < 2.0]
    return float(np.median(steady.std(axis=1))) if len(steady) else 0.0


def _late(sound: NDArray[np.float32], start: float, rate: int) -> float:
    """By how many seconds the steepest rise near a start is away from it."""
    step = round(0.002 * rate)
    first = max(0, round((start - 0.06) * rate))
    levels = np.maximum(_levels(sound[first : first + round(0.12 * rate)], step), -60)
    rise = levels[5:] - levels[:-5]
    place = (first + (int(rise.argmax()) + 3) * step) / rate
    return abs(place - start)


def _spectrum(samples: NDArray[np.float32], rate: int) -> Doubles:
    """Mean log-mel spectrum of the louder half of frames, less its mean, in dB."""
    mel = (
        LogMel(rate, 2048, 1024, 40)(torch.from_numpy(np.pad(samples, (0, 2048)))[None])[0]
        .double()
        .numpy()
    )
    loud = mel[mel.mean(axis=1) >= np.median(mel.mean(axis=1))]
    mean = 20 * loud.mean(axis=0)
    return np.asarray(mean - mean.mean())


def main() -> None:
    """Print a row of means for each model and kind of phrase; `--write` keeps them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL[=LABEL]",
        help="a model file, and the label that follows",
    )
    parser.add_argument("--write", action="store_true", help="keep the rows in benchmarks/results")
    given, rows = parser.parse_args(), []
    for named in given.models:
        path, _, label = named.partition("=")
        model = distill.load(path)
        assert model.bundle.reference is not None
        known = model.bundle.reference
        decoded = {
            name: model.decode(codes.astype(np.int64), about.in_mono)
            for name, codes, about in zip(known.names, known.codes, known.side_info, strict=True)
        }
        corpus = np.stack([_spectrum(sound, model.sample_rate) for sound in decoded.values()])
        figures: dict[str, list[Figures]] = {}
        for kind, phrase in phrases(model.sample_rate):
            began = time.perf_counter()
            (sound,) = model.generate(
                follow=phrase.samples, label=label or None, seed=1, width=0
            ).sounds
            took = time.perf_counter() - began
            figures.setdefault(kind, []).append(measured(model, phrase, sound, corpus, took))
            own = measured(model, phrase, phrase.samples, corpus, 0.0)
            figures.setdefault(f"{kind} phrase itself", []).append(own)
            length = len(phrase.samples) / model.sample_rate
            (other,) = model.generate(seconds=length, label=label or None, seed=1, width=0).sounds
            figures.setdefault(f"{kind} phrase not followed", []).append(
                measured(model, phrase, other, corpus, 0.0)
            )
        own_share = np.nanmean(
            [heard_share(model, sound) for name, sound in decoded.items() if label in name]
        )
        for kind, every in figures.items():
            means = {
                field.name: float(np.nanmean([getattr(each, field.name) for each in every]))
                for field in fields(Figures)
            }
            rows.append(
                {
                    "model": model.path.stem,
                    "label": label,
                    "what": kind,
                    **{name: f"{value:.3g}" for name, value in means.items()},
                    "recordings_within_50_cents": f"{own_share:.3g}",
                }
            )
            print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if given.write:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    with refusals_said("following"):
        main()
