"""Pre-training of the prior on coded collections of synthetic recordings; the weights are shipped.

`make pretrain PART=prior` writes `distill/codec/pretrained/coordinates.safetensors` and `distill/prior/pretrained/`. Each
step counts some recordings of a collection and predicts others: so the prior also learns how far to trust counts.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.random import Generator
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distill.cluster import executor_of
from distill.codec import coordinates as codec_coordinates
from distill.codec.coordinates import COORDINATES, SharedCoordinates
from distill.codes.sequences import Batch, CodedRecording, CodeSequences, pad_batch, random_windows
from distill.execution import STATE, execution_from_environment
from distill.params import PRETRAINED_SIZES
from distill.prior import pretrained
from distill.prior.counts import CountTables, count, count_tables
from distill.prior.frame import FramePrior, FrameShape
from distill.prior.pretrained import (
    CONTEXT_SECONDS,
    LABELS,
    MAX_LEVELS,
    for_levels,
    is_own,
    label_summaries,
    label_vectors,
)
from distill.prior.task import target_nats, targets_in
from distill.progress import ProgressReport
from distill.seeds import Stream, derive_seed
from distill.storage.files import write_bytes
from distill.storage.work import Executor
from distill.training.checkpoints import CheckpointStore
from distill.training.distributed import make_fabric
from distill.training.run import Run
from distill.training.task import Task, TrainerSettings
from distill.training.trainer import Trainer
from pretraining.coded_collections import CodedCollection, coded_collections, fit_coordinates
from pretraining.reports import PretrainingConsole

T = TypeVar("T")
R = TypeVar("R")

STEPS_PER_EPOCH = 250
HELD_OUT = 15  # one collection in so many is held out
BATCH_CODES = 12_000  # about so many codes a batch, of windows of similar length


@dataclass(frozen=True, eq=False)
class PretrainingBatch:
    """Windows of some recordings of a collection, and what is known of the others."""

    codebook_sizes: tuple[int, ...]
    codewords: Tensor  # [Q, V, C], the codec's
    tables: CountTables  # of the others
    batch: Batch
    labelled: Sequence[CodedRecording]  # those that tell the labels of the windows


class AnyCodecPrior(nn.Module):
    """A `FramePrior` of `MAX_LEVELS` levels whose parameters are used for codecs of any number of levels and codewords."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = self._build((2,) * MAX_LEVELS)
        size = PRETRAINED_SIZES["hidden_size"]
        self.label_projection = nn.Parameter(torch.zeros(size, 2 * size))
        self._skeletons: dict[tuple[int, ...], FramePrior] = {}

    def forward(self, example: PretrainingBatch) -> Tensor:
        """Logits `[B, T, Q, V + 2]` of the targets of a batch."""
        skeleton = self._skeleton(example.codebook_sizes)
        skeleton.train(self.training)
        skeleton.codewords = example.codewords
        assert skeleton.count_experts is not None
        skeleton.count_experts.set_tables([example.tables])
        shared = {name: value for name, value in self.prior.named_parameters() if not is_own(name)}
        values = for_levels(shared, len(example.codebook_sizes))
        prefix = "input_embedding."
        embedding = {
            name.removeprefix(prefix): value
            for name, value in values.items()
            if name.startswith(prefix)
        }
        table = torch.func.functional_call(
            skeleton.input_embedding, embedding, (example.codewords,)
        )
        num_labels = max((recording.label for recording in example.labelled), default=1)
        summaries = label_summaries(table.float(), example.labelled, num_labels)
        values["label"] = label_vectors(self.label_projection, summaries)
        logits: Tensor = torch.func.functional_call(skeleton, values, (example.batch,))
        return logits

    def _skeleton(self, sizes: tuple[int, ...]) -> FramePrior:
        """A prior for a codec with such codebook sizes, whose own parameters are all 0."""
        if sizes not in self._skeletons:
            self._skeletons[sizes] = self._build(sizes).requires_grad_(False)
            for name, value in self._skeletons[sizes].named_parameters():
                if is_own(name):
                    value.zero_()
        return self._skeletons[sizes].to(self.label_projection.device)

    @staticmethod
    def _build(sizes: tuple[int, ...]) -> FramePrior:
        shape = FrameShape(
            codebook_sizes=sizes,
            context_frames=1,
            codeword_size=COORDINATES,
            count_experts=True,
            labels=["a label"],
            **PRETRAINED_SIZES,
        )
        prior = FramePrior(shape, dropout=0.1)
        prior.pointer_mixture.copy_nothing(0)
        return prior

    def shipped(self) -> dict[str, Tensor]:
        """The parameters that are shipped."""
        of_prior = {
            name: value for name, value in self.prior.named_parameters() if not is_own(name)
        }
        return {**of_prior, LABELS: self.label_projection}


class _PretrainingTask(Task[PretrainingBatch]):
    """Task for `Trainer`: predict recordings of a collection from what others of it say."""

    model: AnyCodecPrior
    steps_per_epoch = STEPS_PER_EPOCH

    def __init__(
        self,
        collections: Sequence[CodedCollection],
        coordinates: SharedCoordinates,
        seed: int,
        fabric: Fabric,
    ) -> None:
        self.seed, self.fabric = seed, fabric
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, Stream.PRIOR_WEIGHTS))
            self.model = AnyCodecPrior()
        if pretrained.PATH.is_file():
            tensors, shipped = load_file(pretrained.PATH), self.model.shipped()
            with torch.no_grad():
                for name in tensors.keys() & shipped:
                    shipped[name].copy_(tensors[name])
        codewords = [
            [level.half() for level in coordinates.of_codec(collection.codec())]
            for collection in collections
        ]
        pairs = [
            pair for pair in zip(collections, codewords, strict=True) if len(pair[0].recordings) > 1
        ]
        self.held_out = pairs[HELD_OUT // 2 :: HELD_OUT][:40]
        chosen = {id(collection) for collection, _ in self.held_out}
        self.train = [pair for pair in pairs if id(pair[0]) not in chosen]

    def batches(self, epoch: int, skip: int) -> Iterable[PretrainingBatch]:
        """A batch of a random collection for each step."""
        for step in range(skip, STEPS_PER_EPOCH):
            rng = np.random.default_rng(
                derive_seed(self.seed, Stream.PRETRAINING_BATCHES, epoch, step)
            )
            batch = self._batch(rng, *self.train[int(rng.integers(len(self.train)))])
            # No codec is met twice.
            noise = 0.15 * torch.from_numpy(
                rng.standard_normal(batch.codewords.shape, dtype=np.float32)
            )
            yield replace(batch, codewords=batch.codewords + self.fabric.to_device(noise))

    def losses(self, model: nn.Module, batch: PretrainingBatch) -> dict[str, Tensor]:
        """Nats per code."""
        nats = target_nats(model(batch), batch.batch.targets).plain
        return {"train_loss": nats.sum() / targets_in(batch.batch)}

    def validate(self) -> dict[str, float]:
        """Mean nats per code of the held-out collections."""
        total = 0.0
        for number, pair in enumerate(self.held_out):
            rng = np.random.default_rng(derive_seed(self.seed, Stream.PROBE_WINDOWS, number))
            with self.fabric.autocast():
                total += float(self.losses(self.model, self._batch(rng, *pair))["train_loss"])
        return {"val_loss": total / len(self.held_out)}

    def _batch(
        self, rng: Generator, collection: CodedCollection, codewords: Sequence[Tensor]
    ) -> PretrainingBatch:
        known, others = _parted(rng, collection)
        sizes = tuple(len(level) for level in codewords)
        context = round(CONTEXT_SECONDS * collection.frame_rate)
        budget = BATCH_CODES // (
            4 + len(sizes) // 2
        )  # a frame costs as much as 4 codes besides its own
        views = [
            collection.recordings[index][int(rng.integers(len(collection.recordings[index])))]
            for index in others
        ]
        chosen = _of_similar_length(rng, [min(len(view) + 1, context) for view in views], budget)
        sequences = CodeSequences([views[index] for index in chosen], sizes)
        windows = random_windows(sequences.lengths.tolist(), [1] * len(chosen), context, rng)
        grouped = int(rng.choice((1, 1, 2, 4)))  # instruments under one label, as in a folder
        numbers = [1 + instrument // grouped for instrument in collection.instruments]
        labels, labelled = _labels(rng, numbers, [others[index] for index in chosen], known)
        pairs = zip(collection.recordings, numbers, strict=True)
        coded = [CodedRecording(recording, label=number) for recording, number in pairs]
        tables = count_tables(count([coded[index] for index in known], sizes, max(numbers)), sizes)
        batch = pad_batch(sequences, windows)._replace(labels=labels)
        return PretrainingBatch(
            sizes,
            self.fabric.to_device(
                nn.utils.rnn.pad_sequence([level.float() for level in codewords], batch_first=True)
            ),
            tables,
            batch.map(self.fabric.to_device),
            [coded[index] for index in labelled],
        )


def _parted(rng: Generator, collection: CodedCollection) -> tuple[list[int], list[int]]:
    """Recordings that are known, first those that the codec was fitted to, and at least one other to predict."""
    total = len(collection.recordings)
    known = int(
        np.exp(rng.uniform(0, np.log(total))) - (rng.random() < 0.3)
    )  # where there are few, often none
    shuffled = rng.permutation(total)
    is_fitted = np.array(collection.is_fitted)[shuffled]
    order = np.concatenate([shuffled[is_fitted], shuffled[~is_fitted]]).tolist()
    known = min(max(0, known), total - 1)
    return order[:known], order[known:]


def _of_similar_length(rng: Generator, lengths: Sequence[int], budget: int) -> list[int]:
    """Indices of sequences around a random one by length, as many as make a padded batch of `budget` frames."""
    order = np.argsort(lengths, kind="stable")
    first = last = int(rng.integers(len(order)))
    while first > 0 or last < len(order) - 1:
        goes_up = last < len(order) - 1 and (
            first == 0 or lengths[order[last + 1]] <= 1.25 * lengths[order[last]]
        )
        longest = lengths[order[last + goes_up]]
        if (last - first + 2) * longest > budget:
            break
        first, last = first - (not goes_up), last + goes_up
    return [int(index) for index in order[first : last + 1]]


def _labels(
    rng: Generator, labels: Sequence[int], predicted: Sequence[int], known: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Label of each predicted recording, 0 for none, and the known recordings that tell the labels."""
    labelled = [int(index) for index in known[:40]]
    available = {labels[index] for index in labelled}
    given = [
        labels[index] if labels[index] in available and rng.random() < 0.5 else 0
        for index in predicted
    ]
    return torch.tensor(given), [index for index in labelled if labels[index] in given]


def pretrain_prior(
    collections: int, epochs: int, seed: int, fabric: Fabric, executor: Executor, folder: Path
) -> None:
    """Make collections in `folder`, pre-train from what is shipped, and write it; fit the shared coordinates if none are.

    Goes on where it was interrupted. `executor` makes the collections.
    """
    with ProgressReport("pretraining") as progress:
        coded = coded_collections(folder / "collections", collections, seed, executor, progress)
        coordinates = (
            SharedCoordinates.load() if codec_coordinates.PATH.is_file() else fit_coordinates(coded)
        )
        task = _PretrainingTask(coded, coordinates, seed, fabric)
        settings = TrainerSettings(
            epochs=epochs,
            learning_rate=1.5e-3,
            weight_decay=0.1,
            betas=(0.9, 0.98),
            gradient_clip=1.0,
            warmup_steps=50,
            patience=0,
            seed=seed,
            learning_rate_factors={
                "prior.pointer_mixture.": 5.0,
                "prior.count_experts.": 5.0,
            },  # these weights have far to go
            validate_initial=True,
            average=0.998,
        )
        store = CheckpointStore(folder / f"{collections}-{epochs}-{seed}")
        Trainer(task, settings, Run(fabric, store, [PretrainingConsole(progress)])).run()
    for path, tensors in (
        (codec_coordinates.PATH, vars(coordinates)),
        (pretrained.PATH, task.model.shipped()),
    ):
        halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
        write_bytes(path, save(halves))
    store.clear()


class Processes(Executor):
    """Calls in so many processes of this computer, each with one processor."""

    is_here = False

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        folders: Sequence[Path],  # noqa: ARG002 - for subclasses
    ) -> Iterator[tuple[T, R]]:
        """As `Executor.map`."""
        with ProcessPoolExecutor(self.count, get_context("spawn")) as pool:
            futures = {pool.submit(function, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()


def main() -> None:
    """Run `python -m pretraining.prior COLLECTIONS EPOCHS SEED`."""
    collections, epochs, seed = (int(value) for value in sys.argv[1:])
    # In fp32 layers as small as these take less time than in bf16.
    execution = replace(execution_from_environment(), precision="fp32")
    folder = STATE / "pretraining" / f"prior-{seed}"
    with executor_of(execution) as executor:
        spread = Processes(execution.workers) if executor.is_here else executor
        pretrain_prior(collections, epochs, seed, make_fabric(execution), spread, folder)


if __name__ == "__main__":
    main()
