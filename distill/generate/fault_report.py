"""Report on the faults of a set of sounds, beside those of held-out recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill.generate.faults import FAULTS, Fault

MEANINGS: dict[Fault, str] = {
    "drone": "it stands still for longer than recordings do",
    "stutter": "it falls silent and starts again",
    "attack": "it starts later, or stays softer, than recordings",
    "ending": "it is cut off while it is loud",
    "length": "it is shorter than any recording",
}


@dataclass(frozen=True)
class FaultReport:
    """Faults of every sound and of every held-out recording; `rejected` sounds were drawn again for theirs."""

    sounds: Sequence[tuple[Fault, ...]]
    held_out: Sequence[tuple[Fault, ...]]
    rejected: int = 0

    @property
    def faulty(self) -> int:
        """Number of sounds with a fault."""
        return sum(map(bool, self.sounds))

    def metrics(self) -> dict[str, float]:
        """The shares of sounds and of held-out recordings, `_held_out`, with any fault and with each, by metric name."""
        sides = (("", self.sounds), ("_held_out", self.held_out))
        return {f"fault_rate{side}": _share(found) for side, found in sides} | {
            f"{kind}_rate{side}": _share(found, kind) for kind in FAULTS for side, found in sides
        }

    def json(self) -> dict[str, Any]:
        """The figures of `metrics`, the numbers of faulty and rejected sounds, and the lines."""
        return {**self.metrics(), "faulty": self.faulty, "rejected": self.rejected, "in_words": self.lines}

    @property
    def lines(self) -> list[str]:
        """One line where no sound has a fault; else a line on all, and one for each fault."""
        lines = []
        if self.rejected:
            again = f"{self.rejected} faulty sound{'s' * (self.rejected != 1)} drawn again"
            lines.append(f"{again}; {self.faulty} still faulty" if self.faulty else again)
        held_out = f"of {len(self.held_out)} held-out recordings {_share(self.held_out):.0%}"
        if not self.faulty:
            return [*lines, f"no faults: 0 of {len(self.sounds)} sounds; {held_out}"]
        share = _share(self.sounds)
        return [
            *lines,
            f"faults: {self.faulty} of {len(self.sounds)} sounds, {share:.0%}; {held_out}",
            *(
                f"  {kind} {_share(self.sounds, kind):.0%}, held-out {_share(self.held_out, kind):.0%}: {meaning}"
                for kind, meaning in MEANINGS.items()
                if _share(self.sounds, kind)
            ),
        ]


def _share(sounds: Sequence[tuple[Fault, ...]], kind: Fault | None = None) -> float:
    """Share of sounds with this fault, or with any; 0 of no sounds."""
    return sum(bool(found) if kind is None else kind in found for found in sounds) / max(1, len(sounds))
