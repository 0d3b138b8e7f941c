"""Conditional generation: share of labelled sounds whose nearest training recording has their label."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.novelty import comparison_with
from benchmarks.prior import Say, code_folder_within
from distill.codes.sequences import CodeSequences
from distill.codes.store import Codes
from distill.errors import ParamsError
from distill.execution import Execution
from distill.generate.calibration import calibrate
from distill.generate.sampling import Sampling, sample_codes
from distill.generate.sounds import frames_for_seconds
from distill.novelty.distance import squared_distances
from distill.novelty.reference import MOST_FRAMES
from distill.novelty.report import SetReport
from distill.params import Params
from distill.prior.task import validate_prior_epoch
from distill.prior.training import fit_prior
from distill.training.fabric import make_fabric

SOUNDS = 192  # at each guidance, of each label in proportion to its training recordings
GUIDANCES = (1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Asked:
    """Sounds at one guidance, unconditional for 0: label accuracy `own` of nearest recordings, and set report."""

    guidance: float
    own: float
    report: SetReport


@dataclass(frozen=True)
class LabelsReport:
    """Label accuracy on a corpus: of sounds, by `chance`, and of held-out recordings.

    `bits` are held-out bits per second with labels, without, and of a prior trained without labels.
    """

    corpus: str
    recordings: int
    labels: int
    chance: float
    held_out: float
    bits: tuple[float, float, float]
    asked: tuple[Asked, ...]


def measure_labels(folder: Path, params: Params, codec_seconds: float, execution: Execution, say: Say) -> LabelsReport:
    """Train a codec and a prior with labels, and sample each label. Raises AudioError, ParamsError without folders."""
    fabric = make_fabric(execution)
    params = params.model_copy(update={"corpus": params.corpus.model_copy(update={"labels": "folder"})})
    with tempfile.TemporaryDirectory() as temporary:
        coded = code_folder_within(folder, params, codec_seconds, Path(temporary), execution, say)
    data, codec = coded.data, coded.codec
    if data.train_labels is None or data.held_out_labels is None:
        raise ParamsError(
            f"{folder}: expected recordings in subfolders, whose names are the labels, found none; sort them into folders"
        )
    config = params.prior_config(data.recordings)
    say(f"a prior with {len(data.labels)} labels")
    trained = fit_prior(data, config, params.seed, fabric, calibrate=calibrate)
    prior = trained.model
    say("a prior without labels")
    plain = replace(data, labels=(), train_labels=None, held_out_labels=None)
    without = fit_prior(plain, config, params.seed, fabric, calibrate=calibrate)
    unlabelled = CodeSequences(data.held_out, data.codes.codebook_size, data.codes.num_quantizers)
    nats = float(validate_prior_epoch(prior, unlabelled, config.batch_size, fabric)[0].sum())
    seconds = sum(map(len, data.held_out)) / data.codes.frame_rate
    say("sampling and judging")
    comparison = comparison_with(data, codec, data.held_out)
    recordings = comparison.statistics([views[0] for views in data.train], MOST_FRAMES)

    def nearest(sounds: Sequence[Codes]) -> NDArray[np.int64]:
        """Labels of the nearest training recordings by the statistics of the kernel distance."""
        apart = squared_distances(comparison.statistics(sounds, MOST_FRAMES), recordings)
        found: NDArray[np.int64] = np.array(data.train_labels)[apart.argmin(axis=1)]
        return found

    longest = min(MOST_FRAMES, frames_for_seconds(codec, params.audition.max_seconds))
    shares = np.bincount(data.train_labels, minlength=len(data.labels) + 1)[1:] / sum(map(bool, data.train_labels))
    found = []
    for guidance in (0.0, *GUIDANCES):
        sounds: list[Codes] = []
        expected: list[int] = []
        for label, share in enumerate(shares, start=1):
            count = max(1, round(SOUNDS * share))
            condition = label if guidance else 0
            sounds += sample_codes(prior, count, longest, label, Sampling(guidance=guidance), label=condition)
            expected += [label] * count
        own = float(np.mean(nearest(sounds) == np.array(expected)))
        found.append(Asked(guidance, own, comparison.report(sounds, comparison.novelty(sounds), 0, longest)))
    held_out_labels = np.array(data.held_out_labels)
    own = nearest(data.held_out) == held_out_labels
    return LabelsReport(
        corpus=folder.resolve().name,
        recordings=data.recordings,
        labels=len(data.labels),
        chance=float((shares**2).sum()),
        held_out=float(own[held_out_labels > 0].mean()),
        bits=(
            trained.result.best_metrics["val_bits_per_second"],
            nats / math.log(2) / seconds,
            without.result.best_metrics["val_bits_per_second"],
        ),
        asked=tuple(found),
    )
