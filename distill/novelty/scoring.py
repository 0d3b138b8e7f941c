"""Similarity scores against the training recordings, in codes and in spectra, and their baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each, encode_each
from distill.novelty.reference import MOST_FRAMES, SPACE, Coded, Reference, evenly
from distill.novelty.search import CodeIndex, Match
from distill.novelty.spectra import CodeSpectra, SpectralIndex

MOST_REENCODED = 64  # recordings
SHORTEST = 6  # frames of the shortest piece in the baseline
SOFTER = 0.7  # gain before re-encoding


@dataclass(frozen=True)
class Score:
    """The best alignments of a passage in codes and in spectra."""

    frames: int
    codes: Match
    spectra: Match


class Likeness:
    """Similarity of sounds to recordings, in codes and in spectra."""

    def __init__(self, codec: VQVAE, recordings: Sequence[Coded]) -> None:
        self._recordings, self.spectra = recordings, CodeSpectra(codec)

    @cached_property
    def _indexes(self) -> tuple[CodeIndex, SpectralIndex]:
        lengths = list(map(len, self._recordings))
        return CodeIndex(self._recordings), SpectralIndex(self.spectra.joined(self._recordings), lengths)

    def scores(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MOST_FRAMES."""
        if not passages:
            return []
        in_codes, in_spectra = self._indexes
        queries = [codes.astype(np.int64, copy=False) for codes in passages]
        spectra = np.split(self.spectra.joined(queries), np.cumsum(list(map(len, queries)))[:-1])
        matches = zip(map(len, queries), in_codes.match(queries), in_spectra.match(spectra), strict=True)
        return [Score(*parts) for parts in matches]


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
    found = Likeness(codec, reference.codes).scores([*pieces, *reencoded])
    scores = np.array(
        [[one.frames, *(getattr(of, name) for of in (one.codes, one.spectra) for name in SPACE)] for one in found],
        np.float32,
    )
    return replace(reference, scores=scores[: len(pieces)], reencoded=scores[len(pieces) :])
