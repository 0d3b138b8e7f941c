"""Where a sequence of codes stands in others already: the best alignment with a set of recordings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.codes.store import Codes

_GAP = np.uint16(65535)  # stands between recordings; no codebook reaches it


@dataclass(frozen=True)
class Match:
    """The best alignment of a sound with a training recording.

    The sound's frame 0 lies at the recording's frame `offset`, which may be negative. `agreement` is the share of the
    sound's codes that the recording has at the same place; `copied_frames` the longest run of frames, in any recording,
    in which at least half of the levels, the first among them, agree.
    """

    recording_id: str
    offset: int
    agreement: float
    copied_frames: int


class AlignmentIndex:
    """Codes of all training recordings, to be searched by alignment."""

    def __init__(self, recordings: Sequence[tuple[str, Codes]], longest_query: int) -> None:
        levels = recordings[0][1].shape[1]
        gap = np.full((longest_query, levels), _GAP)
        parts: list[NDArray[np.uint16]] = [gap]
        self._ids: list[str] = []
        self._starts: list[int] = []
        position = longest_query
        for recording_id, codes in recordings:
            self._ids.append(recording_id)
            self._starts.append(position)
            parts += [codes.astype(np.uint16), gap]
            position += len(codes) + longest_query
        self._longest = longest_query
        self._codes = np.concatenate(parts)

    def match(self, codes: Codes) -> Match:
        """Search for `[F, Q]`. Raises ValueError when it is longer than `longest_query`."""
        frames, levels = codes.shape
        if frames > self._longest:
            raise ValueError(f"expected at most {self._longest} frames, found {frames}")
        lags = len(self._codes) - frames + 1
        agreeing = np.zeros(lags, dtype=np.int32)
        run, longest = np.zeros(lags, dtype=np.int32), np.zeros(lags, dtype=np.int32)
        for frame in range(frames):
            equal = self._codes[frame : frame + lags] == codes[frame].astype(np.uint16)
            count = equal.sum(axis=1, dtype=np.int32)
            agreeing += count
            run = np.where(equal[:, 0] & (2 * count >= levels), run + 1, 0)
            np.maximum(longest, run, out=longest)
        best = int(agreeing.argmax())
        # The recording that begins last before the aligned stretch ends is the only one that the stretch can touch.
        index = max(0, int(np.searchsorted(self._starts, best + frames - 1, side="right")) - 1)
        agreement = float(agreeing[best]) / (frames * levels)
        return Match(self._ids[index], best - self._starts[index], agreement, int(longest.max()))
