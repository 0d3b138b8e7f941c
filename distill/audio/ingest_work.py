"""The work of `ingest` on files: their bandwidths and their samples, by decoders here or by the workers of a cluster."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path

from distill.audio.bandwidth import Bandwidth
from distill.audio.block_store import Block, BlockStore, Known, KnownFiles, decoder_version, write_block
from distill.audio.decoder import Decoder, Decoders
from distill.audio.decoding import Decoded
from distill.audio.scan import AudioFile
from distill.cluster import Cluster, check_worker
from distill.status import Progress


@dataclass(frozen=True, eq=False)
class IngestWork:
    """Blocks of the files in a folder, what is known of them in `store`, and who works on the rest."""

    folder: Path
    blocks: Sequence[Block]
    store: BlockStore
    decoders: Decoders
    cluster: Cluster | None
    progress: Progress | None

    def bandwidths(self) -> Iterator[Bandwidth]:
        """Bandwidths of all files, in order; those of the blocks that the store did not have are kept."""
        missing = [block for block in self.blocks if self.store.bandwidths(block) is None]
        measured = self._measured_here(missing) if self.cluster is None else self._measured_there(self.cluster, missing)
        for block, found in measured:
            self.store.keep_bandwidths(block, found)
        for block in self.blocks:
            yield from self.store.bandwidths(block) or ()

    def decode(self, sample_rate: int) -> None:
        """Decode the files of all blocks that the store does not have at a rate."""
        is_there = [self.store.has(block, sample_rate) for block in self.blocks]
        missing = [block for block, there in zip(self.blocks, is_there, strict=True) if not there]
        if not missing:
            return
        others = self.store.others(list(compress(self.blocks, is_there)), sample_rate)
        tasks = [
            DecodeTask(
                self.folder.absolute(),
                block.files,
                tuple(others.get((file.path, file.identity)) for file in block.files),
                sample_rate,
                self.store.folder(block, sample_rate).absolute(),
                decoder_version(),
            )
            for block in missing
        ]
        if self.cluster is None:
            self._decode_here(tasks)
            return
        done = self._total - sum(len(block.files) for block in missing)
        self.store.make_folder()
        for task, _ in self.cluster.map(decode_block, tasks):
            done += len(task.files)
            self._say(done, task.files[-1])

    @property
    def _total(self) -> int:
        return sum(len(block.files) for block in self.blocks)

    def _say(self, done: int, file: AudioFile) -> None:
        if self.progress is not None:
            self.progress(done, self._total, file.path)

    def _measured_here(self, missing: Sequence[Block]) -> Iterator[tuple[Block, list[Bandwidth]]]:
        files = (file for block in missing for file in block.files)
        outcomes = self.decoders.map(lambda decoder, file: decoder.bandwidth(self.folder / file.relative), files)
        for block in missing:
            found = []
            for file, bandwidth in islice(outcomes, len(block.files)):
                found.append(bandwidth)
                self._say(0, file)
            yield block, found

    def _measured_there(self, cluster: Cluster, missing: Sequence[Block]) -> Iterator[tuple[Block, list[Bandwidth]]]:
        tasks = [MeasureTask(self.folder.absolute(), block, decoder_version()) for block in missing]
        for task, found in cluster.map(measure_block, tasks):
            self._say(0, task.block.files[-1])
            yield task.block, found

    def _decode_here(self, tasks: Sequence["DecodeTask"]) -> None:
        done = self._total - sum(len(task.files) for task in tasks)
        outcomes = self.decoders.map(
            lambda decoder, item: None if item[1] else decoder.decoded(self.folder / item[0].relative, item[2]),
            ((*item, task.sample_rate) for task in tasks for item in zip(task.files, task.known, strict=True)),
        )
        known_files = KnownFiles()

        def decoded(count: int) -> Iterator[tuple[AudioFile, Decoded]]:
            nonlocal done
            for (file, known, _), outcome in islice(outcomes, count):
                if outcome is None:
                    assert known is not None
                    outcome = known_files.decoded(known)
                yield file, outcome
                done += 1
                self._say(done, file)

        for task in tasks:
            write_block(task.target, decoded(len(task.files)))


@dataclass(frozen=True)
class MeasureTask:
    """Bandwidths to measure, by a worker with this version of the code."""

    folder: Path
    block: Block
    version: str


@dataclass(frozen=True)
class DecodeTask:
    """A block to decode and to write to `target`, but for files that are known, by a worker with this version."""

    folder: Path
    files: tuple[AudioFile, ...]
    known: tuple[Known | None, ...]
    sample_rate: int
    target: Path
    version: str


def measure_block(task: MeasureTask) -> list[Bandwidth]:
    """Bandwidths of the files of a block, on a worker."""
    check_worker(task.version, decoder_version(), task.folder)
    with Decoder() as decoder:
        return [decoder.bandwidth(task.folder / file.relative) for file in task.block.files]


def decode_block(task: DecodeTask) -> None:
    """Write a decoded block, on a worker."""
    for folder in (task.folder, task.target.parents[1]):
        check_worker(task.version, decoder_version(), folder)
    with Decoder() as decoder:
        write_block(task.target, _outcomes(decoder, task))


def _outcomes(decoder: Decoder, task: DecodeTask) -> Iterable[tuple[AudioFile, Decoded]]:
    known_files = KnownFiles()
    for file, known in zip(task.files, task.known, strict=True):
        if known is None:
            yield file, decoder.decoded(task.folder / file.relative, task.sample_rate)
        else:
            yield file, known_files.decoded(known)
