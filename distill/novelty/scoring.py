"""Similarity scores against the training recordings, in codes and in spectra, and their baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from distill.cluster import SharedCluster
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.novelty.alignment import Match
from distill.novelty.constants import SHORTEST, SOFTER
from distill.novelty.part_index import Matches, PartIndex, best_found, best_of, parts_of, passages_of
from distill.novelty.part_search import search_there
from distill.novelty.reference import MOST_FRAMES, Coded, Reference, Scores, evenly
from distill.novelty.spectral_space import CodeSpectra

MOST_REENCODED = 64  # recordings
MOST_KEPT = 8  # indexes of parts: about 50 hours
FEWEST_SHARED = 4  # parts, more than 20 hours: fewer are searched here before a cluster has begun


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
    """Similarity of sounds to the training recordings of a reference, in codes and in spectra.

    A large library is searched a part at a time, a very large one by the workers of a cluster where there is one.
    """

    def __init__(self, codec: VQVAE, recordings: Sequence[Coded], cluster: SharedCluster | None = None) -> None:
        self._codec, self._cluster = codec, cluster
        self._parts = parts_of(recordings)
        self._spectra = CodeSpectra(codec)
        self._kept: dict[int, PartIndex] = {}

    def scores(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MOST_FRAMES. Raises ClusterError."""
        if not passages:
            return []
        queries = [codes.astype(np.int64, copy=False) for codes in passages]
        by_space = (zip(*space, strict=True) for space in zip(*self._by_part(queries), strict=True))
        best = ([best_of(matches) for matches in space] for space in by_space)
        return [Score(*parts) for parts in zip(map(len, queries), *best, strict=True)]

    def _by_part(self, queries: Sequence[Codes]) -> list[Matches]:
        if self._cluster is not None and len(self._parts) >= FEWEST_SHARED:
            return search_there(self._cluster, self._codec, self._parts, queries)
        passages, numbers = passages_of(self._spectra, queries), range(len(self._parts))
        found = best_found([self._index(number).find(passages) for number in numbers])
        return [self._index(number).align(passages, found[number]) for number in numbers]

    def _index(self, number: int) -> PartIndex:
        """The index of a part. Those of the first parts are kept, so that the next sounds are searched in less time."""
        if number in self._kept:
            return self._kept[number]
        index = PartIndex(self._spectra, self._parts[number])
        if number < MOST_KEPT:
            self._kept[number] = index
        return index


def with_scores(reference: Reference, codec: VQVAE, cluster: SharedCluster | None = None) -> Reference:
    """Add the baselines to a reference: scores of held-out pieces and of re-encoded training recordings.

    Pieces are held-out recordings, whole and halved again and again. Re-encoding decodes a recording, shifts it by half
    a frame, attenuates it and encodes it again. Raises ClusterError.
    """
    pieces = [piece for codes in reference.held_out for piece in _halved(codes)]
    chosen = evenly(reference.codes, MOST_REENCODED)
    reencoded = _reencoded(codec, [codes[:MOST_FRAMES] for codes in chosen])
    scores = _table(Likeness(codec, reference.codes, cluster).scores([*pieces, *reencoded]))
    return replace(reference, scores=scores[: len(pieces)], reencoded=scores[len(pieces) :])


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
