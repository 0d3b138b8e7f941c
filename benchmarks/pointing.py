"""How well loops, morphs, extensions and filled parts keep to what they are given.

`python -m benchmarks.pointing MODEL... [--write]`, of models that hold their recordings, which are given decoded. Each
figure stands beside that of the simplest thing that could have it: loops beside their recordings played faster or slower
as a tape is, seams beside the same places without any, and with the decoded recording itself in place of what is drawn.
"""

import argparse
import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

import distill
from benchmarks.arguments import refusals_said
from benchmarks.judge.features import panel
from benchmarks.telling_apart import telling_apart
from distill.api import Model
from distill.audio.image import mono
from distill.audio.motion import Motion
from distill.codec.losses import REPORT_WINDOWS, MultiScaleMelLoss
from distill.generate.context import GenerationContext
from distill.generate.requests.fill import spliced
from distill.generate.requests.generation import Seeds
from distill.generate.requests.loop import LoopRequest
from distill.generate.selection.rejection import kept
from distill.progress import silent

RESULTS = Path(__file__).parent / "results" / "pointing.csv"
TEMPOS = (0.85, 1.0, 1.2)
LOOPS, SEEDS, MOST = 4, (1, 2), 60  # loops of a tempo; sounds with seams of a recording; recordings
BEATS = 8
BESIDE = 0.05  # seconds on each side of a seam that are listened to
GAP = 0.4  # seconds that are drawn

Samples = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Row(NamedTuple):
    """A figure of a model over so many sounds, and that of the simplest thing."""

    model: str
    what: str
    sounds: int
    value: float
    beside: float


def figures(model: Model) -> Iterator[Row]:
    """All figures of a model that has what they need."""
    assert model.bundle.reference is not None
    known = zip(model.bundle.reference.codes[:MOST], model.bundle.reference.side_info, strict=False)
    recordings = [model.decode(codes.astype(np.int64), about.in_mono) for codes, about in known]
    parts = loops(model, recordings), seams(model, recordings), morphs(model, recordings)
    for what, count, value, beside in itertools.chain(*parts):
        yield Row(model.path.stem, what, count, value, beside)


Figure = tuple[str, int, float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class AlongOne(LoopRequest):
    """A request for loops along one recording."""

    number: int

    def tempos(self, context: GenerationContext) -> dict[int, float]:
        return {self.number: super().tempos(context)[self.number]}


def loops(model: Model, recordings: Sequence[Samples]) -> Iterator[Figure]:
    """Pulse of loops at three tempi, along each recording that repeats, beside its own as fast, and copies."""
    motions, rate, found, verdicts = model.context.motions, model.sample_rate, [], []
    for number, recording in enumerate(recordings):
        if motions is None or not motions.repeats(number):
            continue
        tempo = motions.tempo_of(number)
        for faster in TEMPOS:
            wanted = AlongOne(
                count=LOOPS, max_seconds=1.0, bpm=faster * tempo, beats=BEATS, number=number
            )
            made = wanted.make(model.context, Seeds(1), [], silent, kept, False)
            length = round(BEATS * 60 / wanted.bpm * rate)
            played = np.resize(soxr.resample(recording, rate, rate / faster), 2 * length)
            own = [
                Motion.measure(np.tile(mono(sound.samples), 2), rate).pulse for sound in made.sounds
            ]
            found.append((float(np.mean(own)), Motion.measure(played, rate).pulse))
            verdicts += [sound.novelty.verdict == "copy" for sound in made.sounds if sound.novelty]
    if found:
        own, simple = np.mean(found, axis=0).tolist()
        yield "pulse of loops", LOOPS * len(found), own, simple
        yield "loops that are copies", len(verdicts), float(np.mean(verdicts)), float("nan")


def seams(model: Model, recordings: Sequence[Samples]) -> Iterator[Figure]:
    """Whether seams are told apart from the same places of a decode, and whether those of the decode itself are; steps of level."""
    rate, beside = model.sample_rate, round(BESIDE * model.sample_rate)
    for what in ("extend", "fill"):
        whole, drawn, spliced_in, groups = (
            list[Samples](),
            list[Samples](),
            list[Samples](),
            list[str](),
        )
        for number, recording in enumerate(recordings):
            start = round(0.5 * len(recording))
            end = start + round(GAP * rate)
            if end + 2 * beside > len(recording):
                continue
            given = recording if what == "fill" else recording[:start]
            again = model.decode(model.encode(recording), model.side_info(recording))
            again = np.pad(again, (0, max(0, len(recording) - len(again))))
            for seed in SEEDS:
                if what == "fill":
                    made = model.fill(given, start=start / rate, end=end / rate, seed=seed, width=0)
                else:
                    made = model.extend(given, after=GAP, seed=seed, width=0)
                (sound,) = made.sounds
                room = np.pad(given, (0, len(sound) - len(given)))
                kept_back = spliced(room, again[: len(sound)], start, end, rate)
                for place in (start, end)[: 1 + (what == "fill")]:
                    near = slice(place - beside, place + beside)
                    if np.square(recording[near]).mean() > 1e-6:
                        for kept, each in (
                            (whole, recording),
                            (drawn, sound),
                            (spliced_in, kept_back),
                        ):
                            kept.append(mono(each)[near].astype(np.float32))
                        groups.append(str(number))
        if len(set(groups)) > 1:
            own, simple = (
                float(np.nanmean(telling_apart(whole, each, rate, groups, 0)))
                for each in (drawn, spliced_in)
            )
            yield f"{what}: seams told apart", len(groups), own, simple
            step, other = (
                float(np.median([_step(each, beside) for each in sounds]))
                for sounds in (drawn, whole)
            )
            yield f"{what}: step of level, dB", len(groups), step, other


def _step(samples: Samples, middle: int) -> float:
    before, after = (
        10 * np.log10(np.square(each).mean() + 1e-9)
        for each in (samples[:middle], samples[middle:])
    )
    return abs(float(after - before))


def morphs(model: Model, recordings: Sequence[Samples]) -> Iterator[Figure]:
    """Of pairs of recordings: are distances from the ends monotone, are steps even, and does the middle keep to recordings?"""
    order = np.random.default_rng(1).permutation(len(recordings))
    pairs = [
        (recordings[one], recordings[other])
        for one, other in zip(order[::2], order[1::2], strict=False)
    ][:12]
    distance = MultiScaleMelLoss(model.sample_rate, REPORT_WINDOWS)
    monotone, even, middles, faded, takes = (
        list[bool](),
        list[float](),
        list[Samples](),
        list[Samples](),
        list[Samples](),
    )

    def apart(one: Samples, other: Samples) -> float:
        most = max(len(one), len(other))
        return float(
            distance(
                *(
                    torch.from_numpy(np.pad(each, (0, most - len(each))))[None]
                    for each in (one, other)
                )
            )
        )

    for first, last in pairs:
        made = model.morph(first, last, steps=5, width=0)
        sounds = [mono(sound).astype(np.float32) for sound in made.sounds]
        steps = np.array([apart(*both) for both in itertools.pairwise(sounds)])
        from_first, to_last = (
            [apart(end, sound) for sound in sounds] for end in (sounds[0], sounds[-1])
        )
        monotone.append(bool((np.diff(from_first) > 0).all() and (np.diff(to_last) < 0).all()))
        even.append(float(steps.max() / steps.min()))
        middles.append(sounds[2])
        most = max(len(first), len(last))
        faded.append(
            np.sum([0.5 * np.pad(each, (0, most - len(each))) for each in (first, last)], axis=0)
        )
        for end in (first, last):
            takes += [
                mono(sound).astype(np.float32)
                for sound in model.vary(end, n=2, seed=1, width=0).sounds
            ]
    if pairs:
        yield "morph: pairs that are monotone", len(pairs), float(np.mean(monotone)), float("nan")
        yield (
            "morph: longest step to shortest, median",
            len(pairs),
            float(np.median(even)),
            float("nan"),
        )
        for judge, statistics in panel(model.bundle.codec).items():
            known = np.asarray(statistics(recordings))
            mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
            own, simple, near = (
                _away((np.asarray(statistics(each)) - mean) / deviation, (known - mean) / deviation)
                for each in (middles, faded, takes)
            )
            most = near.mean() + near.std()
            away, other = (float((each / most).mean()) for each in (own, simple))
            yield (
                f"morph: distance of middles from recordings, of the most of takes, {judge}",
                len(pairs),
                away,
                other,
            )


def _away(sounds: Doubles, recordings: Doubles) -> Doubles:
    """Distances `[n]` of sounds `[n, D]` to the nearest of recordings `[m, D]`."""
    apart = np.square(sounds[:, None] - recordings).mean(axis=2)
    return np.asarray(np.sqrt(apart.min(axis=1)))


def main() -> None:
    """Print a row for each figure of each model; `--write` keeps them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL", help="models that hold their recordings"
    )
    parser.add_argument("--write", action="store_true", help="keep the rows in benchmarks/results")
    given, rows = parser.parse_args(), []
    for path in given.models:
        for row in figures(distill.load(path)):
            rows.append(row)
            print(
                f"{row.model} {row.what} ({row.sounds}): {row.value:.3g} beside {row.beside:.3g}",
                flush=True,
            )
    if given.write:
        with RESULTS.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Row._fields)
            writer.writerows((*row[:3], f"{row.value:.3g}", f"{row.beside:.3g}") for row in rows)


if __name__ == "__main__":
    with refusals_said("pointing"):
        main()
