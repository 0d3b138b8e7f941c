"""Similarity scores against the training recordings, in codes and in spectra, and their baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.novelty.alignment import Match
from distill.novelty.constants import SHORTEST, SOFTER
from distill.novelty.part_index import (
    Found,
    Matches,
    Part,
    PartIndex,
    Passages,
    best_found,
    best_of,
    parts_of,
    passages_of,
)
from distill.novelty.reference import MOST_FRAMES, Coded, Reference, Scores, evenly
from distill.novelty.spectral_space import CodeSpectra
from distill.storage.work import HERE, Executor, map_in_order

MOST_REENCODED = 64  # recordings
MOST_KEPT = 8  # indexes of parts: about 50 hours
FEWEST_SHARED = 4  # parts, more than 20 hours: fewer are searched here before others have begun


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

    A large library is searched a part at a time, a very large one by `executor`.
    """

    def __init__(self, codec: VQVAE, recordings: Sequence[Coded], executor: Executor = HERE) -> None:
        self._parts = parts_of(recordings)
        self._executor = executor if len(self._parts) >= FEWEST_SHARED else HERE
        self._search = _PartSearch(CodeSpectra(codec))

    def scores(self, passages: Sequence[NDArray[np.integer]]) -> list[Score]:
        """Score passages of codes `[F, Q]`, F at most MOST_FRAMES."""
        if not passages:
            return []
        queries = [codes.astype(np.int64, copy=False) for codes in passages]
        by_space = (zip(*space, strict=True) for space in zip(*self._by_part(queries), strict=True))
        best = ([best_of(matches) for matches in space] for space in by_space)
        return [Score(*parts) for parts in zip(map(len, queries), *best, strict=True)]

    def _by_part(self, queries: Sequence[Codes]) -> list[Matches]:
        passages = passages_of(self._search.spectra, queries)
        found = best_found(map_in_order(partial(self._search.find, passages), self._parts, self._executor))
        chosen = zip(self._parts, found, strict=True)
        return map_in_order(partial(self._search.align, passages), chosen, self._executor)


class _PartSearch:
    """Search of parts. Indexes of the first ones are kept, so that the next sounds are searched in less time."""

    def __init__(self, spectra: CodeSpectra) -> None:
        self.spectra = spectra
        self._kept: dict[int, PartIndex] = {}

    def __reduce__(self) -> tuple[type["_PartSearch"], tuple[CodeSpectra]]:
        return _PartSearch, (self.spectra,)

    def find(self, passages: Passages, part: Part) -> Found:
        """Where passages may lie in a part."""
        return self._index(part).find(passages)

    def align(self, passages: Passages, found: tuple[Part, Found]) -> Matches:
        """The best alignments with a part at some of what was found."""
        part, candidates = found
        return self._index(part).align(passages, candidates)

    def _index(self, part: Part) -> PartIndex:
        if part.first in self._kept:
            return self._kept[part.first]
        index = PartIndex(self.spectra, part)
        if len(self._kept) < MOST_KEPT:
            self._kept[part.first] = index
        return index


def with_scores(reference: Reference, codec: VQVAE, executor: Executor = HERE) -> Reference:
    """Add the baselines to a reference: scores of held-out pieces and of re-encoded training recordings.

    Pieces are held-out recordings, whole and halved again and again. Re-encoding decodes a recording, shifts it by half
    a frame, attenuates it and encodes it again. `executor` searches a very large library.
    """
    pieces = [piece for codes in reference.held_out for piece in _halved(codes)]
    chosen = evenly(reference.codes, MOST_REENCODED)
    reencoded = _reencoded(codec, [codes[:MOST_FRAMES] for codes in chosen])
    scores = _table(Likeness(codec, reference.codes, executor).scores([*pieces, *reencoded]))
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
