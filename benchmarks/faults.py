"""Faults of the sounds of a model, beside those of held-out and of training recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prior import Say
from distill.api import Model
from distill.errors import ArtifactError
from distill.generate.faults import Fault, FaultReport, left_out_faults

SOUNDS = 64  # of each seed
SEEDS = (0, 1)
FEWEST = 2  # training recordings that can be judged by one another


@dataclass(frozen=True)
class FaultsReport:
    """Faults of each sound, by seed, of held-out recordings, and of training recordings by the limits of the others."""

    model: str
    generated: tuple[tuple[tuple[Fault, ...], ...], ...]
    held_out: tuple[tuple[Fault, ...], ...]
    training: tuple[tuple[Fault, ...], ...]

    def sides(self) -> list[tuple[str, Sequence[tuple[Fault, ...]]]]:
        """The names and faults of all that is compared."""
        generated = [(f"generated, seed {seed}", found) for seed, found in zip(SEEDS, self.generated, strict=True)]
        return [*generated, ("held-out recordings", self.held_out), ("training recordings, left out", self.training)]


def measure_faults(path: Path, say: Say) -> FaultsReport:
    """Generate SOUNDS of each of SEEDS and find their faults. Raises ArtifactError for a model without its recordings."""
    model = Model(path)
    model.check_request(reject_faults=True)
    if model.fault_finder is None or len(model.fault_finder.training) < FEWEST:
        raise ArtifactError(f"{path}: expected a model of {FEWEST} training recordings or more, found fewer")
    reports: list[FaultReport] = []
    for seed in SEEDS:
        say(f"{path.name}: {SOUNDS} sounds of seed {seed}")
        made = model.generate(SOUNDS, seed=seed).fault_report
        assert made is not None
        reports.append(made)
    return FaultsReport(
        path.name,
        tuple(tuple(one.sounds) for one in reports),
        tuple(model.fault_finder.held_out()),
        tuple(left_out_faults(model.fault_finder.training)),
    )
