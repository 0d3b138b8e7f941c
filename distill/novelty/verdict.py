"""How new a sound is: what it shares with the recordings that the model learnt, judged by what held-out recordings share."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.novelty.alignment import Match
from distill.novelty.reference import MOST_FRAMES, Reference, Scores
from distill.novelty.scoring import SHORTEST, Likeness, Score
from distill.novelty.spectral_space import UNLIKE_DB

Verdict = Literal["new", "close", "copy"]
VERDICTS: tuple[Verdict, ...] = ("copy", "close", "new")  # from the least new on

SURELY_COPIED = 0.94  # share of codes that are the same
UNUSUAL = 0.975  # of held-out recordings are less alike, in each of the two spaces
SAME_SOUND = 0.5  # of recordings coded anew are less like themselves
FEW_EDITS = 0.1  # share of frames
LONG_ENOUGH = 12  # frames of a sound that is called a copy for its spectra alone: many short sounds are alike
SIMILAR_LENGTH = 1.5  # times as long or as short
ENOUGH = 20  # pieces to judge by, of other lengths if need be
LIKENESS, COPIED, EDITS = 0, 1, 2  # columns of a space
SPACES = (slice(1, 4), slice(4, 7))  # columns of codes and of spectra


@dataclass(frozen=True)
class Shared:
    """What a sound shares with the training recordings in one space.

    `likeness` runs from 0 to 1: in codes the share of its codes that stand at the same place in the nearest recording, in
    spectra 1 - their mean difference / 20 dB. `percentile` is the share of held-out recordings of like length that are
    less like the training recordings.
    """

    nearest: str
    offset_seconds: float  # where in the nearest recording the passage begins
    likeness: float
    copied_seconds: float  # longest run of frames that are alike, in any recording
    edit_distance: float
    percentile: float

    @property
    def difference_db(self) -> float:
        """The mean difference of spectra that a likeness in spectra stands for."""
        return (1.0 - self.likeness) * UNLIKE_DB


@dataclass(frozen=True)
class Novelty:
    """The verdict on a sound, and on the passage of it that is most like a recording what it shares."""

    verdict: Verdict
    codes: Shared
    spectra: Shared
    passage_seconds: float  # where in the sound the passage begins

    @property
    def percentile(self) -> float:
        """The higher of both spaces'."""
        return max(self.codes.percentile, self.spectra.percentile)

    @property
    def by_spectra(self) -> bool:
        """Whether spectra, not codes, give that one."""
        return self.spectra.percentile > self.codes.percentile

    def json(self) -> dict[str, Any]:
        """The verdict and its reasons, for reports."""
        return {
            "verdict": self.verdict,
            "percentile": self.percentile,
            "passage_seconds": self.passage_seconds,
            "codes": asdict(self.codes),
            "spectra": {**asdict(self.spectra), "difference_db": self.spectra.difference_db},
        }


class Judge:
    """Judges sounds by a reference. Raises ValueError when it has no scores."""

    def __init__(self, reference: Reference, codec: VQVAE) -> None:
        if not len(reference.scores) or not len(reference.reencoded):
            raise ValueError("expected a reference with scores")
        self._reference, self._frame_rate = reference, codec.spectrogram.frame_rate
        self._likeness = Likeness(codec, reference.codes)
        self._same_sound = float(np.quantile(reference.reencoded[:, SPACES[1]][:, LIKENESS], SAME_SOUND))

    def judge(self, sounds: Sequence[Codes]) -> list[Novelty]:
        """Novelty of sounds' codes `[F, Q]`. Of long sounds passages are judged, and the least new counts."""
        cuts = [(number, cut) for number, codes in enumerate(sounds) for cut in _cuts(len(codes))]
        scores = self._likeness.scores([sounds[number][begin:end] for number, (begin, end) in cuts])
        found: dict[int, Novelty] = {}
        for (number, (begin, _)), score in zip(cuts, scores, strict=True):
            novelty = self._novelty(score, begin)
            if number not in found or _rank(novelty) < _rank(found[number]):
                found[number] = novelty
        return [found[number] for number in range(len(sounds))]

    def _novelty(self, score: Score, begin: int) -> Novelty:
        usual = comparable(self._reference.scores, score.frames)
        codes, spectra = (
            self._shared(match, usual[:, space])
            for match, space in zip((score.codes, score.spectra), SPACES, strict=True)
        )
        return Novelty(self._verdict(score, usual), codes, spectra, begin / self._frame_rate)

    def _shared(self, match: Match, usual: Scores) -> Shared:
        return Shared(
            nearest=self._reference.names[match.recording],
            offset_seconds=match.offset / self._frame_rate,
            likeness=match.likeness,
            copied_seconds=match.copied_frames / self._frame_rate,
            edit_distance=match.edit_distance,
            percentile=float((usual[:, LIKENESS] < match.likeness).mean()),
        )

    def _verdict(self, score: Score, usual: Scores) -> Verdict:
        """`copy`: in codes from half the way between what is unusual and all, or in a run over half the sound; in spectra
        as like as recordings coded anew, with few edits, and not very short. `close`: more alike than 97.5 % of held-out recordings in one of the spaces."""
        bounds = np.quantile(usual, UNUSUAL, axis=0, method="higher")
        codes, spectra = (bounds[space] for space in SPACES)
        fewest_edits = float(np.quantile(usual[:, SPACES[1]][:, EDITS], 1 - UNUSUAL, method="lower"))
        copied_from = min((1.0 + codes[LIKENESS]) / 2, SURELY_COPIED)
        run = score.codes.copied_frames
        if score.codes.likeness >= copied_from or run > max(codes[COPIED], score.frames / 2):
            return "copy"
        if score.frames < SHORTEST:  # whose spectra are like many
            return "close" if score.codes.likeness > codes[LIKENESS] else "new"
        is_same = score.spectra.likeness > max(spectra[LIKENESS], self._same_sound)
        is_edited_little = score.spectra.edit_distance < max(fewest_edits, FEW_EDITS)
        if is_same and is_edited_little and score.frames >= LONG_ENOUGH:
            return "copy"
        is_close = score.codes.likeness > codes[LIKENESS] or score.spectra.likeness > spectra[LIKENESS]
        return "close" if is_close else "new"


def comparable(scores: Scores, frames: int) -> Scores:
    """The scores of pieces about as long, or where they are few of those nearest in length."""
    apart = np.abs(np.log(scores[:, 0] / frames))
    nearest = np.sort(apart)[:ENOUGH][-1]
    chosen: NDArray[np.float32] = scores[apart <= max(nearest, np.log(SIMILAR_LENGTH))]
    return chosen


def _cuts(frames: int) -> list[tuple[int, int]]:
    """Passages of equal length that cover a sound."""
    count = -(-frames // MOST_FRAMES)
    ends = [frames * number // count for number in range(count + 1)]
    return list(pairwise(ends))


def _rank(novelty: Novelty) -> tuple[int, float, float]:
    return VERDICTS.index(novelty.verdict), -novelty.percentile, -novelty.codes.likeness
