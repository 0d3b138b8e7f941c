"""The seven acceptance criteria of a memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from lightning_fabric import Fabric

from benchmarks.acceptance.layer import (
    FEATURES,
    PLAIN,
    ChunkSpeed,
    boundary_error,
    chunk_speeds,
    norm_growth,
    shard_gradients,
)
from benchmarks.acceptance.motifs import write_motifs
from benchmarks.acceptance.probes import worst_findings
from benchmarks.acceptance.trial import Trial, recover, rollbacks_of_a_lasting_fault, try_training
from distill.audio.corpus import Corpus
from distill.codec.model import VQVAE
from distill.codec.training import train_vqvae
from distill.errors import DistillError, Interrupted
from distill.execution import Execution
from distill.params import Params, default_values
from distill.pipeline.train import code_folder
from distill.prior.data import PriorData
from distill.prior.memory.network import MemoryPrior
from distill.prior.memory.task import FrameSource
from distill.progress import ProgressReport
from distill.training.distributed import make_fabric
from distill.training.rollback import MAX_ROLLBACKS

LENGTH, ROUNDS = 4096, 5
SAME = 1e-4  # largest relative difference between chunk sizes
NEARLY_BEST = 0.7  # least speed relative to the best chunk size
SUMS_SAME, NORM_RATIO = 1e-3, 3.0
PROBE_SHARE, GROWTH = 0.01, 0.05
SEEDS = 3
RECORDINGS = 24  # to synthesise where there is no folder
COST, RETRIEVAL = "cost of probes", "retrieval"
FAULTS = ("learning rate", "weights", "loss")

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """An acceptance criterion with its finding."""

    number: int
    name: str
    passed: bool
    found: str


def check_recordings(folder: Path | None, steps: int, seed: int, execution: Execution) -> Iterator[Point]:
    """`check_memory` on recordings in `folder`, or on synthesised ones, encoded by a codec trained on them."""
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        if folder is None:
            folder = work / "motifs"
            write_motifs(folder, seed, RECORDINGS)
        changes = {"corpus": {"path": str(folder)}, "vqvae": {"epochs": 1}, "codes": {"views": 1}}
        params, fabric = Params.model_validate({"seed": seed, **changes}), make_fabric(execution)

        def train(corpus: Corpus) -> VQVAE:
            count = len(corpus.entries)
            with ProgressReport("codec"):
                settings = (params.vqvae_config(count), params.split.resolve(count), seed)
                return train_vqvae(corpus, *settings, fabric).model

        data = code_folder(folder, work / "coded", params, execution, train)
        yield from check_memory(data, steps, seed, fabric)


def check_memory(data: PriorData, steps: int, seed: int, fabric: Fabric, **changes: Any) -> Iterator[Point]:
    """Yield the seven criteria as they are measured: first those of the layers, then those of trainings on `data`.

    One training has `steps` steps; `changes` override settings. A training that fails misses its criteria.
    """
    yield _shown(_chunks)
    yield _norm(seed)
    yield _gradients(seed)
    yield _shown(lambda progress: _recovery(data, seed, fabric, progress, changes))
    try:
        trial = _shown(lambda progress: try_training(data, steps, seed, fabric, progress, **changes))
    except Interrupted:
        raise
    except DistillError as error:
        for number, name in ((4, f"{steps} steps"), (2, COST), (5, RETRIEVAL)):
            yield Point(number, name, False, str(error))
        return
    yield _steps(trial)
    yield _probe_cost(trial)
    yield _shown(lambda progress: _retrieval(trial, data, seed, fabric, progress))


def _shown(measure: Callable[[ProgressReport], T]) -> T:
    """Measure with progress on stderr, which is cleared before the result is printed."""
    with ProgressReport("memory") as progress:
        return measure(progress)


def _chunks(progress: ProgressReport) -> Point:
    speeds: list[ChunkSpeed] = []
    for number, kind in enumerate((PLAIN, FEATURES)):
        progress(number, 2, "chunk sizes")
        speeds += chunk_speeds(kind, LENGTH, ROUNDS)
    chosen = int(default_values()["prior"]["memory"]["chunk_size"])
    worst = max(speed.difference for speed in speeds)
    shares = []
    for kind in (PLAIN, FEATURES):
        by_chunk = {speed.chunk: speed.tokens_per_second for speed in speeds if speed.kind == kind.name}
        shares.append(by_chunk[chosen] / max(by_chunk.values()))
    return Point(
        1,
        "chunk sizes on the CPU",
        worst <= SAME and min(shares) >= NEARLY_BEST,
        f"chunks of 8 to 256 agree to {worst:.0e}; those of {chosen} reach {shares[0]:.0%} of the best speed with {PLAIN.name}, "
        f"{shares[1]:.0%} with {FEATURES.name}",
    )


def _norm(seed: int) -> Point:
    error, growth, without = boundary_error(seed), norm_growth(seed), norm_growth(seed, with_norm=False)
    return Point(
        3,
        "norm in the projection",
        error <= SUMS_SAME and 1 / NORM_RATIO < growth < NORM_RATIO < without,
        f"both sums start as those of the persistent keys, to {error:.0e}; projected queries are {growth:.2f} times as long after 1 "
        f"position as after 2048, without the norm {without:.0f} times",
    )


def _gradients(seed: int) -> Point:
    found = shard_gradients(seed)
    return Point(
        7,
        "gradients stop at shards",
        found.stop_at_boundaries,
        f"{found.outside:g} at other shards, at least {found.inside:.0e} in the shard and {found.persistent:.0e} at persistent keys; "
        f"largest state carried on {found.carried:.2g}",
    )


def _recovery(
    data: PriorData, seed: int, fabric: Fabric, progress: ProgressReport, changes: Mapping[str, Any]
) -> Point:
    recoveries = []
    for number, fault in enumerate(FAULTS):
        progress(number, len(FAULTS) + 1, f"a training with a fault: {fault}")
        recoveries.append(recover(data, fault, seed, fabric, **changes))
    progress(len(FAULTS), len(FAULTS) + 1, "a training with a permanent fault")
    times, stopped = rollbacks_of_a_lasting_fault(data, seed, fabric, **changes)
    reported = "; ".join(
        f"{one.fault} found after {one.looks:.1f} looks, "
        f"{'restored' if one.is_restored else 'not restored'} bit for bit, {'new' if one.skips_data else 'old'} data"
        for one in recoveries
    )
    return Point(
        6,
        "rollback",
        stopped and all(one.passed for one in recoveries),
        f"{reported}; after {times} of {MAX_ROLLBACKS} rollbacks training {'stopped' if stopped else 'did not stop'}",
    )


def _steps(trial: Trial) -> Point:
    return Point(
        4,
        f"{trial.steps} steps",
        trial.is_whole and trial.is_finite and trial.fall < 1 and trial.growth <= GROWTH,
        f"{len(trial.losses)} done, {'none' if trial.is_whole else 'some'} undone or missing, "
        f"{'all' if trial.is_finite else 'not all'} finite, the loss ends at {trial.fall:.0%} of where it began, memory in use "
        f"grew by {trial.growth:.1%} after step 100",
    )


def _probe_cost(trial: Trial) -> Point:
    share = trial.probe_share
    return Point(2, COST, share < PROBE_SHARE, f"{share:.2%} of the time of {len(trial.seconds)} steps")


def _retrieval(trial: Trial, data: PriorData, seed: int, fabric: Fabric, progress: ProgressReport) -> Point:
    assert trial.training is not None
    model = trial.training.model
    assert isinstance(model, MemoryPrior)
    source = FrameSource([one.codes for one in data.held_out], data.codes.codebook_size)
    progress(0, 1, "probes")
    worst = worst_findings(model, source, fabric, seed, SEEDS)
    return Point(
        5,
        RETRIEVAL,
        worst.passed,
        f"the worst of {SEEDS} seeds: mechanism {worst.mechanism:.2f}, in situ {worst.in_situ:.2f}, top 1 {worst.top1:.2f}, ranked first "
        f"{worst.ranked:.2f}; absent {worst.top1_absent:.2f} and {worst.ranked_absent:.2f}, ablated {worst.top1_ablated:.2f} (by chance "
        f"{worst.chance:.2f}) and {worst.ranked_ablated:.2f}",
    )


def summary(points: list[Point]) -> str:
    """The number of criteria reached, and those missed."""
    missed = sorted(point.number for point in points if not point.passed)
    reached = f"{len(points) - len(missed)}/{len(points)}"
    return f"{reached}; missed: {', '.join(map(str, missed))}" if missed else reached
