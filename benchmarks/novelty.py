"""Novelty verdicts on sounds with known answers, and distances of generated sounds to the corpus."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.prior import Say, code_folder_within
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.execution import Execution
from distill.generate.calibration import calibrate
from distill.generate.sampling import Sampling, sample_codes
from distill.generate.sounds import decode_sounds, frames_for_seconds
from distill.novelty.reference import MOST_FRAMES
from distill.novelty.report import Comparison, SetReport
from distill.novelty.scoring import with_scores
from distill.novelty.verdict import Novelty
from distill.params import Params
from distill.prior.base import build_prior
from distill.prior.data import PriorData
from distill.prior.training import fit_prior
from distill.training.fabric import make_fabric

SOUNDS = 64  # of each kind
OVERTRAINED = 4  # times the epochs
CHANGED = 0.05  # share of codes replaced at random
OURS, OVER = "ours", "over-trained"
SHUFFLED, UNIGRAM, UNTRAINED = "shuffled frames", "unigram", "untrained prior"


@dataclass(frozen=True)
class Kind:
    """Sounds of one kind: set report, quantiles of length (10, 50, 90 %) in seconds, and distance of lengths.

    `durations` is the Kolmogorov-Smirnov statistic of their lengths and those of held-out recordings, 0 to 1.
    """

    name: str
    report: SetReport
    seconds: tuple[float, float, float]
    durations: float


@dataclass(frozen=True)
class Apart:
    """Mann-Whitney test of likeness to training recordings, over-trained prior against ours (Mann and Whitney 1947).

    `share` of pairs in which the over-trained sound is more similar, and its z-score.
    """

    space: str
    share: float
    deviations: float


@dataclass(frozen=True)
class NoveltyReport:
    """Measurements on a corpus.

    `copied` and `held_out` are the shares of near-copies and of held-out recordings judged `copy`.

    `durations` is the Kolmogorov-Smirnov statistic of the lengths of training and held-out recordings.
    """

    corpus: str
    recordings: int
    epochs: int
    copied: float
    held_out: float
    durations: float
    kinds: tuple[Kind, ...]
    apart: tuple[Apart, ...]
    pictures: tuple[str, ...]


def measure_novelty(
    folder: Path, params: Params, codec_seconds: float, pictures: Path | None, execution: Execution, say: Say
) -> NoveltyReport:
    """Train a codec and two priors on its codes, sample and judge. Raises AudioError."""
    fabric = make_fabric(execution)
    with tempfile.TemporaryDirectory() as temporary:
        coded = code_folder_within(folder, params, codec_seconds, Path(temporary), execution, say)
    data, codec = coded.data, coded.codec
    config = params.prior_config(data.recordings)
    say("our prior")
    ours = fit_prior(data, config, params.seed, fabric, calibrate=calibrate)
    epochs = len(ours.result.history)
    say(f"the same for {OVERTRAINED} x {epochs} epochs, with nothing held out")
    training = [views[0] for views in data.train]
    nothing_held_out = replace(data, held_out=training, held_out_groups=data.train_groups)
    longer = config.model_copy(update={"epochs": OVERTRAINED * epochs, "patience": 0})
    over = fit_prior(nothing_held_out, longer, params.seed, fabric)
    say("sampling and judging")
    torch.manual_seed(0)
    untrained = build_prior(ours.shape, data.codewords).eval()
    longest = min(MOST_FRAMES, frames_for_seconds(codec, params.audition.max_seconds))
    drawn = {
        name: sample_codes(prior, SOUNDS, longest, 0, Sampling())
        for name, prior in ((OURS, ours.model), (OVER, over.model), (UNTRAINED, untrained))
    }
    made = {**drawn, **_control_sounds(training, longest)}
    comparison = comparison_with(data, codec, data.held_out)
    novelty = {name: comparison.novelty(sounds) for name, sounds in made.items()}
    kinds = tuple(
        Kind(
            name,
            comparison.report(sounds, novelty[name], 0, longest),
            _lengths(sounds, codec),
            durations_apart(sounds, data.held_out, longest),
        )
        for name, sounds in made.items()
    )
    written: tuple[str, ...] = ()
    if pictures is not None:
        from benchmarks.pictures import write_kinds

        name = f"sounds-{folder.resolve().name}.png"
        write_kinds(
            pictures / name,
            {kind: decode_sounds(codec, made[kind][:6]) for kind in (OURS, SHUFFLED, UNIGRAM, UNTRAINED)},
            codec,
        )
        written = (name,)
    return NoveltyReport(
        corpus=folder.resolve().name,
        recordings=data.recordings,
        epochs=epochs,
        copied=_copies(comparison.novelty(_near_copies(training, codec))),
        held_out=_held_out_copies(data, codec),
        durations=durations_apart(training, data.held_out, longest),
        kinds=kinds,
        apart=_apart(novelty[OURS], novelty[OVER]),
        pictures=written,
    )


def comparison_with(data: PriorData, codec: VQVAE, held_out: Sequence[Codes]) -> Comparison:
    """Comparison with the training recordings of `data` and these held-out recordings."""
    return Comparison(with_scores(replace(data, held_out=held_out).reference(), codec), codec)


def _control_sounds(train: Sequence[Codes], longest: int) -> Mapping[str, list[Codes]]:
    """Control sounds without order: shuffled frames, and unigram samples of each level."""
    rng = np.random.default_rng(0)
    chosen = [train[index][:longest] for index in rng.integers(0, len(train), SOUNDS)]
    every = np.concatenate(train)
    levels = range(every.shape[1])
    return {
        SHUFFLED: [rng.permutation(codes) for codes in chosen],
        UNIGRAM: [np.stack([rng.choice(every[:, level], len(codes)) for level in levels], axis=1) for codes in chosen],
    }


def _near_copies(train: Sequence[Codes], codec: VQVAE) -> list[Codes]:
    """Near-copies: training recordings with a share CHANGED of their codes replaced at random."""
    rng, sounds = np.random.default_rng(1), []
    for codes in train:
        copy = codes[:MOST_FRAMES].copy()
        positions = rng.choice(copy.size, int(CHANGED * copy.size), replace=False)
        copy.reshape(-1)[positions] = rng.integers(0, codec.architecture.codebook_size, len(positions))
        sounds.append(copy)
    return sounds


def _held_out_copies(data: PriorData, codec: VQVAE) -> float:
    """Share of held-out recordings judged `copy`, each half with the scores of the other as baseline."""
    halves = data.held_out[::2], data.held_out[1::2]
    if not halves[1]:
        return float("nan")
    judged = [
        one
        for mine, other in (halves, halves[::-1])
        for one in comparison_with(data, codec, other).novelty([codes[:MOST_FRAMES] for codes in mine])
    ]
    return _copies(judged)


def _copies(novelty: Sequence[Novelty]) -> float:
    return float(np.mean([one.verdict == "copy" for one in novelty]))


def _apart(ours: Sequence[Novelty], over: Sequence[Novelty]) -> tuple[Apart, ...]:
    found = []
    for space in ("codes", "spectra"):
        one, two = (np.array([getattr(novelty, space).likeness for novelty in side]) for side in (ours, over))
        share = float(((two[:, None] > one) + 0.5 * (two[:, None] == one)).mean())
        deviation = np.sqrt((len(one) + len(two) + 1) / (12 * len(one) * len(two)))
        found.append(Apart(space, share, float((share - 0.5) / deviation)))
    return tuple(found)


def durations_apart(sounds: Sequence[Codes], others: Sequence[Codes], longest: int) -> float:
    """Kolmogorov-Smirnov statistic of two sets of lengths, cut to `longest`, 0 to 1."""
    one, two = (np.sort([min(longest, len(codes)) for codes in side]) for side in (sounds, others))
    ends = np.concatenate([one, two])
    shares = [np.searchsorted(side, ends, side="right") / len(side) for side in (one, two)]
    return float(np.abs(shares[0] - shares[1]).max())


def _lengths(sounds: Sequence[NDArray[np.integer]], codec: VQVAE) -> tuple[float, float, float]:
    short, middle, long = np.quantile([len(codes) for codes in sounds], [0.1, 0.5, 0.9]) / codec.spectrogram.frame_rate
    return float(short), float(middle), float(long)
