"""Report on a set of sounds: verdicts, motion, diversity, tonal sounds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.audio.motion import IN_WORDS, Medians, Motion, medians, motion_line
from distill.codes.store import Codes
from distill.novelty.reference import MAX_FRAMES, Doubles
from distill.novelty.scores import heard, is_tonal, sound_statistics, with_sound
from distill.novelty.verdict import FEW_HELD_OUT, Novelty, NoveltyScorer
from distill.text import several

Statistics = Doubles  # [sounds, values]


@dataclass(frozen=True)
class SetReport:
    """Metrics of a set of sounds. Both mean lengths count at most the first 8 s of each sound or recording."""

    sounds: int
    held_out: int  # number of held-out recordings
    seconds: float
    mean_seconds: float
    held_out_mean_seconds: float
    new: int
    close: int
    copies: int
    mean_agreement: float  # proportion of codes that equal the nearest training recording's
    mean_percentile_codes: float  # novelty percentile; 0.5 is as new as held-out recordings
    mean_percentile_spectra: float
    longest_copied_seconds: float
    tonal_rate: float  # proportion of tonal sounds
    tonal_rate_held_out: float  # of held-out recordings, decoded from their codes
    tonal_rate_originals: float | None  # of held-out recordings before coding, if known
    motion: Medians
    motion_held_out: Medians  # of held-out recordings, decoded from their codes
    diversity: float | None  # Vendi score, the effective number of different sounds; None for one
    diversity_of_recordings: float | None  # an equal number of training recordings

    def metrics(self) -> dict[str, float]:
        """Metrics by name, without those that are None.

        The number of sounds is left out: DVC would mistake the metric for the folder of the same name.
        """
        left_out = ("sounds", "held_out", "motion", "motion_held_out")
        values = {
            name: value
            for name, value in vars(self).items()
            if name not in left_out and value is not None
        }
        for suffix, motion in (("", self.motion), ("_held_out", self.motion_held_out)):
            values |= {
                f"{name}{suffix}": median.value
                for name, median in motion.items()
                if name in IN_WORDS
            }
        return values

    def json(self) -> dict[str, Any]:
        """Metrics, the numbers of sounds and held-out recordings, and motion with intervals."""
        motion = {name: median._asdict() for name, median in self.motion.items()}
        return {
            "sounds": self.sounds,
            "held_out": self.held_out,
            **self.metrics(),
            "motion": motion,
        }

    @property
    def lines(self) -> list[str]:
        """Lines for the user: verdicts, percentiles, lengths, motion and diversity."""
        newer = (
            f"on average newer than {1 - self.mean_percentile_codes:.0%} of held-out recordings in codes, "
            f"{1 - self.mean_percentile_spectra:.0%} in spectra (50 %: as new as these)"
        )
        if self.held_out < FEW_HELD_OUT:
            newer = (
                f"judged by {several(self.held_out, 'held-out recording')}, too few to tell well"
            )
        lines = [
            f"{self.new} new, {self.close} close, {self.copies} copies; {newer}",
            f"mean length {self.mean_seconds:.2f} s, of held-out recordings {self.held_out_mean_seconds:.2f} s",
            self.tonal_sentence,
            *filter(None, [motion_line(self.motion, self.motion_held_out)]),
        ]
        if self.diversity is not None:
            lines.append(
                f"diversity {self.diversity:.1f} (the effective number of different sounds), of as many training "
                f"recordings {self.diversity_of_recordings:.1f}"
            )
        return lines

    @property
    def tonal_sentence(self) -> str:
        """Sentence on the proportions of tonal sounds and of tonal held-out recordings."""
        originals = (
            ""
            if self.tonal_rate_originals is None
            else f"{self.tonal_rate_originals:.0%} as they were, "
        )
        held_out = f"of held-out recordings {originals}{self.tonal_rate_held_out:.0%} decoded from their codes"
        return f"tonal, with most energy in partials that last: {self.tonal_rate:.0%} of the sounds; {held_out}"


def report_on(
    scorer: NoveltyScorer,
    sounds: Sequence[Codes],
    seconds: Sequence[float],
    novelty: Sequence[Novelty],
    seed: int,
    max_frames: int = MAX_FRAMES,
    originals: Iterable[NDArray[np.floating]] = (),
) -> SetReport:
    """Report on a set of sounds, given the codes `[F, Q]`, the length and the novelty of each.

    Sounds and recordings are cut to `max_frames`, at most MAX_FRAMES. `originals` are samples `[N]` of the held-out
    recordings, if known.
    """
    reference, rate, longest = scorer.reference, scorer.frame_rate, min(max_frames, MAX_FRAMES)
    verdicts = [each.verdict for each in novelty]
    sample_rate = scorer.codec.spectrogram.sample_rate
    tonal_originals = [is_tonal(sound, sample_rate) for sound in originals]
    if longest < MAX_FRAMES:  # the reference measured more frames: measure again
        reference = with_sound(reference, scorer.codec, longest)
    cut = [codes[:longest] for codes in sounds]
    own, recorded = heard(scorer.codec, cut), reference.heard
    generated = sound_statistics(map(scorer.spectra, cut))
    held_out, training = reference.held_out_statistics, reference.training_statistics
    score, baseline = diversity(generated, held_out, training, seed) or (None, None)
    return SetReport(
        sounds=len(sounds),
        held_out=len(reference.held_out),
        seconds=sum(seconds),
        mean_seconds=float(np.mean([min(length, longest / rate) for length in seconds])),
        held_out_mean_seconds=float(
            np.mean([min(len(codes), longest) for codes in reference.held_out])
        )
        / rate,
        new=verdicts.count("new"),
        close=verdicts.count("close"),
        copies=verdicts.count("copy"),
        mean_agreement=float(np.mean([each.codes.likeness for each in novelty])),
        mean_percentile_codes=float(np.mean([each.codes.percentile for each in novelty])),
        mean_percentile_spectra=float(np.mean([each.spectra.percentile for each in novelty])),
        longest_copied_seconds=max(each.codes.copied_seconds for each in novelty),
        tonal_rate=float(own[:, 0].mean()),
        tonal_rate_held_out=float(recorded[:, 0].mean()),
        tonal_rate_originals=float(np.mean(tonal_originals)) if tonal_originals else None,
        motion=medians(Motion(*row) for row in own[:, 1:].tolist()),
        motion_held_out=medians(Motion(*row) for row in recorded[:, 1:].tolist()),
        diversity=score,
        diversity_of_recordings=baseline,
    )


def diversity(
    generated: Statistics, held_out: Statistics, training: Statistics, seed: int
) -> tuple[float, float] | None:
    """Vendi score of generated sounds and of an equal number of training recordings (Friedman and Dieng 2022); None for one sound.

    The kernel is Gaussian; its bandwidth is the median squared distance of two held-out sounds.
    """
    count = min(len(generated), len(training))
    if min(count, len(held_out)) < 2:
        return None
    bandwidth, generator = _bandwidth(held_out), np.random.default_rng(seed)
    baseline = [_vendi(part, bandwidth) for part in _subsets(generator, training, count, 20)]
    subsets = _subsets(generator, generated, count, 20 if count < len(generated) else 1)
    values = [_vendi(part, bandwidth) for part in subsets]
    return float(np.mean(values)), float(np.mean(baseline))


def _subsets(
    generator: np.random.Generator, sounds: Statistics, size: int, number: int
) -> Iterator[Statistics]:
    """Random subsets of sounds, of equal size."""
    return (sounds[generator.choice(len(sounds), size, replace=False)] for _ in range(number))


def _bandwidth(sounds: Statistics) -> float:
    distances = squared_distances(sounds, sounds)
    return max(float(np.median(distances[np.triu_indices(len(sounds), 1)])), 1e-12)


def _vendi(sounds: Statistics, bandwidth: float) -> float:
    weights = np.linalg.eigvalsh(
        np.exp(-squared_distances(sounds, sounds) / bandwidth) / len(sounds)
    )
    weights = weights[weights > 1e-12]
    return float(np.exp(-(weights * np.log(weights)).sum()))


def squared_distances(left: Statistics, right: Statistics) -> NDArray[np.float64]:
    """Squared Euclidean distances `[N, M]` of the rows of `left` `[N, D]` and `right` `[M, D]`."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    result: NDArray[np.float64] = np.maximum(squares, 0.0)
    return result
