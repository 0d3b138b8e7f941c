"""Cross-validation for corpora so small that one split is a matter of luck."""

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

MAX_RECORDINGS = 20  # from here on one split says enough


def fold_data(data: PriorData, folds: int, seed: int) -> list[PriorData]:
    """All recordings again and again, each held out once; groups stay together. Raises ParamsError for too many folds.

    The codec has learnt from most of them, the prior of a fold from none that are held out in it.
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
    """The folds that the settings ask for; none where there are so many recordings that one split says enough."""
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
    """Train a prior for each fold and say how much held-out bits per second differ. {} when there are none.

    Each fold goes on from its own checkpoint.
    """
    if not folds:
        if config.folds:
            progress.say(f"prior.folds: left out, from {MAX_RECORDINGS} recordings on one split says enough")
        return {}
    rates = []
    for number, part in enumerate(folds):
        training = fit_prior(part, config, seed, fabric, store.below(f"fold-{number}"), interruption=interruption)
        rates.append(training.result.best_metrics["val_bits_per_second"])
        progress.say(f"fold {number + 1} of {len(folds)}: {rates[-1]:.0f} bits per second of audio")
    standard_error = statistics.stdev(rates) / math.sqrt(len(rates))
    return {"folds/val_bits_per_second": statistics.fmean(rates), "folds/standard_error": standard_error}
