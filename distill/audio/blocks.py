"""Blocks of files: runs that are measured and decoded together, here or on another machine, and kept.

A decoded block is a folder with the samples of its recordings as shards, exact copies in the block once, their
fingerprints, and a row for each file. It depends on its files, the sample rate and the code alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from distill.audio.bandwidth import UNREADABLE, Bandwidth
from distill.audio.corpus import PREFIX, ManifestRow, recording_id
from distill.audio.decode import Decoded
from distill.audio.decoder import Decoder, Decoders
from distill.audio.fingerprint import Fingerprint
from distill.audio.read import Recording
from distill.audio.scan import AudioFile
from distill.audio.source import Gone, open_source
from distill.storage.files import atomic_folder, canonical_json, sha256_text
from distill.storage.shards import ShardReader, ShardWriter
from distill.storage.tables import read_rows, schema_of, write_rows
from distill.storage.work import cut_blocks

BLOCK_FILES = 512
BLOCK_BYTES = 256 << 20  # of files, compressed or not
_ROWS, _FINGERPRINTS = "rows.parquet", "fingerprints.safetensors"

_BANDWIDTH_SCHEMA = schema_of(Bandwidth)


@dataclass(frozen=True)
class FileBlock:
    """A run of files, and the key of what they are."""

    files: tuple[AudioFile, ...]
    key: str


@dataclass(frozen=True, slots=True)
class BlockRow(ManifestRow):
    """Row of one file of a block, before files are compared. `shard` and `offset` are those of the block."""

    identity: str  # "" where it may decode another time
    first_frame: int  # of the fingerprint, in those of the block
    frames: int


_ROW_SCHEMA = schema_of(BlockRow)


def blocks_of(files: Sequence[AudioFile]) -> list[FileBlock]:
    """Cut files, sorted by path, into blocks."""
    cut = cut_blocks([file.path for file in files], [file.size for file in files], BLOCK_FILES, BLOCK_BYTES)
    runs = [tuple(files[index] for index in indices) for indices in cut]
    return [
        FileBlock(run, sha256_text(canonical_json([[file.path, file.identity] for file in run]))[:32]) for run in runs
    ]


class DecodedBlock:
    """A decoded block on disk."""

    def __init__(self, folder: Path) -> None:
        """Read the rows. Raises ArtifactError."""
        self.folder = folder
        self.rows = read_rows(folder / _ROWS, BlockRow, "a block of decoded recordings", _ROW_SCHEMA)

    @cached_property
    def _fingerprints(self) -> dict[str, NDArray[Any]]:
        return load_file(self.folder / _FINGERPRINTS)

    @cached_property
    def _shards(self) -> ShardReader:
        return ShardReader(self.folder, PREFIX)

    def fingerprint(self, row: BlockRow) -> Fingerprint:
        """The fingerprint of a recording."""
        own = slice(row.first_frame, row.first_frame + row.frames)
        return Fingerprint(**{name: frames[own] for name, frames in self._fingerprints.items()})

    def pcm(self, row: BlockRow) -> NDArray[np.int16]:
        """Samples `[N]` of a recording."""
        return np.asarray(self._shards.read(row.shard, row.offset, row.samples), dtype=np.int16)

    def decoded(self, row: BlockRow) -> Decoded:
        """What became of a file."""
        if not row.pcm_sha256:
            return Decoded(row.reason, row.sha256)
        recording = Recording(self.pcm(row), row.sample_rate, row.channels, row.seconds, ())
        return Decoded(row.reason, row.sha256, row.pcm_sha256, recording, self.fingerprint(row))


Known = tuple[Path, BlockRow]  # where a file was decoded before: the folder of a block, and its row there


def known_files(folders: Iterable[Path]) -> dict[tuple[str, str], Known]:
    """Where files were decoded with certainty, by path and identity."""
    return {
        (row.path, row.identity): (folder, row)
        for folder in folders
        if (folder / _ROWS).exists()
        for row in DecodedBlock(folder).rows
        if row.identity
    }


@dataclass(frozen=True)
class DecodeTask:
    """A block to decode at a rate, but for files that were decoded before."""

    block: FileBlock
    sample_rate: int
    known: tuple[Known | None, ...]  # of each file

    @property
    def key(self) -> str:
        """Key of its result."""
        return f"{self.block.key}-{self.sample_rate}"


class BlockWorker:
    """Measures and decodes blocks of the files in one place, with decoders of its own until it is closed.

    `said` is called with each file that was measured (False) or decoded (True). A worker that is sent to another machine
    has one decoder there.
    """

    def __init__(self, place: str, decoders: int, said: Callable[[AudioFile, bool], object] = lambda *_: None) -> None:
        """`place` is a folder, absolute, or a URL."""
        self._place, self._decoders, self._said = place, Decoders(decoders), said
        self._source = open_source(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockWorker, (self._place, 1)

    def close(self) -> None:
        """End the decoders, at once."""
        self._decoders.close()

    def measure(self, block: FileBlock, path: Path) -> bool:
        """Write the bandwidths of a block's files. False where some may be others another time."""
        found = []
        for file, one in self._decoders.map(self._bandwidth, block.files):
            found.append(one)
            self._said(file, False)
        write_rows(path, [one or UNREADABLE for one in found], _BANDWIDTH_SCHEMA)
        return None not in found

    def decode(self, task: DecodeTask, folder: Path) -> bool:
        """Write a decoded block. False where some files may decode to something else another time."""
        return _write_block(folder, self._outcomes(task))

    def _outcomes(self, task: DecodeTask) -> Iterator[tuple[AudioFile, Decoded]]:
        earlier = lru_cache(maxsize=2)(DecodedBlock)

        def decoded(decoder: Decoder, item: tuple[AudioFile, Known | None]) -> Decoded | None:
            return None if item[1] else self._decoded(decoder, item[0], task.sample_rate)

        for (file, known), outcome in self._decoders.map(decoded, zip(task.block.files, task.known, strict=True)):
            if outcome is None:
                assert known is not None
                outcome = earlier(known[0]).decoded(known[1])
            yield file, outcome
            self._said(file, True)

    def _bandwidth(self, decoder: Decoder, file: AudioFile) -> Bandwidth | None:
        try:
            with self._source.local(file) as path:
                return decoder.bandwidth(path)
        except Gone:
            return None  # decoding it says why

    def _decoded(self, decoder: Decoder, file: AudioFile, sample_rate: int) -> Decoded:
        try:
            with self._source.local(file) as path:
                return decoder.decoded(path, sample_rate)
        except Gone as error:
            return Decoded(reason=str(error), is_certain=False)


def read_bandwidths(path: Path) -> list[Bandwidth]:
    """What `BlockWorker.measure` wrote. Raises ArtifactError."""
    return read_rows(path, Bandwidth, "bandwidths of recordings", _BANDWIDTH_SCHEMA)


def _write_block(folder: Path, files: Iterable[tuple[AudioFile, Decoded]]) -> bool:
    """Write what became of the files of a block, atomically; return whether all of it is certain."""
    rows: list[BlockRow] = []
    prints = [Fingerprint(np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.bool_))]
    frames = 0
    places: dict[str, tuple[str, int]] = {}
    with atomic_folder(folder) as temporary:
        with ShardWriter(temporary, PREFIX) as shards:
            for file, outcome in files:
                recording, own = outcome.recording, 0
                if recording is not None and outcome.fingerprint is not None:
                    if outcome.pcm_sha256 not in places:
                        places[outcome.pcm_sha256] = shards.append(recording.pcm)
                    prints.append(outcome.fingerprint)
                    own = len(outcome.fingerprint.loud)
                place = places.get(outcome.pcm_sha256, ("", 0))
                rows.append(_row(file, outcome, place, frames, own))
                frames += own
        names = ("signs", "sure", "loud")
        joined = {name: np.concatenate([getattr(one, name) for one in prints]) for name in names}
        (temporary / _FINGERPRINTS).write_bytes(save(joined))
        write_rows(temporary / _ROWS, rows, _ROW_SCHEMA)
    return all(row.identity for row in rows)


def _row(file: AudioFile, outcome: Decoded, place: tuple[str, int], first_frame: int, frames: int) -> BlockRow:
    recording = outcome.recording
    return BlockRow(
        recording_id=recording_id(file.relative),
        path=file.path,
        status="rejected" if recording is None else "warned" if outcome.reason else "used",
        reason=outcome.reason,
        sha256=outcome.sha256,
        pcm_sha256=outcome.pcm_sha256,
        duplicate_of="",
        group="",
        sample_rate=recording.source_sample_rate if recording else 0,
        channels=recording.source_channels if recording else 0,
        seconds=recording.seconds if recording else 0.0,
        frames_in_shard=len(recording.pcm) if recording else 0,
        shard=place[0],
        offset=place[1],
        label=file.label,
        identity=file.identity if outcome.is_certain else "",
        first_frame=first_frame,
        frames=frames,
    )
