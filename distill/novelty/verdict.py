"""Novelty verdict: similarity to the training recordings, relative to held-out recordings."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.novelty.reference import MAX_FRAMES, SPACES, Reference, rows
from distill.novelty.scores import SHORTEST, Score, Scorer
from distill.novelty.search import Match
from distill.novelty.spectra import UNLIKE_DB
from distill.text import one_line, several

CLOSE_PERCENTILE = 0.975  # of held-out recordings, in each of the two spaces
# Minimum of held-out recordings: among n of them, a new sound is nearer than all by chance with probability 1 / (n +
# 1).
FEW_HELD_OUT = 9
LONG_ENOUGH = 12  # minimum frames of a copy that only spectra show: many shorter sounds are alike

Verdict = Literal["new", "close", "copy"]
Basis = Literal["codes", "run", "spectra"]
VERDICTS: tuple[Verdict, ...] = ("copy", "close", "new")  # least new first

Rows = NDArray[np.void]  # [n], scores by name


@dataclass(frozen=True)
class Shared:
    """Similarity of a sound to the nearest training recording in one space, at the best alignment.

    `likeness` lies between 0 and 1: in codes the proportion of equal codes, in spectra 1 - mean difference / 20 dB.
    `percentile`, the novelty percentile, is the proportion of held-out recordings of similar length with a lower
    likeness. `semitones` is the interval from the recording up to the sound, 0 if their notes are unclear.
    """

    nearest: str
    offset_seconds: float  # start of the passage in the nearest recording
    likeness: float
    copied_seconds: float  # longest run of matching frames, in any recording
    edit_distance: float
    percentile: float
    semitones: int = 0

    @property
    def difference_db(self) -> float:
        """Mean spectral difference in dB, for a likeness in spectra."""
        return (1.0 - self.likeness) * UNLIKE_DB


@dataclass(frozen=True)
class Novelty:
    """Verdict on a sound, with the similarities of its least new passage."""

    verdict: Verdict
    codes: Shared
    spectra: Shared
    passage_seconds: float  # start of the passage in the sound
    held_out: int  # number of held-out recordings for comparison
    judged_by: Basis = "codes"  # decided by equal codes, by a copied run of codes, or by spectra

    @property
    def nearest(self) -> Shared:
        """Similarity to the recording that decided the verdict."""
        return self.spectra if self.judged_by == "spectra" else self.codes

    @property
    def percentile(self) -> float:
        """Novelty percentile, the higher of both spaces; for a new sound, the percentile in the deciding space."""
        return (
            self.nearest.percentile
            if self.verdict == "new"
            else max(self.codes.percentile, self.spectra.percentile)
        )

    @property
    def is_sure(self) -> bool:
        """Whether there are enough held-out recordings for a reliable verdict."""
        return self.held_out >= FEW_HELD_OUT

    @property
    def short(self) -> str:
        """Verdict in about six words: "New. Nearest: kick_tight"."""
        name = one_line(PurePath(self.nearest.nearest).stem, 60)
        mark, doubt = (".", "") if self.is_sure else ("?", ". Too few to tell well")
        return f"{self.verdict.capitalize()}{mark} Nearest: {name}{doubt}"

    @property
    def explanation(self) -> str:
        """Sentence with the verdict, the nearest training recording and the reason."""
        return explain(self)

    def json(self) -> dict[str, Any]:
        """Verdict and reasons, for reports."""
        spectra = {**asdict(self.spectra), "difference_db": self.spectra.difference_db}
        return {**asdict(self), "percentile": self.percentile, "spectra": spectra}


def least_new(verdicts: Iterable[Novelty | None]) -> Novelty | None:
    """Verdict on the least new of several sounds; None without verdicts."""
    return max(filter(None, verdicts), key=lambda novelty: novelty.percentile, default=None)


class NoveltyScorer:
    """Scorer of novelty against a reference with scores."""

    def __init__(self, reference: Reference, codec: VQVAE) -> None:
        self.reference, self.codec, self.frame_rate = reference, codec, codec.spectrogram.frame_rate
        self._score = Scorer(reference.codes, codec)
        self.spectra = self._score.spectra
        self._held_out = rows(reference.scores).copy()
        in_own_key, in_keys = (self._held_out[space]["likeness"] for space in ("spectra", "keys"))
        # A piece without notes in common with a recording in any key has no likeness in other keys: its own key stands
        # in.
        np.maximum(in_own_key, in_keys, out=in_keys)
        self._reencoded_likeness = np.quantile(
            rows(reference.reencoded)["spectra"]["likeness"], 0.5
        )

    def __call__(self, sounds: Sequence[Codes]) -> list[Novelty]:
        """Novelty of each sound, given its codes `[F, Q]`, decided by the least new passage."""
        cuts = [list(pairwise(_passages(len(codes)))) for codes in sounds]
        passages = [
            codes[begin:end] for codes, own in zip(sounds, cuts, strict=True) for begin, end in own
        ]
        scores = iter(self._score(passages))
        return [
            min((self._novelty(next(scores), begin) for begin, _ in own), key=_newness)
            for own in cuts
        ]

    def _novelty(self, score: Score, begin: int) -> Novelty:
        baseline = comparable(self._held_out, score.frames)
        spaces = "codes", spectral_space(score, baseline)
        codes, spectra = (self._shared(getattr(score, space), baseline[space]) for space in spaces)
        nearer: Basis = "spectra" if spectra.percentile > codes.percentile else "codes"
        verdict, basis = self.verdict(score, baseline, nearer)
        return Novelty(
            verdict, codes, spectra, begin / self.frame_rate, len(self.reference.held_out), basis
        )

    def _shared(self, match: Match, baseline: Rows) -> Shared:
        return Shared(
            nearest=self.reference.names[match.recording],
            offset_seconds=match.offset / self.frame_rate,
            likeness=match.likeness,
            copied_seconds=match.copied_frames / self.frame_rate,
            edit_distance=match.edit_distance,
            percentile=float((baseline["likeness"] < match.likeness).mean()),
            semitones=match.semitones,
        )

    def verdict(self, score: Score, baseline: Rows, nearer: Basis) -> tuple[Verdict, Basis]:
        """Verdict from a score and the scores of comparable held-out pieces, and its basis; by default `nearer`.

        `copy` by codes: likeness at least half way from the 97.5th percentile to 1, or a copied run over half the
        sound. `copy` by spectra: as similar as re-encoded recordings, with few edits, and not very short. `close`:
        above the 97.5th percentile of held-out recordings in one space. Codes alone decide only if the spectra are more
        similar than the median, because some codes of any noise match a recording.
        """
        space = spectral_space(score, baseline)
        codes, spectra, match = baseline["codes"], baseline[space], getattr(score, space)
        close, close_in_spectra, longest_run = (
            np.quantile(values, CLOSE_PERCENTILE, method="higher")
            for values in (codes["likeness"], spectra["likeness"], codes["copied_frames"])
        )
        fewest_edits = float(
            np.quantile(spectra["edit_distance"], 1 - CLOSE_PERCENTILE, method="lower")
        )
        copied_from = min((1.0 + close) / 2, 0.94)  # 0.94 is a copy in any corpus
        run = score.codes.copied_frames
        if score.codes.likeness >= copied_from:
            return "copy", "codes"
        if run > max(longest_run, score.frames / 2):
            return "copy", "run"
        is_similar = match.likeness > np.median(spectra["likeness"])
        is_close_in_codes = score.codes.likeness > close
        is_close = is_similar and is_close_in_codes
        by_codes: Verdict = "close" if is_close else "new"
        is_denied = is_close_in_codes and not is_similar  # spectra decided
        if score.frames < SHORTEST:  # too short for spectra to tell
            return by_codes, "spectra" if is_denied else "codes"
        is_same = match.likeness > max(close_in_spectra, self._reencoded_likeness)
        is_edited_little = match.edit_distance < max(fewest_edits, 0.1)
        if is_same and is_edited_little and score.frames >= LONG_ENOUGH:
            return "copy", "spectra"
        is_close_in_spectra = match.likeness > close_in_spectra
        if is_close != is_close_in_spectra:
            return "close", "codes" if is_close else "spectra"
        return by_codes, "spectra" if is_denied else nearer


def spectral_space(score: Score, baseline: Rows) -> Literal["spectra", "keys"]:
    """Space of spectra with the verdict: other keys only if the percentile there is higher and above 97.5 %."""
    in_own_key, in_other_key = (
        (float((baseline[space]["likeness"] < match.likeness).mean()), match.likeness)
        for space, match in (("spectra", score.spectra), ("keys", score.keys))
    )
    return "keys" if in_other_key > max(in_own_key, (CLOSE_PERCENTILE, 0.0)) else "spectra"


def comparable(scores: Rows, frames: int, ratio: float = 1.5, count: int = FEW_HELD_OUT) -> Rows:
    """Select the scores `[n]` of pieces of similar length and correct them for the remaining difference in length.

    Lengths differ at most by `ratio`, but at least the `count` pieces nearest in length are selected. Short pieces are
    more alike, so a linear regression of likeness and edit distance on log length moves each score to a length of
    `frames`, or to the nearest length in `scores`.
    """
    known = scores["frames"]
    lengths = np.log(known / np.clip(frames, known.min(), known.max()))
    apart, centred = np.abs(lengths), lengths - lengths.mean()
    chosen = apart <= max(np.sort(apart)[:count][-1], np.log(ratio))
    moved: Rows = scores[chosen]
    for space, name in product(SPACES, ("likeness", "edit_distance")):
        slope = centred @ scores[space][name] / max(centred @ centred, 1.0)
        moved[space][name] = (moved[space][name] - slope * lengths[chosen]).clip(0.0, 1.0)
    return moved


def _passages(frames: int) -> list[int]:
    """Frames at which a sound is cut into equal passages of at most MAX_FRAMES."""
    count = -(-frames // MAX_FRAMES)
    return [frames * cut // count for cut in range(count + 1)]


def _newness(novelty: Novelty) -> tuple[int, float, float]:
    return VERDICTS.index(novelty.verdict), -novelty.percentile, -novelty.codes.likeness


def explain(novelty: Novelty) -> str:
    """Sentence `Novelty.explanation`. It names the proportion of recordings that come as close: the more, the newer."""
    count, verb = several(novelty.held_out, "recording"), "is" if novelty.held_out == 1 else "are"
    few = f"; {count} held out {verb} too few to tell well" * (not novelty.is_sure)
    return _reasons(novelty) + few


def _reasons(novelty: Novelty) -> str:
    name = one_line(novelty.nearest.nearest, 200)
    part = f"from {novelty.passage_seconds:.1f} s on, " if novelty.passage_seconds else ""
    nearer = round(100 * (1 - novelty.nearest.percentile))
    unheard = "of the recordings that the model never heard"
    match novelty.verdict:
        case "new" if not novelty.is_sure:  # a percentage of few recordings would mislead
            nearest = (
                "the one recording"
                if novelty.held_out == 1
                else f"the nearest of {novelty.held_out} recordings"
            )
            return f"New: {part}it comes no closer to {name} than {nearest} that the model never heard to one that it learned"
        case "new":
            nearer = max(1, nearer)
            return f"New: {part}{nearer} % {unheard} come as close to one that it learned as this sound comes to {name}"
        case "close":
            likeness, few = _likeness(novelty), f"{nearer} %" if nearer else "none"
            return f"Close to {name}{_key(novelty)}: {part}{likeness}; {few} {unheard} come as close to any that it learned"
        case "copy":
            return f"A copy of {name}{_key(novelty)}: {part}{_copied(novelty)}"


def _key(novelty: Novelty) -> str:
    words = "no one two three four five six seven eight nine ten eleven twelve"
    key = novelty.nearest.semitones
    if key == 0:
        return ""
    count, noun = several(abs(key), "semitone").split()
    number = dict(enumerate(words.split())).get(abs(key), count)
    return f", {number} {noun} {'higher' if key > 0 else 'lower'}"


def _likeness(novelty: Novelty) -> str:
    if novelty.judged_by == "spectra":
        return f"its spectrum differs by {novelty.spectra.difference_db:.1f} dB on average"
    return f"{100 * novelty.codes.likeness:.0f} % of its codes are the same"


def _copied(novelty: Novelty) -> str:
    match novelty.judged_by:
        case "spectra":
            return f"{_likeness(novelty)}, as little as a recording differs when it is coded again"
        case "run":
            return f"{novelty.codes.copied_seconds:.2f} s in a row, more than half of it, are as in a recording"
        case "codes":
            return _likeness(novelty)
