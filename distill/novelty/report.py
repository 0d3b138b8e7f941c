"""Report on a set of sounds: novelty of each, distance of all to held-out recordings, diversity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.novelty.distance import Diversity, KernelDistance, Statistics, diversity, kernel_distance, sound_statistics
from distill.novelty.reference import MOST_FRAMES, Coded, Reference, evenly
from distill.novelty.spectra import CodeSpectra
from distill.novelty.verdict import Judge, Novelty

MOST_COMPARED = 200  # recordings of each side in distances
FEWEST = 2  # sounds of a distance
NOT_FIGURES = ("distance", "diversity")


@dataclass(frozen=True)
class SetReport:
    """Figures of a set of sounds. Both mean lengths count at most 8 s of a sound or recording."""

    sounds: int
    seconds: float
    mean_seconds: float
    held_out_mean_seconds: float
    new: int
    close: int
    copies: int
    mean_agreement: float  # share of codes equal to those of the nearest training recording at the best alignment
    mean_percentile_codes: float  # novelty percentile in [0, 1]; .5 is as new as held-out recordings
    mean_percentile_spectra: float
    longest_copied_seconds: float
    distance: KernelDistance | None
    diversity: Diversity | None

    def metrics(self) -> dict[str, float]:
        """All figures by metric name, without distance and diversity where there are too few sounds for them."""
        values = {name: value for name, value in vars(self).items() if name not in NOT_FIGURES}
        if self.distance is not None and self.distance.is_conclusive:
            values |= {
                "kernel_distance": self.distance.value,
                "kernel_distance_null_mean": self.distance.null_mean,
                "kernel_distance_null_deviation": self.distance.null_deviation,
            }
        if self.diversity is not None:
            values |= {"diversity": self.diversity.value, "diversity_of_recordings": self.diversity.baseline}
        return values

    def json(self) -> dict[str, Any]:
        """The figures of `metrics`, and the kernel distance in words."""
        return {**self.metrics(), "kernel_distance_in_words": self.distance_sentence}

    @property
    def distance_sentence(self) -> str:
        """The kernel distance beside its null distribution, or that there are too few sounds for one."""
        what, found = "kernel distance to held-out recordings", self.distance
        if found is not None and found.is_conclusive:
            null = f"{found.null_mean:.1f} ± {found.null_deviation:.1f}"
            return f"{what} {found.value:.1f}, of {found.compared} training recordings {null}"
        few = f"{self.sounds} {'sounds are' if self.sounds != 1 else 'sound is'} too few for a {what}"
        if found is None:
            return few if self.sounds < FEWEST else f"too few recordings for a {what}"
        if found.compared < self.sounds:
            few = f"{found.compared} training recordings, half of those there are, are too few for a {what}"
            return f"{few}: it differs among them by ± {found.null_deviation:.1f}"
        most = f"; generate {found.needed} or more" if found.needed > self.sounds else ""
        return f"{few}: among as many training recordings it differs by ± {found.null_deviation:.1f}{most}"


class Comparison:
    """Comparison of sounds with a reference. Raises ValueError when the reference has no scores."""

    def __init__(self, reference: Reference, codec: VQVAE) -> None:
        self.reference, self._judge = reference, Judge(reference, codec)
        self._spectra, self._frame_rate = CodeSpectra(codec), codec.spectrogram.frame_rate

    def novelty(self, sounds: Sequence[Codes]) -> list[Novelty]:
        """Novelty of each sound, given its codes `[F, Q]`."""
        return self._judge.judge(sounds)

    def report(
        self, sounds: Sequence[Codes], novelty: Sequence[Novelty], seed: int, most_frames: int = MOST_FRAMES
    ) -> SetReport:
        """Report on all sounds together; sounds and recordings are cut to `most_frames`, at most MOST_FRAMES."""
        rate = self._frame_rate
        longest = min(most_frames, MOST_FRAMES)
        verdicts = [one.verdict for one in novelty]
        generated = self.statistics(sounds, longest)
        held_out, training = (
            self.statistics(evenly(side, MOST_COMPARED), longest)
            for side in (self.reference.held_out, self.reference.codes)
        )
        return SetReport(
            sounds=len(sounds),
            seconds=sum(map(len, sounds)) / rate,
            mean_seconds=_mean_length(sounds, longest) / rate,
            held_out_mean_seconds=_mean_length(self.reference.held_out, longest) / rate,
            new=verdicts.count("new"),
            close=verdicts.count("close"),
            copies=verdicts.count("copy"),
            mean_agreement=float(np.mean([one.codes.likeness for one in novelty])),
            mean_percentile_codes=float(np.mean([one.codes.percentile for one in novelty])),
            mean_percentile_spectra=float(np.mean([one.spectra.percentile for one in novelty])),
            longest_copied_seconds=max(one.codes.copied_seconds for one in novelty),
            distance=kernel_distance(generated, held_out, training, seed),
            diversity=diversity(generated, held_out, training, seed),
        )

    def statistics(self, sounds: Sequence[Coded] | Sequence[Codes], longest: int) -> Statistics:
        """`sound_statistics` of the first `longest` frames of each sound."""
        return sound_statistics(self._spectra(codes[:longest]) for codes in sounds)


def _mean_length(sounds: Sequence[Coded] | Sequence[Codes], longest: int) -> float:
    return float(np.mean([min(len(codes), longest) for codes in sounds]))
