"""The work of `ingest` on files: their bandwidths and their samples, by decoders here or by the workers of a cluster."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, islice
from pathlib import Path

from distill.audio.bandwidth import UNREADABLE, Bandwidth
from distill.audio.block_store import Block, BlockStore, Known, KnownFiles, decoder_version, write_block
from distill.audio.decoder import Decoder, Decoders
from distill.audio.decoding import Decoded
from distill.audio.scan import AudioFile
from distill.audio.source import Gone, Source, is_url, open_source
from distill.cluster import Cluster, check_worker
from distill.status import Progress


@dataclass(frozen=True, eq=False)
class IngestWork:
    """Blocks of the files in one place, what is known of them in `store`, and who works on the rest."""

    place: str  # a folder, absolute, or a URL
    blocks: Sequence[Block]
    store: BlockStore
    decoders: Decoders
    cluster: Cluster | None
    progress: Progress | None

    def bandwidths(self) -> Iterator[Bandwidth]:
        """Bandwidths of all files, in order; those of the blocks that the store did not have are kept.

        What could not be measured before is tried again: it may have been for want of memory.
        """
        stored = [(block, self.store.bandwidths(block)) for block in self.blocks]
        missing = [block for block, found in stored if found is None]
        measured = self._measured_here(missing) if self.cluster is None else self._measured_there(self.cluster, missing)
        new: dict[str, list[Bandwidth]] = {}
        for block, bandwidths in measured:
            self.store.keep_bandwidths(block, bandwidths)
            new[block.key] = bandwidths
        again = self._bandwidths_of(
            file
            for block, found in stored
            if found is not None
            for file, one in zip(block.files, found, strict=True)
            if one == UNREADABLE
        )
        for block, found in stored:
            if found is None:
                yield from new[block.key]
            else:
                yield from (next(again)[1] if one == UNREADABLE else one for one in found)

    def decode(self, sample_rate: int) -> None:
        """Decode the files of all blocks that the store does not have at a rate."""
        is_there = [self.store.has(block, sample_rate) for block in self.blocks]
        missing = [block for block, there in zip(self.blocks, is_there, strict=True) if not there]
        if not missing:
            return
        version, done = decoder_version(), self._total - sum(len(block.files) for block in missing)
        others = self.store.others(list(compress(self.blocks, is_there)), sample_rate)
        tasks = [
            DecodeTask(
                self.place,
                block.files,
                tuple(others.get((file.path, file.identity)) for file in block.files),
                sample_rate,
                self.store.folder(block, sample_rate).absolute(),
                version,
            )
            for block in missing
        ]
        if self.cluster is None:
            self._decode_here(tasks, done)
            return
        self.store.make_folder()
        for task, _ in self.cluster.map(decode_block, tasks):
            done += len(task.files)
            self._say(done, task.files[-1])

    @cached_property
    def _source(self) -> Source:
        return open_source(self.place)

    @cached_property
    def _total(self) -> int:
        return sum(len(block.files) for block in self.blocks)

    def _say(self, done: int, file: AudioFile) -> None:
        if self.progress is not None:
            self.progress(done, self._total, file.path)

    def _bandwidths_of(self, files: Iterable[AudioFile]) -> Iterator[tuple[AudioFile, Bandwidth]]:
        return self.decoders.map(lambda decoder, file: _bandwidth(decoder, self._source, file), files)

    def _measured_here(self, missing: Sequence[Block]) -> Iterator[tuple[Block, list[Bandwidth]]]:
        outcomes = self._bandwidths_of(file for block in missing for file in block.files)
        for block in missing:
            found = []
            for file, bandwidth in islice(outcomes, len(block.files)):
                found.append(bandwidth)
                self._say(0, file)
            yield block, found

    def _measured_there(self, cluster: Cluster, missing: Sequence[Block]) -> Iterator[tuple[Block, list[Bandwidth]]]:
        version = decoder_version()
        tasks = [MeasureTask(self.place, block, version) for block in missing]
        for task, found in cluster.map(measure_block, tasks):
            self._say(0, task.block.files[-1])
            yield task.block, found

    def _decode_here(self, tasks: Sequence["DecodeTask"], done: int) -> None:
        outcomes = self.decoders.map(
            lambda decoder, item: None if item[1] else _decoded(decoder, self._source, item[0], item[2]),
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


def _bandwidth(decoder: Decoder, source: Source, file: AudioFile) -> Bandwidth:
    try:
        with source.local(file) as path:
            return decoder.bandwidth(path)
    except Gone:
        return UNREADABLE  # decoding it says why


def _decoded(decoder: Decoder, source: Source, file: AudioFile, sample_rate: int) -> Decoded:
    try:
        with source.local(file) as path:
            return decoder.decoded(path, sample_rate)
    except Gone as error:
        return Decoded(reason=str(error), is_certain=False)


@dataclass(frozen=True)
class MeasureTask:
    """Bandwidths to measure, by a worker with this version of the code."""

    place: str
    block: Block
    version: str


@dataclass(frozen=True)
class DecodeTask:
    """A block to decode and to write to `target`, but for files that are known, by a worker with this version."""

    place: str
    files: tuple[AudioFile, ...]
    known: tuple[Known | None, ...]
    sample_rate: int
    target: Path
    version: str


_THREAD = threading.local()


def _decoder() -> Decoder:
    """The decoder of this thread of a worker; its process ends with the worker."""
    if not hasattr(_THREAD, "decoder"):
        _THREAD.decoder = Decoder()
    decoder: Decoder = _THREAD.decoder
    return decoder


def measure_block(task: MeasureTask) -> list[Bandwidth]:
    """Bandwidths of the files of a block, on a worker."""
    source = _checked_source(task.place, task.version)
    return [_bandwidth(_decoder(), source, file) for file in task.block.files]


def decode_block(task: DecodeTask) -> None:
    """Write a decoded block, on a worker."""
    source = _checked_source(task.place, task.version, task.target.parents[1])
    write_block(task.target, _outcomes(source, task))


def _checked_source(place: str, version: str, *folders: Path) -> Source:
    check_worker(version, decoder_version(), *folders, *([] if is_url(place) else [Path(place)]))
    return open_source(place)


def _outcomes(source: Source, task: DecodeTask) -> Iterable[tuple[AudioFile, Decoded]]:
    known_files = KnownFiles()
    for file, known in zip(task.files, task.known, strict=True):
        if known is None:
            yield file, _decoded(_decoder(), source, file, task.sample_rate)
        else:
            yield file, known_files.decoded(known)
