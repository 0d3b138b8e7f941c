"""The prior from coded recordings on disk to an artefact on disk, resumed where it was left: one way for stage and command."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.codes.store import CodesReader, codes_by_side
from distill.errors import ArtifactError
from distill.execution import Execution
from distill.params import Auto, PriorParams, SplitParams, TierName, tier_for
from distill.prior.data import PriorData
from distill.prior.folds import measure_folds, planned_folds
from distill.prior.report import save_prior, show_prior_progress
from distill.prior.training import PriorTraining, fit_prior
from distill.progress import ProgressReport
from distill.storage.files import sha256_file, sha256_files
from distill.training.artifact import checkpoint_key, fingerprint
from distill.training.checkpoints import CheckpointStore
from distill.training.fabric import make_fabric
from distill.training.interruption import catch_interruption, watch_for_stop
from distill.training.tracking import tracked


@dataclass(frozen=True)
class PriorSettings:
    """What decides the prior that coded recordings give."""

    prior: PriorParams
    split: SplitParams
    tier: TierName | Auto
    seed: int


@dataclass(frozen=True)
class PriorRun:
    """A training that reached its end. `store` holds the way there: clear it once what was made of it is safe."""

    training: PriorTraining
    figures: Mapping[str, float]
    recordings: int
    store: CheckpointStore
    is_first: bool  # of the processes of the training: the one that writes


def read_prior_data(codes: Path, split: Path) -> PriorData:
    """What artefacts of codes and split hold for a prior. Raises ArtifactError."""
    reader = CodesReader(codes)
    sides, recordings = codes_by_side(reader, split), reader.recordings()
    try:
        train, held_out = ([recordings[name] for name in side] for side in (sides.train, sides.held_out))
    except KeyError as error:
        raise ArtifactError(
            f"{codes}: expected a name for every recording, found none for {error}; run `dvc repro` again"
        ) from error
    labels = sorted({row.label for row in train} - {""})
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    return PriorData(
        list(sides.train.values()),
        [sides.groups[name] for name in sides.train],
        list(sides.held_out.values()),
        [sides.groups[name] for name in sides.held_out],
        torch.from_numpy(reader.codebooks()),
        reader.config,
        labels,
        [numbers.get(row.label, 0) for row in train] if labels else None,
        [numbers.get(row.label, 0) for row in held_out] if labels else None,
        [row.path for row in train],
    )


def run_prior_training(
    codes: Path,
    split: Path,
    folder: Path,
    checkpoints: Path,
    settings: PriorSettings,
    execution: Execution,
    tracking_root: Path | None,
    stop: Path,
) -> PriorRun:
    """Train on the codes in `codes`, held out by `split`, and write the artefact `folder`.

    Goes on from the state below `checkpoints` that has the same inputs, settings and code. A file that appears at
    `stop` ends training with the best weights so far. Raises Interrupted after saving.
    """
    fabric = make_fabric(execution)
    data = read_prior_data(codes, split)
    config = settings.prior.resolve(data.recordings, settings.tier, settings.split)
    folds = planned_folds(data, config, settings.seed)
    resolved = {
        **config.model_dump(exclude={"memory"}),
        **{f"memory.{key}": value for key, value in (config.model_dump()["memory"] or {}).items()},
        "seed": settings.seed,
        "tier": tier_for(data.recordings, settings.tier).name,
    }
    inputs = {"codes": sha256_files(codes.iterdir(), codes), "split": sha256_file(split)}
    mark = fingerprint("train_prior", inputs, resolved)
    store = CheckpointStore(checkpoints / checkpoint_key(mark))
    is_first = fabric.global_rank == 0
    with (
        catch_interruption() as interruption,
        tracked(tracking_root, "train_prior", mark, {**resolved, "recordings": data.recordings}, is_first) as tracker,
        ProgressReport("prior", quiet=not is_first) as progress,
    ):
        training = fit_prior(
            data,
            config,
            settings.seed,
            fabric,
            store,
            show_prior_progress(progress, tracker),
            tracker.metrics,
            interruption,
            watch_for_stop(stop, progress),
        )
        for remark in training.fit.remarks:
            progress.say(remark)
        figures = measure_folds(folds, config, settings.seed, fabric, store, progress, interruption)
        if is_first:
            tracker.metrics(figures, 0)
            figures |= save_prior(folder, training, config, data, mark)
            for name in ("model.safetensors", "config.json", "metrics.jsonl"):
                tracker.artifact(folder / name, "checkpoint")
    return PriorRun(training, figures, data.recordings, store, is_first)
