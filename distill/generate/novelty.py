"""How much of a sound stands in the training recordings already, judged by what held-out recordings score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill.codes.matching import Match

Verdict = Literal["new", "close", "copy"]

SURELY_COPIED = 0.95


@dataclass(frozen=True)
class Novelty:
    """A match, and where it stands among the held-out recordings' own matches."""

    match: Match
    percentile: float  # share of held-out recordings that agree less with the training side than this sound does
    verdict: Verdict


class Calibration:
    """Verdicts from the matches of held-out recordings, which are new by construction."""

    def __init__(self, held_out: Sequence[Match]) -> None:
        self._agreements = np.sort([match.agreement for match in held_out])
        self.close_above = float(np.quantile(self._agreements, 0.95))
        # Where held-out one-shots are themselves found whole in the training side, a whole match still is a copy.
        self.copy_from = min((1.0 + self.close_above) / 2, SURELY_COPIED)

    def judge(self, match: Match) -> Novelty:
        """`copy` from the middle between 1 and what 95 % of held-out recordings stay below, `close` above the latter."""
        below = float(np.searchsorted(self._agreements, match.agreement, side="left")) / len(self._agreements)
        verdict: Verdict = "new"
        if match.agreement >= self.copy_from:
            verdict = "copy"
        elif match.agreement > self.close_above:
            verdict = "close"
        return Novelty(match, below, verdict)
