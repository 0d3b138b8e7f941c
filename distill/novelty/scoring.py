"""Similarity scores against the training recordings, in codes and in spectra, and their baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.novelty.alignment import Match
from distill.novelty.constants import SHORTEST, SOFTER
from distill.novelty.index import CodeIndex, Index, match_in_parts
from distill.novelty.reference import MOST_FRAMES, SPACE, Coded, Reference, evenly
from distill.novelty.spectra import CodeSpectra, SpectralIndex

MOST_REENCODED = 64  # recordings
PART_FRAMES = 1 << 20  # at most, but for the rest of a part's last recording
MOST_KEPT = 8  # indexes of parts: about 50 hours


@dataclass(frozen=True)
class Score:
    """The best alignments of a passage in codes and in spectra."""

    frames: int
    codes: Match
    spectra: Match

    def row(self) -> list[float]:
        """The score as a row of `Scores`."""
        return [self.frames, *(getattr(match, name) for match in (self.codes, self.spectra) for name in SPACE)]


class Likeness:
    """Similarity of sounds to the training recordings of a reference, in codes and in spectra.

    A large library is searched a part at a time. Indexes of the first parts are kept, so that the next sounds are
    searched in less time.
    """

    def __init__(self, codec: VQVAE, recordings: Sequence[Coded]) -> None:
        self._recordings = recordings
        self._cuts = part_cuts(list(map(len, recordings)))
        self._spectra = CodeSpectra(codec)
        self._kept: dict[tuple[bool, int], Index] = {}

    def scores(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MOST_FRAMES."""
        if not passages:
            return []
        queries = [codes.astype(np.int64, copy=False) for codes in passages]
        spectra = np.split(self._spectra.joined(queries), np.cumsum(list(map(len, queries)))[:-1])
        in_codes = match_in_parts(partial(self._index, False), self._cuts[:-1], queries)
        in_spectra = match_in_parts(partial(self._index, True), self._cuts[:-1], spectra)
        return [Score(*parts) for parts in zip(map(len, queries), in_codes, in_spectra, strict=True)]

    def _index(self, of_spectra: bool, part: int) -> Index:
        """The index of a part of the recordings, in spectra or in codes."""
        if (of_spectra, part) in self._kept:
            return self._kept[of_spectra, part]
        recordings = self._recordings[self._cuts[part] : self._cuts[part + 1]]
        index: Index = CodeIndex(recordings)
        if of_spectra:
            index = SpectralIndex(self._spectra.joined(recordings), list(map(len, recordings)))
        if part < MOST_KEPT:
            self._kept[of_spectra, part] = index
        return index


def part_cuts(lengths: Sequence[int]) -> list[int]:
    """Where parts of recordings of so many frames begin, and the end: about as many frames in each, in order."""
    total = sum(lengths)
    part = (np.cumsum(lengths) - lengths) * -(-total // PART_FRAMES) // total
    return [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(lengths)]


def with_scores(reference: Reference, codec: VQVAE) -> Reference:
    """Add the baselines to a reference: scores of held-out pieces and of re-encoded training recordings.

    Pieces are held-out recordings, whole and halved again and again. Re-encoding decodes a recording, shifts it by half
    a frame, attenuates it and encodes it again.
    """
    pieces = [piece for codes in reference.held_out for piece in _halved(codes)]
    chosen = evenly(reference.codes, MOST_REENCODED)
    reencoded = _reencoded(codec, [codes[:MOST_FRAMES] for codes in chosen])
    found = Likeness(codec, reference.codes).scores([*pieces, *reencoded])
    scores = np.array([score.row() for score in found], dtype=np.float32)
    return replace(reference, scores=scores[: len(pieces)], reencoded=scores[len(pieces) :])


def _halved(codes: Coded) -> list[Coded]:
    pieces = [codes]
    while len(pieces[-1]) >= 2 * SHORTEST:
        pieces.append(pieces[-1][: len(pieces[-1]) // 2])
    return pieces


def _reencoded(codec: VQVAE, recordings: Sequence[Coded]) -> list[NDArray[np.int64]]:
    shift = codec.spectrogram.samples_per_frame // 2
    decoded = decode_each(codec, (torch.from_numpy(codes.astype(np.int64)) for codes in recordings))
    sounds = [SOFTER * sound[shift if len(sound) > 4 * shift else 0 :] for sound in decoded]
    return [codes.cpu().numpy() for codes in encode_each(codec, sounds)]
