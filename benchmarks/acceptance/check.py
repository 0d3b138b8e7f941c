"""The seven acceptance criteria of a memory."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from lightning_fabric import Fabric

from benchmarks.acceptance.layer import boundary_error, chunk_figures, norm_growth, shard_gradients
from benchmarks.acceptance.motifs import write_motifs
from benchmarks.acceptance.point import Figure, Point
from benchmarks.acceptance.probes import figures_of, what_remembers, worst_findings
from benchmarks.acceptance.trial import (
    Trial,
    cost_of_probes,
    recover,
    rollbacks_of_a_lasting_fault,
    try_training,
)
from distill.audio.corpus import Corpus
from distill.codec.model import VQVAE
from distill.codec.training import train_vqvae
from distill.errors import DistillError, Interrupted
from distill.execution import Execution
from distill.params import Params
from distill.pipeline.train import code_folder
from distill.prior.data import PriorData
from distill.prior.memory.motifs import FrameSource
from distill.prior.memory.network import MemoryPrior
from distill.progress import ProgressReport
from distill.training.distributed import make_fabric
from distill.training.rollback import MAX_ROLLBACKS, WATCH_STEPS

LENGTH, ROUNDS = 4096, 5
HELD_OUT = {"val_fraction": 0.15}  # all of it is validated after each epoch, twice
COST, RETRIEVAL = "cost of probes", "retrieval"
FAULTS = ("learning rate", "weights", "loss")

T = TypeVar("T")


def check_recordings(
    folder: Path | None, steps: int, seed: int, execution: Execution
) -> Iterator[Point]:
    """`check_memory` on recordings in `folder`, or on synthesised ones, encoded by a codec trained on them."""
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        if folder is None:
            folder = work / "motifs"
            write_motifs(folder, seed, 24)
        changes = {
            "corpus": {"path": str(folder)},
            "vqvae": {"epochs": 1},
            "codes": {"views": 1},
            "split": HELD_OUT,
        }
        params, fabric = Params.model_validate({"seed": seed, **changes}), make_fabric(execution)

        def train(corpus: Corpus) -> VQVAE:
            count = len(corpus.entries)
            with ProgressReport("codec"):
                settings = (params.vqvae_config(count), params.split.resolve(count), seed)
                return train_vqvae(corpus, *settings, fabric).model

        data = code_folder(folder, work / "coded", params, execution, train)
        yield from check_memory(data, steps, seed, fabric)


def check_memory(
    data: PriorData, steps: int, seed: int, fabric: Fabric, **changes: Any
) -> Iterator[Point]:
    """Yield the seven criteria as they are measured. A training of `steps` steps that fails misses its criteria."""
    yield _shown(
        lambda progress: Point(
            1, "chunk sizes on the CPU", tuple(chunk_figures(LENGTH, ROUNDS, progress))
        )
    )
    yield _norm(seed)
    yield Point(7, "gradients stop at shards", shard_gradients(seed))
    yield _shown(lambda progress: _recovery(data, seed, fabric, progress, changes))
    try:
        trial = _shown(
            lambda progress: try_training(data, steps, seed, fabric, progress, **changes)
        )
    except Interrupted:
        raise
    except DistillError as error:
        for number, name in ((4, f"{steps} steps"), (2, COST), (5, RETRIEVAL)):
            yield Point(number, name, (), str(error))
        return
    yield _steps(trial)
    share = _shown(lambda _: cost_of_probes(data, steps, seed, fabric, **changes))
    cost = Figure("share of time", share, "<", 0.01)
    probes = Figure(
        "probes", trial.probes, ">=", 5
    )  # four while the training goes on, one at its end
    yield Point(2, COST, (cost, probes))
    yield _shown(lambda progress: _retrieval(trial, data, seed, fabric, progress))


def _shown(measure: Callable[[ProgressReport], T]) -> T:
    """Measure with progress on stderr, which is cleared before the result is printed."""
    with ProgressReport("memory") as progress:
        return measure(progress)


def _norm(seed: int) -> Point:
    growth, without = norm_growth(seed), norm_growth(seed, with_norm=False)
    figures = (
        Figure("difference of sums to those of persistent keys", boundary_error(seed), "<=", 1e-3),
        Figure("ratio of norms at 1 and 2048 positions", max(growth, 1 / growth), "<", 3.0),
        Figure("the same without the norm", without, ">", 3.0),
    )
    return Point(3, "norm in the projection", figures)


def _recovery(
    data: PriorData, seed: int, fabric: Fabric, progress: ProgressReport, changes: Mapping[str, Any]
) -> Point:
    figures: list[Figure] = []
    for number, fault in enumerate(FAULTS):
        progress(number, len(FAULTS) + 1, f"a training with a fault: {fault}")
        figures += recover(data, fault, seed, fabric, **changes)
    progress(len(FAULTS), len(FAULTS) + 1, "a training with a permanent fault")
    times, stopped = rollbacks_of_a_lasting_fault(data, seed, fabric, **changes)
    rollbacks = times if stopped else math.inf
    last = Figure("rollbacks until a permanent fault stops it", rollbacks, "=", MAX_ROLLBACKS)
    return Point(6, "rollback", (*figures, last))


def _steps(trial: Trial) -> Point:
    figures = (
        Figure("steps done", len(trial.losses), "=", trial.steps),
        Figure("rollbacks", trial.result.counts["rollbacks"], "=", 0),
        Figure("losses and weights that are not finite", trial.not_finite, "=", 0),
        Figure("loss at the end, of that at the start", trial.fall, "<", 1),
        Figure("growth of memory in use over the second half", trial.growth, "<=", 0.05),
        Figure(
            "changes of perplexity on record", len(trial.changes), ">=", trial.steps // WATCH_STEPS
        ),
        Figure(
            "held-out perplexity with the memory ablated, less that with it",
            trial.worth[-1],
            ">=",
            0,
        ),
    )
    return Point(4, f"{trial.steps} steps", figures)


def _retrieval(
    trial: Trial, data: PriorData, seed: int, fabric: Fabric, progress: ProgressReport
) -> Point:
    model = trial.training.model
    assert isinstance(model, MemoryPrior)
    source = FrameSource(
        [recording.codes for recording in data.held_out], data.codes.codebook_sizes
    )
    progress(0, 1, "probes")
    found = worst_findings(model, source, fabric, seed, seeds=3)
    return Point(5, RETRIEVAL, figures_of(found), remark=what_remembers(found))
