"""Novelty verdict: similarity to the training recordings, judged by that of held-out recordings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.codes.store import Codes
from distill.novelty.reference import MOST_FRAMES, SPACE, SPACES, Reference, evenly, rows
from distill.novelty.search import CodeIndex, Match
from distill.novelty.spectra import UNLIKE_DB, CodeSpectra, Pitches, SpectralIndex, interval, pitches
from distill.text import one_line

MOST_REENCODED = 64  # recordings
SHORTEST = 6  # frames of the shortest piece in the baseline
SOFTER = 0.7  # gain before re-encoding
SURELY_COPIED = 0.94  # share of equal codes that is a copy in any corpus
CLOSE_PERCENTILE = 0.975  # of held-out recordings, in each of the two spaces
REENCODED_QUANTILE = 0.5  # of re-encoded recordings' likeness to themselves
FEW_EDITS = 0.1  # share of frames
LONG_ENOUGH = 12  # frames from which spectra alone can show a copy: many short sounds are alike
SIMILAR_LENGTH = 1.5  # largest ratio of lengths in the baseline
MIN_BASELINE = 20  # pieces, of other lengths if need be
LONGEST_NAME = 200  # characters
NUMBERS = ("no", *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])
UNHEARD = "of the recordings that the model never heard"

Verdict = Literal["new", "close", "copy"]
Basis = Literal["codes", "run", "spectra"]
VERDICTS: tuple[Verdict, ...] = ("copy", "close", "new")  # from the least new on

Rows = NDArray[np.void]  # [n], scores by name


@dataclass(frozen=True)
class Score:
    """The best alignments of a passage in codes, in spectra, and in spectra as if played in another key."""

    frames: int
    codes: Match
    spectra: Match
    keys: Match


def with_scores(reference: Reference, codec: VQVAE) -> Reference:
    """Add the baselines to a reference: scores of held-out pieces and of re-encoded training recordings.

    Pieces are held-out recordings, whole and halved again and again. Re-encoding decodes a recording, shifts it by half
    a frame, attenuates it and encodes it again.
    """
    pieces = []
    for codes in reference.held_out:
        pieces.append(codes)
        while len(pieces[-1]) >= 2 * SHORTEST:
            pieces.append(pieces[-1][: len(pieces[-1]) // 2])
    chosen = [codes[:MOST_FRAMES].astype(np.int64) for codes in evenly(reference.codes, MOST_REENCODED)]
    shift = codec.spectrogram.samples_per_frame // 2
    decoded = decode_each(codec, map(torch.from_numpy, chosen))
    sounds = [SOFTER * sound[shift if len(sound) > 4 * shift else 0 :] for sound in decoded]
    reencoded = [codes.cpu().numpy() for codes in encode_each(codec, sounds)]
    found = Judge(reference, codec).scores([*pieces, *reencoded])
    scores = np.array(
        [[one.frames, *(getattr(getattr(one, space), name) for space in SPACES for name in SPACE)] for one in found],
        np.float32,
    )
    return replace(reference, scores=scores[: len(pieces)], reencoded=scores[len(pieces) :])


@dataclass(frozen=True)
class Shared:
    """Similarity of a sound to the nearest training recording in one space, at the best alignment.

    `likeness` runs from 0 to 1: in codes it is the share of equal codes, in spectra 1 - mean difference / 20 dB.
    `percentile`, the novelty percentile, is the share of held-out recordings of similar length with a lower likeness.
    `semitones` is how much higher the sound is than the recording, 0 where notes do not tell.
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
        """The mean spectral difference in dB of a likeness in spectra."""
        return (1.0 - self.likeness) * UNLIKE_DB


@dataclass(frozen=True)
class Novelty:
    """The verdict on a sound, with the similarities of its least new passage."""

    verdict: Verdict
    codes: Shared
    spectra: Shared
    passage_seconds: float  # start of the passage in the sound
    judged_by: Basis = "codes"  # what decided: equal codes, a copied run of them, or spectra

    @property
    def nearest(self) -> Shared:
        """The similarity to the recording that the verdict is about."""
        return self.spectra if self.judged_by == "spectra" else self.codes

    @property
    def percentile(self) -> float:
        """The novelty percentile: the higher of the two spaces."""
        return max(self.codes.percentile, self.spectra.percentile)

    def json(self) -> dict[str, Any]:
        """The verdict and its reasons, for reports."""
        spectra = {**asdict(self.spectra), "difference_db": self.spectra.difference_db}
        return {**asdict(self), "percentile": self.percentile, "spectra": spectra}


class Judge:
    """Judge of novelty against a reference with scores."""

    def __init__(self, reference: Reference, codec: VQVAE) -> None:
        """A reference without scores is enough for `scores`."""
        self.reference, self.codec, self.frame_rate = reference, codec, codec.spectrogram.frame_rate
        likeness = rows(reference.reencoded)["spectra"]["likeness"]
        self._reencoded_likeness = np.quantile(likeness, REENCODED_QUANTILE) if len(likeness) else np.nan
        self.spectra = CodeSpectra(codec)
        self._levels = codec.layout.spectral  # equal notes are no sign of a copy
        self._in_codes = CodeIndex([codes[:, self._levels] for codes in reference.codes])
        self._pitches = np.concatenate([pitches(codec, codes) for codes in reference.codes])
        self._in_spectra = SpectralIndex(self.spectra.joined(reference.codes), list(map(len, reference.codes)))

    def scores(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MOST_FRAMES."""
        spectra = [self.spectra(one) for one in passages]
        notes = [pitches(self.codec, one) for one in passages]
        in_codes = self._in_codes.match([one[:, self._levels] for one in passages])
        in_spectra = self._in_spectra.match(spectra)
        in_keys = self._in_spectra.match_in_keys(spectra, notes, self._pitches, self.spectra.centres)
        return [
            Score(len(own), self._with_interval(codes, own), self._with_interval(plain, own), keyed)
            for own, codes, plain, keyed in zip(notes, in_codes, in_spectra, in_keys, strict=True)
        ]

    def _with_interval(self, match: Match, notes: Pitches) -> Match:
        """A match with the interval between the notes `[F]` of a sound and those beside them."""
        begin, end = self._in_spectra.starts[match.recording : match.recording + 2]
        positions = begin + match.offset + np.arange(len(notes))
        inside = (positions >= begin) & (positions < end)
        beside = np.where(inside, self._pitches[positions.clip(begin, end - 1)], np.nan)
        return replace(match, semitones=interval(notes, beside))

    def __call__(self, sounds: Sequence[Codes]) -> list[Novelty]:
        """Novelty of each sound, given its codes `[F, Q]`; of a long sound, that of its least new passage."""
        passages: list[Codes] = []
        places: list[tuple[int, int]] = []  # sound, first frame in it
        for number, codes in enumerate(sounds):
            count = -(-len(codes) // MOST_FRAMES)
            for begin, end in pairwise(len(codes) * cut // count for cut in range(count + 1)):
                passages.append(codes[begin:end])
                places.append((number, begin))
        found: list[list[Novelty]] = [[] for _ in sounds]
        for (number, begin), score in zip(places, self.scores(passages), strict=True):
            found[number].append(self._novelty(score, begin))

        def newness(one: Novelty) -> tuple[int, float, float]:
            return VERDICTS.index(one.verdict), -one.percentile, -one.codes.likeness

        return [min(novelties, key=newness) for novelties in found]

    def _novelty(self, score: Score, begin: int) -> Novelty:
        baseline = comparable(rows(self.reference.scores), score.frames)
        spaces = "codes", spectral_space(score, baseline)
        codes, spectra = (self._shared(getattr(score, space), baseline[space]) for space in spaces)
        verdict, basis = self.verdict(score, baseline)
        if basis is None:
            basis = "spectra" if spectra.percentile > codes.percentile else "codes"
        return Novelty(verdict, codes, spectra, begin / self.frame_rate, basis)

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

    def verdict(self, score: Score, baseline: Rows) -> tuple[Verdict, Basis | None]:
        """The verdict from a score and the scores of comparable held-out pieces, and what decided if one thing did.

        `copy` by codes: likeness at least half way from the 97.5th percentile to 1, or a run over half the sound.
        `copy` by spectra: as similar as re-encoded recordings, with few edits, and not very short. `close`: above the
        97.5th percentile of held-out recordings in one of the spaces.
        """
        space = spectral_space(score, baseline)
        codes, spectra, match = baseline["codes"], baseline[space], getattr(score, space)
        close, close_in_spectra, longest_run = (
            np.quantile(values, CLOSE_PERCENTILE, method="higher")
            for values in (codes["likeness"], spectra["likeness"], codes["copied_frames"])
        )
        fewest_edits = float(np.quantile(spectra["edit_distance"], 1 - CLOSE_PERCENTILE, method="lower"))
        copied_from = min((1.0 + close) / 2, SURELY_COPIED)
        run = score.codes.copied_frames
        if score.codes.likeness >= copied_from:
            return "copy", "codes"
        if run > max(longest_run, score.frames / 2):
            return "copy", "run"
        is_close = score.codes.likeness > close
        if score.frames < SHORTEST:  # too short for spectra to tell
            return "close" if is_close else "new", "codes"
        is_same = match.likeness > max(close_in_spectra, self._reencoded_likeness)
        is_edited_little = match.edit_distance < max(fewest_edits, FEW_EDITS)
        if is_same and is_edited_little and score.frames >= LONG_ENOUGH:
            return "copy", "spectra"
        is_close_in_spectra = match.likeness > close_in_spectra
        if is_close != is_close_in_spectra:
            return "close", "codes" if is_close else "spectra"
        return "close" if is_close else "new", None


def spectral_space(score: Score, baseline: Rows) -> Literal["spectra", "keys"]:
    """The space that a passage is judged in: another key where fewer held-out pieces `[n]` come as near, and hardly any."""
    near, near_in_key = (
        (float((baseline[space]["likeness"] < match.likeness).mean()), match.likeness)
        for space, match in (("spectra", score.spectra), ("keys", score.keys))
    )
    return "keys" if near_in_key > max(near, (CLOSE_PERCENTILE, 0.0)) else "spectra"


def comparable(scores: Rows, frames: int) -> Rows:
    """The scores `[n]` of pieces of similar length; at least the MIN_BASELINE nearest in length."""
    apart = np.abs(np.log(scores["frames"] / frames))
    nearest = np.sort(apart)[:MIN_BASELINE][-1]
    chosen: Rows = scores[apart <= max(nearest, np.log(SIMILAR_LENGTH))]
    return chosen


def explain(novelty: Novelty) -> str:
    """One sentence: how new a sound is, beside which training recording, and why it was judged so."""
    name = one_line(novelty.nearest.nearest, LONGEST_NAME)
    part = f"from {novelty.passage_seconds:.1f} s on, " if novelty.passage_seconds else ""
    share = novelty.nearest.percentile
    if novelty.verdict == "new":
        as_close = max(1, round(100 * (1 - share)))
        return f"New: {part}{as_close} % {UNHEARD} come as close to one that it learned as this sound comes to {name}"
    if key := novelty.nearest.semitones:
        count = NUMBERS[abs(key)] if abs(key) < len(NUMBERS) else str(abs(key))
        name += f", {count} semitone{'s' * (abs(key) != 1)} {'higher' if key > 0 else 'lower'}"
    alike = f"{100 * novelty.codes.likeness:.0f} % of its codes are the same"
    if novelty.judged_by == "spectra":
        alike = f"its spectrum differs by {novelty.spectra.difference_db:.1f} dB on average"
    if novelty.verdict == "close":
        less = f"all {UNHEARD}" if share == 1 else f"{int(100 * share)} % {UNHEARD}"
        return f"Close to {name}: {part}{alike}; {less} are less like any that it learned"
    if novelty.judged_by == "spectra":
        alike += ", as little as a recording differs when it is coded again"
    elif novelty.judged_by == "run":
        alike = f"{novelty.codes.copied_seconds:.2f} s in a row, more than half of it, are as in a recording"
    return f"A copy of {name}: {part}{alike}"
