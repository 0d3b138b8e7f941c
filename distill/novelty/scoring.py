"""Similarity scores against the training recordings, in codes and in spectra, and their baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.novelty.alignment import Match
from distill.novelty.code_space import CodeIndex
from distill.novelty.reference import MOST_FRAMES, Coded, Reference, Scores, evenly
from distill.novelty.spectral_space import CodeSpectra, SpectralIndex

SHORTEST = 6  # frames of the shortest piece in the baseline
MOST_REENCODED = 64  # recordings
SOFTER = 0.7  # gain before re-encoding


@dataclass(frozen=True)
class Score:
    """The best alignments of a passage in codes and in spectra."""

    frames: int
    codes: Match
    spectra: Match

    def row(self) -> list[float]:
        """The score as a row of `Scores`."""
        both = (self.codes, self.spectra)
        return [self.frames, *(value for one in both for value in (one.likeness, one.copied_frames, one.edit_distance))]


class Likeness:
    """Similarity of sounds to the training recordings of a reference, in codes and in spectra."""

    def __init__(self, codec: VQVAE, recordings: Sequence[Coded]) -> None:
        self._spectra, self._recordings = CodeSpectra(codec), recordings

    def scores(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MOST_FRAMES."""
        if not passages:
            return []
        queries = [codes.astype(np.int64, copy=False) for codes in passages]
        in_codes = self._by_codes.match(queries)
        ends = np.cumsum(list(map(len, queries)))[:-1]
        in_spectra = self._by_spectra.match(np.split(self._spectra.joined(queries), ends))
        return [Score(*parts) for parts in zip(map(len, queries), in_codes, in_spectra, strict=True)]

    @cached_property
    def _by_codes(self) -> CodeIndex:
        return CodeIndex(self._recordings)

    @cached_property
    def _by_spectra(self) -> SpectralIndex:
        return SpectralIndex(self._spectra.joined(self._recordings), list(map(len, self._recordings)))


def with_scores(reference: Reference, codec: VQVAE) -> Reference:
    """Add the baselines to a reference: scores of held-out pieces and of re-encoded training recordings.

    Pieces are held-out recordings, whole and halved again and again. Re-encoding decodes a recording, shifts it by half
    a frame, attenuates it and encodes it again.
    """
    likeness = Likeness(codec, reference.codes)
    pieces = [piece for codes in reference.held_out for piece in _halved(codes)]
    chosen = evenly(reference.codes, MOST_REENCODED)
    return replace(
        reference,
        scores=_table(likeness.scores(pieces)),
        reencoded=_table(likeness.scores(_reencoded(codec, [codes[:MOST_FRAMES] for codes in chosen]))),
    )


def _halved(codes: Coded) -> list[Coded]:
    pieces = [codes]
    while len(pieces[-1]) >= 2 * SHORTEST:
        pieces.append(pieces[-1][: len(pieces[-1]) // 2])
    return pieces


def _reencoded(codec: VQVAE, recordings: Sequence[Coded]) -> list[NDArray[np.int64]]:
    shift = codec.spectrogram.samples_per_frame // 2
    decoded = codec.decode_each(torch.from_numpy(codes.astype(np.int64)) for codes in recordings)
    sounds = [SOFTER * sound[shift if len(sound) > 4 * shift else 0 :] for sound in decoded]
    return [codes.cpu().numpy() for codes in codec.encode_each(sounds)]


def _table(scores: Sequence[Score]) -> Scores:
    return np.array([score.row() for score in scores], dtype=np.float32)
