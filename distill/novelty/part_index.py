"""Index of a part of the recordings, so that a library is searched a part at a time, by one machine or by several."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.codes.store import Codes
from distill.novelty.alignment import Match
from distill.novelty.code_space import CodeIndex
from distill.novelty.lag_search import Candidates, best_candidates
from distill.novelty.reference import Coded
from distill.novelty.spectral_space import CodeSpectra, Spectra, SpectralIndex

PART_FRAMES = 1 << 20  # at most, but for the rest of a part's last recording


class Part(NamedTuple):
    """Consecutive recordings, codes `[F, Q]` each: the number of the first, and of its first frame, of all end to end."""

    first: int
    start: int
    recordings: Sequence[NDArray[np.integer]]

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another machine as one array: recordings are many, and short."""
        codes = np.concatenate(self.recordings).astype(np.uint16, copy=False)
        return _part_of, (self.first, self.start, codes, np.cumsum(list(map(len, self.recordings)))[:-1])


def _part_of(first: int, start: int, codes: NDArray[np.uint16], cuts: NDArray[np.int64]) -> Part:
    return Part(first, start, np.split(codes, cuts))


class Passages(NamedTuple):
    """Codes `[F, Q]` and spectra of passages of sounds."""

    codes: Sequence[Codes]
    spectra: Sequence[Spectra]


class Found(NamedTuple):
    """Where passages may lie in a part, by their codes and by their spectra."""

    codes: Candidates
    spectra: Candidates


class Matches(NamedTuple):
    """For each passage the best alignment with a recording of a part, None where there is no candidate for one."""

    codes: Sequence[Match | None]
    spectra: Sequence[Match | None]


class PartIndex:
    """Index of a part in codes and in spectra. Matches have the numbers that recordings have among all."""

    def __init__(self, spectra: CodeSpectra, part: Part) -> None:
        self._first = part.first
        self._by_codes = CodeIndex(part.recordings)
        self._by_spectra = SpectralIndex(spectra.joined(part.recordings), list(map(len, part.recordings)))

    def find(self, passages: Passages) -> Found:
        """Where each of the passages may lie in this part."""
        return Found(self._by_codes.find_candidates(passages.codes), self._by_spectra.find_candidates(passages.spectra))

    def align(self, passages: Passages, found: Found) -> Matches:
        """The best alignments at some of what `find` found."""
        in_codes = self._by_codes.align(passages.codes, found.codes)
        in_spectra = self._by_spectra.align(passages.spectra, found.spectra)
        return Matches(*([one and self._numbered(one) for one in space] for space in (in_codes, in_spectra)))

    def _numbered(self, match: Match) -> Match:
        return replace(match, recording=match.recording + self._first)


def parts_of(recordings: Sequence[Coded]) -> list[Part]:
    """The recordings in order, in parts of about as many frames, which depend on their lengths alone."""
    lengths = np.array(list(map(len, recordings)))
    starts, total = np.cumsum(lengths) - lengths, int(lengths.sum())
    part = starts * -(-total // PART_FRAMES) // total
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(recordings)]
    return [Part(first, int(starts[first]), recordings[first:last]) for first, last in pairwise(cuts)]


def passages_of(spectra: CodeSpectra, codes: Sequence[Codes]) -> Passages:
    """Passages, at least one, with their spectra."""
    return Passages(codes, np.split(spectra.joined(codes), np.cumsum(list(map(len, codes)))[:-1]))


def best_found(parts: Sequence[Found]) -> list[Found]:
    """What is worth an alignment in each part: the best candidates of all parts."""
    in_codes, in_spectra = (best_candidates(space) for space in zip(*parts, strict=True))
    return [Found(*both) for both in zip(in_codes, in_spectra, strict=True)]


def best_of(matches: Sequence[Match | None]) -> Match:
    """The best of a passage's matches in each part; the first of equals. The copied run is the longest of any part."""
    there = [match for match in matches if match is not None]
    best = max(there, key=lambda match: match.likeness)
    return replace(best, copied_frames=max(match.copied_frames for match in there))
