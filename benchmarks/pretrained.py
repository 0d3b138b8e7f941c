"""What pretrained weights are worth: priors of few and many recordings after few and many steps, and what they copy."""

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from benchmarks.novelty import comparison_with
from benchmarks.prior import Say, code_folder_within
from distill.api import prior_of_codec
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.execution import Execution
from distill.generate.sampling import Sampling, sample_codes
from distill.generate.sounds import frames_for_seconds
from distill.novelty.reference import MOST_FRAMES
from distill.novelty.verdict import Novelty
from distill.params import Params, PriorConfig
from distill.prior.counting_baseline import counting_bits_per_second
from distill.prior.data import PriorData
from distill.prior.task import PriorTask
from distill.prior.training import fit_prior, prior_to_train
from distill.training.events import PriorStepMetrics
from distill.training.fabric import make_fabric
from pretraining.coded_collections import practice_recordings

RECORDINGS = (2, 5, 13, 50)  # and all
STEPS = (0, 10, 100, 1000)
COLLECTIONS = 60  # of those that the weights come from, and as many others
NEVER_MADE = 10**6  # no weights come from so many collections
PER_COLLECTION = 3
SOUNDS = 64


@dataclass(frozen=True)
class Trained:
    """Held-out bits per second of priors of so many recordings: the best weights within each of `STEPS`.

    `nothing` is for priors that begin from nothing. `counting` has no network.
    """

    recordings: int
    counting: float
    nothing: tuple[float, ...]
    pretrained: tuple[float, ...]


@dataclass(frozen=True)
class PretrainedReport:
    """Measurements on a corpus.

    `verdicts` count sounds of the prior before any training that are new, close and copies of the recordings that it
    was pretrained on; `null` the same of recordings that are made alike and that it was not pretrained on.
    """

    corpus: str
    held_out: int
    trained: tuple[Trained, ...]
    practice: int
    verdicts: tuple[int, int, int]
    null: tuple[int, int, int]


def measure_pretrained(
    folder: Path, params: Params, codec_seconds: float, execution: Execution, say: Say
) -> PretrainedReport:
    """Train a codec, and priors of its codes; judge sounds of the pretrained weights alone. Raises AudioError."""
    fabric = make_fabric(execution)
    with tempfile.TemporaryDirectory() as temporary:
        coded = code_folder_within(folder, params, codec_seconds, Path(temporary), execution, say)
    data, codec = coded.data, coded.codec
    order = np.random.default_rng(params.seed).permutation(len(data.train)).tolist()
    counts = [*(count for count in RECORDINGS if count < len(order)), len(order)]
    trained = []
    for count in counts:
        say(f"priors of {count} recordings")
        trained.append(_trained(_part(data, sorted(order[:count])), params, fabric))
    say("sounds of the pretrained weights beside what they come from")
    practice, verdicts, null = _judged(data, codec, params.audition.max_seconds)
    return PretrainedReport(
        folder.resolve().name, len(data.held_out), tuple(trained), practice, _counted(verdicts), _counted(null)
    )


def _part(data: PriorData, chosen: Sequence[int]) -> PriorData:
    """The data with some of the training recordings, and without labels."""
    return replace(
        data,
        train=[data.train[index] for index in chosen],
        train_groups=[data.train_groups[index] for index in chosen],
        labels=(),
        train_labels=None,
        held_out_labels=None,
        train_names=(),
    )


def _trained(data: PriorData, params: Params, fabric: Fabric) -> Trained:
    config = params.prior_config(len(data.train))
    starts = [config.model_copy(update={"pretrained": pretrained, "patience": 0}) for pretrained in (False, True)]
    nothing, pretrained = (tuple(_bits(data, one, params.seed, fabric, steps) for steps in STEPS) for one in starts)
    return Trained(len(data.train), counting_bits_per_second(data), nothing, pretrained)


def _bits(data: PriorData, config: PriorConfig, seed: int, fabric: Fabric, steps: int) -> float:
    """Held-out bits per second of the best weights within so many steps: of an epoch, the last or the first."""
    _, model = prior_to_train(data, config, seed)
    fabric.to_device(model)
    task = PriorTask(model, data, config, seed, fabric)
    if not steps:
        return task.validate()["val_bits_per_second"]
    cancel = threading.Event()

    def watch(event: Any) -> None:
        if isinstance(event, PriorStepMetrics) and event.overall_step >= steps:
            cancel.set()

    long_enough = config.model_copy(update={"epochs": -(-steps // task.steps_per_epoch)})
    result = fit_prior(data, long_enough, seed, fabric, callback=watch, cancel_event=cancel).result
    model.load_state_dict(result.last_tensors)
    return min(task.validate()["val_bits_per_second"], result.best_metrics["val_bits_per_second"])


def _judged(data: PriorData, codec: VQVAE, most_seconds: float) -> tuple[int, list[Novelty], list[Novelty]]:
    """Number of recordings that the weights come from, and verdicts on sounds and on others of these recordings."""
    prior = prior_of_codec(codec)
    assert prior is not None
    known = _practice(codec, range(COLLECTIONS))
    others = _practice(codec, range(NEVER_MADE, NEVER_MADE + COLLECTIONS))
    longest = min(MOST_FRAMES, frames_for_seconds(codec, most_seconds))
    sounds = sample_codes(prior, SOUNDS, longest, 0, Sampling())
    names = [str(number) for number in range(len(known))]
    practice = replace(
        data, train=[[codes] for codes in known], train_groups=names, train_labels=None, labels=(), train_names=names
    )
    baseline, judged = others[::2], others[1::2][:SOUNDS]
    comparison = comparison_with(practice, codec, baseline)
    return len(known), comparison.novelty(sounds), comparison.novelty([codes[:MOST_FRAMES] for codes in judged])


@torch.no_grad()
def _practice(codec: VQVAE, numbers: range) -> list[Codes]:
    """Codes of some recordings of each collection that has the codec's sample rate."""
    found: list[Codes] = []
    for number in numbers:
        _, drawn, recordings = practice_recordings(number, 0)
        if drawn.spectrogram.sample_rate == codec.spectrogram.sample_rate:
            sounds = [torch.from_numpy(one.samples) for one in recordings[:PER_COLLECTION]]
            found += [codes.numpy().astype(np.int64) for codes in codec.encode_each(sounds)]
    return found


def _counted(novelty: Sequence[Novelty]) -> tuple[int, int, int]:
    verdicts = [one.verdict for one in novelty]
    return verdicts.count("new"), verdicts.count("close"), verdicts.count("copy")
