"""Cross-validation, for corpora too small for one split."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from lightning_fabric import Fabric

from distill.errors import ParamsError
from distill.params import PriorConfig
from distill.prior.data import PriorData
from distill.prior.training import fit_prior
from distill.progress import ProgressReport
from distill.split import draw
from distill.training.checkpoints import CheckpointStore
from distill.training.interruption import Interruption

MAX_RECORDINGS = 20  # from here on one split is enough


def fold_data(data: PriorData, folds: int, seed: int) -> list[PriorData]:
    """Split all recordings into folds: each is held out once, groups stay together.

    The codec was trained on most recordings; the prior of a fold on none that the fold holds out. Raises ParamsError
    for too many folds.
    """
    views = [*data.train, *([codes] for codes in data.held_out)]
    view_groups = [*data.train_groups, *data.held_out_groups]
    labels = [*(data.train_labels or ()), *(data.held_out_labels or ())]
    groups = sorted(set(view_groups), key=lambda group: draw(f"fold:{group}", seed))
    if not 2 <= folds <= len(groups):
        raise ParamsError(
            f"prior.folds: expected 0 or from 2 to {len(groups)}, the number of different sounds, found {folds}"
        )
    parts = []
    for number in range(folds):
        fold_groups = set(groups[number::folds])
        kept = [index for index, group in enumerate(view_groups) if group not in fold_groups]
        held_out = [index for index, group in enumerate(view_groups) if group in fold_groups]
        parts.append(
            replace(
                data,
                train=[views[index] for index in kept],
                train_groups=[view_groups[index] for index in kept],
                held_out=[views[index][0] for index in held_out],
                held_out_groups=[view_groups[index] for index in held_out],
                train_labels=[labels[index] for index in kept] if labels else None,
                held_out_labels=[labels[index] for index in held_out] if labels else None,
                train_names=(),
            )
        )
    return parts


def planned_folds(data: PriorData, config: PriorConfig, seed: int) -> list[PriorData]:
    """The folds that the settings ask for; none from `MAX_RECORDINGS` recordings on."""
    if not config.folds or data.recordings >= MAX_RECORDINGS:
        return []
    return fold_data(data, config.folds, seed)


def measure_folds(
    folds: Sequence[PriorData],
    config: PriorConfig,
    seed: int,
    fabric: Fabric,
    store: CheckpointStore,
    progress: ProgressReport,
    interruption: Interruption,
) -> dict[str, float]:
    """Train a prior for each fold. Returns mean and standard error of held-out bits per second, {} without folds.

    Each fold resumes from its own checkpoint.
    """
    if not folds:
        if config.folds:
            progress.say(f"prior.folds: skipped, one split is enough from {MAX_RECORDINGS} recordings on")
        return {}
    rates = []
    for number, part in enumerate(folds):
        training = fit_prior(part, config, seed, fabric, store.below(f"fold-{number}"), interruption=interruption)
        rates.append(training.result.best_metrics["val_bits_per_second"])
        progress.say(f"fold {number + 1} of {len(folds)}: {rates[-1]:.0f} bits per second of audio")
    standard_error = statistics.stdev(rates) / math.sqrt(len(rates))
    return {"folds/val_bits_per_second": statistics.fmean(rates), "folds/standard_error": standard_error}
